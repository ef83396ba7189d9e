"""``benchmark streams``: are actions found in a running stream, with their boundaries, in time, and nothing else?"""

from __future__ import annotations

import json as json_module
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engine.cli import UsageError
from engine.cli.live import find_checkpoint
from engine.cli.machine import machine, versions
from engine.paths import DEFAULT_CHECKPOINT, PROJECT

if TYPE_CHECKING:
    import numpy as np

    from engine.data.store import SequenceStore
    from engine.streams.event_metrics import EventReport, Outcome

# Actions of Kinder-Gator that no class of UTD-MHAD names; its throws, swipes, waves, runs and letters in the air are
# left out, because a word of UTD-MHAD would be right for them or nearly so.
KINDER_GATOR_UNKNOWN = (
    "bow", "do two jumping jacks", "fly like a bird", "fly like an airplane", "jump", "jump as high as you can",
    "kick a ball", "kick a ball with the other leg", "lift your leg to one side", "lift your leg to the other side",
    "point at the camera", "put your hands on your hips and lean to the side", "put your hands on your hips and twist",
    "raise your arm to one side", "raise your hand", "signal someone to come here", "signal someone to stop", "swim",
    "touch your toes", "make the letter A", "make the letter M", "make the letter Y",
)  # fmt: skip


def streams(
    checkpoint: Path = DEFAULT_CHECKPOINT,
    dataset: str | None = None,
    split: str | None = None,
    part: Literal["test", "train"] = "test",
    minutes: float = 20.0,
    idle: tuple[float, float] = (2.0, 5.0),
    unknown: str | None = None,
    unknown_share: float = 0.3,
    seed: int = 0,
    name: str = "streams",
    out: Path | None = None,
) -> int:
    """Measure how well actions are found in long streams made of a set's sequences; writes streams.md and .json.

    Every person performs the own sequences of the split's part one after the other, rests and fidgets in between, and
    the live path watches.

    Args:
        checkpoint: Checkpoint folder, or the name of a shipped or trained one.
        dataset: Prepared set to perform; default the checkpoint's own. Its classes must bear the encoder's names.
        split: Split of the set; default the checkpoint's own.
        part: Sequences to perform. What was trained on says little of how good the encoder is; it serves to set values.
        minutes: Length of all streams together (at most: nothing is performed twice).
        idle: Seconds between two actions, least and most.
        unknown: Set whose actions are mixed in as what the encoder can't know: another (kinder_gator has a list), or
            a merged one that marks them.
        unknown_share: Share of them among all actions.
        seed: Another seed is another order.
        name: Name of the files.
        out: Folder for the results; default benchmarks/ of the project.
    """
    if minutes <= 0 or not 0 <= idle[0] <= idle[1] or not 0 <= unknown_share <= 1:
        raise UsageError("--minutes must be positive, --idle two growing times, --unknown-share in 0..1")
    import numpy as np

    from engine.data.sets import split_indices
    from engine.data.store import SequenceStore
    from engine.live.recogniser import Recogniser
    from engine.models.card import read_card
    from engine.paths import stores
    from engine.streams.chained import StreamSettings, make_streams
    from engine.streams.event_metrics import judge
    from engine.streams.watching import run_stream

    folder = find_checkpoint(checkpoint)
    card = read_card(folder)
    store = SequenceStore(stores() / (dataset or card.dataset))
    if lacking := sorted(set(store.classes) - set(card.classes)):
        raise UsageError(f"{card.name} has no class {', '.join(lacking[:4])}: --dataset must be a set with its classes")
    indices = split_indices(store, split or card.split)[part == "test"]
    people = len(np.unique(store.column("subject")[indices]))
    settings = StreamSettings(minutes * 60 / people, idle, unknown_share, seed)
    strangers = None if unknown is None else _strangers(unknown, store, card.classes)
    recogniser = Recogniser(folder)
    outcomes: list[Outcome] = []
    try:
        for stream in make_streams(store, indices, settings, strangers):
            print(f"{stream.name}: {len(stream.truth)} actions", file=sys.stderr, flush=True)
            outcomes.append(run_stream(recogniser, stream))
    finally:
        recogniser.close()
    report = judge(outcomes)
    setting = {
        "checkpoint": card.name, "runtime": recogniser.runtime, "dataset": store.name, "split": split or card.split,
        "part": part, "idle_s": list(idle), "unknown": unknown, "seed": seed, "people": people,
        "minutes": round(sum(outcome.seconds for outcome in outcomes) / 60, 2), "decision": card.decision.model_dump(),
    }  # fmt: skip
    target = out or PROJECT / "benchmarks"
    target.mkdir(parents=True, exist_ok=True)
    lines = report_lines(report, setting)
    (target / f"{name}.md").write_text("\n".join(lines) + "\n", "utf-8")
    content = {"date": str(date.today()), "machine": machine(), "versions": versions(), **setting, **report.as_dict()}
    content["f1_per_stream"] = [judge([outcome]).rates[report.at].f1 for outcome in outcomes]
    (target / f"{name}.json").write_text(json_module.dumps(content, indent=1) + "\n", "utf-8")
    print("\n".join(lines[4:]))
    return 0


def _strangers(name: str, performed: SequenceStore, known: list[str]) -> tuple[SequenceStore, np.ndarray]:
    """The set of that name and the positions of its actions that no class of the encoder names."""
    import numpy as np

    from engine.data.merge import TESTED_AS_UNKNOWN
    from engine.data.store import SequenceStore
    from engine.paths import stores

    if name in performed.header["about"].get("merged", {}):
        # Its classes bear other names there, so names don't tell which are known.
        raise UsageError(f"--unknown {name}: {performed.name} was merged from it; take --unknown {performed.name}")
    other = SequenceStore(stores() / name)
    if "unknown" in other.meta_keys:
        chosen = np.flatnonzero((other.column("unknown") == TESTED_AS_UNKNOWN) & (other.label < 0))
    else:
        names = KINDER_GATOR_UNKNOWN if name == "kinder_gator" else set(other.classes) - set(known)
        chosen = np.flatnonzero(np.isin(other.label, [other.classes.index(one) for one in names]))
    if not len(chosen):
        raise UsageError(f"--unknown {name}: the encoder knows all of its actions")
    return other, chosen


def report_lines(report: EventReport, setting: dict[str, Any]) -> list[str]:
    """The page about one benchmark."""
    found: dict[str, Any] = report.as_dict()

    def seconds(key: str) -> str:
        return "-" if found[key] is None else f"{found[key]:+.2f} s"

    lines = [
        "# Actions in a running stream",
        "",
        "Made by `python main.py benchmark streams`. Persons do one recorded action after the other, rest and fidget "
        "in between; their poses go through window, recogniser and decision as a camera's do.",
        "",
        f"{setting['checkpoint']} ({setting['runtime']}) on the {setting['part']} part of {setting['dataset']} "
        f"{setting['split']}: {setting['people']} persons, {setting['minutes']} minutes, {report.idle_s / 60:.1f} "
        f"idle ({setting['idle_s'][0]:g} to {setting['idle_s'][1]:g} s between actions); seed {setting['seed']}.",
        "",
        "| overlap | precision | recall | F1 | right / found / true |",
        "|---|---|---|---|---|",
    ]
    for at, rates in report.rates.items():
        lines.append(
            f"| {at:g} | {rates.precision:.3f} | {rates.recall:.3f} | {rates.f1:.3f} | "
            f"{rates.right} / {rates.found} / {rates.true} |"
        )
    lines += [
        "",
        f"- False alarms: {report.false_alarms} in {report.idle_s / 60:.1f} minutes of idle, "
        f"{report.false_alarms_per_minute:.2f} a minute.",
        f"- A word stands (median) {seconds('delay_from_start_s')} from an action's start and "
        f"{seconds('delay_from_end_s')} from its end; start and end are final {seconds('closing_from_end_s')} from its "
        "end.",
        f"- Boundaries (median of found less true, and of its size): start {seconds('start_error_s')}, "
        f"{seconds('start_error_abs_s')}; end {seconds('end_error_s')}, {seconds('end_error_abs_s')}.",
        f"- {report.confused} found actions lie in one of another class, or cover too little of their own.",
    ]
    if report.unknown:
        lines.append(
            f"- Unknown actions (of {setting['unknown']}): {report.accepted} of {report.unknown} got a word "
            f"({report.accepted / report.unknown:.0%})."
        )
    lines += ["", f"| class (overlap {report.at:g}) | precision | recall | right / found / true |", "|---|---|---|---|"]
    for label, rates in report.per_class.items():
        lines.append(
            f"| {label} | {rates.precision:.2f} | {rates.recall:.2f} | {rates.right} / {rates.found} / {rates.true} |"
        )
    return lines

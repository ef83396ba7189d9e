"""Measures ten classes taught to an everyday encoder that was trained without them.

    python main.py train everyday_ctrgcn --leave_out "[...]" --run RUN
    python benchmarks/teach_everyday.py RUN [--seeds 10]

Takes are drawn from people who trained, as Kinect saw them; tested are the sequences of the test people, those of the
taught classes and those of the known ones, against all classes together. Writes ``teach_everyday.md`` and ``.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time as clock
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from teach import WINDOWS, percent, scored, summary

from engine.cli.live import find_checkpoint
from engine.cli.machine import machine
from engine.data.sets import split_indices
from engine.data.store import SequenceStore
from engine.live.recogniser import Recogniser
from engine.paths import stores
from engine.teach.features import encode, windows_of
from engine.teach.head import train_head
from engine.teach.known import classifier_rows, measure
from engine.teach.learn import Examples, fit
from engine.teach.recording import cut, trim

HERE = Path(__file__).resolve().parent
COUNTS = (1, 3, 5)
# Sequences of a class from which takes are drawn; more would only cost time.
POOL = 40


def encoded(recogniser: Recogniser, store: SequenceStore, positions: np.ndarray, count: int, trimmed: bool):
    """Features ``(N, W, D)`` and logits of the middle windows ``(N, K)``; takes are trimmed as the program does."""
    spec, features, logits = recogniser.own_card.preprocessing, [], []
    for i in positions:
        sequence = store.sequence(int(i))
        sequence = cut(sequence, *trim(sequence)) if trimmed else sequence
        said = encode(recogniser, windows_of(sequence, spec, count))
        features.append(said.features)
        logits.append(said.logits[0])
    return np.stack(features), np.stack(logits)


def run(folder: Path, dataset: str, split: str, seeds: int) -> dict:
    recogniser = Recogniser(folder, "onnx")
    card, store = recogniser.own_card, SequenceStore(stores() / dataset)
    new = [name for name in store.classes if name not in card.classes]
    if not new:
        raise SystemExit(f"error: {card.name} knows all classes of {dataset}; train it with --leave_out")
    train, test = split_indices(store, split)
    label, rng = store.label, np.random.default_rng(0)
    numbers = np.array([card.classes.index(name) if name in card.classes else -1 for name in store.classes])
    known_train = train[numbers[label[train]] >= 0]
    known = measure(recogniser, [(store.without_classes(new), known_train)])
    pools = {name: rng.permutation(train[label[train] == store.classes.index(name)])[:POOL] for name in new}
    begin = clock.process_time()
    taught = {name: encoded(recogniser, store, pool, WINDOWS, trimmed=True)[0] for name, pool in pools.items()}
    take_ms = 1e3 * (clock.process_time() - begin) / sum(map(len, pools.values()))
    old_test = test[numbers[label[test]] >= 0]
    old_truth = numbers[label[old_test]]
    old_features, old_logits = encoded(recogniser, store, old_test, 1, trimmed=False)
    new_test = test[numbers[label[test]] < 0]
    new_truth = np.array([len(card.classes) + new.index(store.classes[k]) for k in label[new_test]])
    new_features, new_logits = encoded(recogniser, store, new_test, 1, trimmed=True)
    before = float((old_logits.argmax(1) == old_truth).mean())
    rows = []
    for count in COUNTS:
        found: dict[str, list[dict[str, float]]] = {"closed form": [], "fine-tuned head": []}
        per_class = {name: [] for name in new}
        for seed in range(seeds):
            drawn = np.random.default_rng([seed, count])
            takes = {name: drawn.permutation(len(pools[name]))[:count] for name in new}
            examples = [Examples(name, tuple(taught[name][k] for k in takes[name])) for name in new]
            closed = fit(card, examples, folder, known)
            head = train_head(known, classifier_rows(folder), examples)
            for how, say in (
                ("closed form", closed.extend),
                ("fine-tuned head", lambda logits, features, head=head: head(features)),
            ):
                said = say(new_logits, new_features[:, 0])
                row = scored(said, new_truth, card, "new")
                row |= scored(say(old_logits, old_features[:, 0]), old_truth, card, "known")
                row["lost"] = before - row["known"]
                found[how].append(row)
                if how == "closed form":
                    for n, name in enumerate(new):
                        mine = new_truth == len(card.classes) + n
                        per_class[name].append(float((said[mine].argmax(1) == new_truth[mine]).mean()))
        rows.append({
            "takes": count, "how": {how: summary(each) for how, each in found.items()},
            "per_class": {name: round(float(np.mean(values)), 4) for name, values in per_class.items()},
        })  # fmt: skip
    own = same_person(recogniser, store, new_test, new, known, folder, seeds)
    recogniser.close()
    return {
        "machine": machine(), "checkpoint": card.name, "epochs": card.training.get("epochs"), "left_out": new,
        "known": len(card.classes), "known_test": len(old_test), "known_top1": round(before, 4),
        "new_test": len(new_test), "seeds": seeds, "take_ms": round(take_ms, 1), "rows": rows,
        "same_person": own,
    }  # fmt: skip


def same_person(
    recogniser: Recogniser, store: SequenceStore, test: np.ndarray, new: list[str], known, folder: Path, seeds: int
) -> dict:
    """What a test person taught, recognised when that person does it again: all takes of a class but one teach it.

    At most five teach. Without NW-UCLA, whose three cameras saw the same performance.
    """
    card = recogniser.own_card
    test = test[store.column("set")[test] != "nw_ucla"]
    features, logits = encoded(recogniser, store, test, WINDOWS, trimmed=True)
    people, labels = store.column("subject")[test], store.label[test]
    right, takes = [], []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 99])
        for person in np.unique(people):
            examples, asked = [], []
            for n, name in enumerate(new):
                mine = rng.permutation(np.flatnonzero((people == person) & (labels == store.classes.index(name))))
                if len(mine) > 1:
                    examples.append(Examples(name, tuple(features[i] for i in mine[1:6])))
                    asked.append((mine[0], n))
                    takes.append(len(mine[1:6]))
            if not examples:
                continue
            taught = fit(card, examples, folder, known)
            for i, n in asked:
                said = int(taught.extend(logits[i][None], features[i][:1]).argmax())
                order = [*card.classes, *(example.name for example in examples)]
                right.append(order[said] == new[n])
    return {
        "top1": round(float(np.mean(right)), 4),
        "asked": len(right) // seeds,
        "takes": round(float(np.mean(takes)), 2),
    }


MADE = """
Made by `benchmarks/teach_everyday.py` on {processor}. The encoder `{checkpoint}` ({epochs} epochs) was trained without
{left_out} (drawn by chance). They are taught by a few takes of training people; tested are {new_test} sequences of them
and {known_test} of the {kept} known classes by other people, Kinect joints, one window, against all classes together;
mean ± deviation over {seeds} draws of takes. Before teaching {known_top1:.1%} of the known ones were right. A take
costs {take_ms:.0f} ms of processor time.
"""


def report(result: dict) -> str:
    names = {"processor": result["machine"]["processor"], "kept": result["known"] - 1}
    about = result | names | {"left_out": ", ".join(result["left_out"])}
    lines = [
        "# Ten everyday actions, taught",
        "",
        " ".join(MADE.format(**about).split()),
        "",
        "| takes | how | new: top-1 | shown and right | shown and wrong | known: points lost |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        for how, it in row["how"].items():
            shown = (percent(it[f"new, shown and {what}"]) for what in ("right", "wrong"))
            lines.append(
                f"| {row['takes']} | {how} | {percent(it['new'])} | {' | '.join(shown)} | {percent(it['lost'])} |"
            )
    own, last = result["same_person"], result["rows"][-1]
    lines += [
        "",
        f"The same person again ({own['asked']} times a person and an action, all takes but one teach, "
        f"{own['takes']:.1f} on average, NW-UCLA left out): {own['top1']:.1%}, in closed form.",
    ]
    lines += ["", f"| class ({last['takes']} takes, closed form) | top-1 |", "|---|---|"]
    lines += [f"| {name} | {value:.0%} |" for name, value in sorted(last["per_class"].items(), key=lambda i: -i[1])]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--dataset", default="everyday")
    parser.add_argument("--split", default="xsub")
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    result = run(find_checkpoint(options.checkpoint), options.dataset, options.split, options.seeds)
    (HERE / "teach_everyday.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    (HERE / "teach_everyday.md").write_text(report(result), "utf-8")
    print(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

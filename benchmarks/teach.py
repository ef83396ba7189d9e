"""Measures how well taught actions are recognised, and what they cost the known ones: forms by takes by persons.

    python benchmarks/teach.py [--cache FOLDER] [--seeds 5]

Needs the prepared stores utd_mhad, kinder_gator, msr_action3d and nw_ucla. The shipped encoder knows 27 actions of
UTD-MHAD and "idle"; it has never seen a sequence of the other three sets. From each, actions that are not among its
own are taught with a few takes and looked for in other takes, against all classes: the known 28 and all taught ones.
The known classes' own test part (subjects the encoder was not trained on) is looked through with the same taught
actions. Writes ``teach.md`` and ``teach.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time as clock
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.cli.machine import machine
from engine.data.preprocess import preprocess
from engine.data.sets import split_indices
from engine.data.store import SequenceStore
from engine.live.recogniser import Recogniser
from engine.models.card import CheckpointCard
from engine.paths import TRAINED_MODELS, stores
from engine.teach.features import WINDOWS as PROGRAM_WINDOWS
from engine.teach.features import encode, windows_of
from engine.teach.head import train_head
from engine.teach.known import KnownFeatures, classifier_rows, load_known, measure, save_known
from engine.teach.learn import Examples, Settings, fit
from engine.teach.recording import cut, trim

# Actions of each set that are none of the encoder's own. Those that differ only in side, force or speed stand together:
# the first of them is taught, the others are left out.
NEW: dict[str, tuple[tuple[str, ...], ...]] = {
    "kinder_gator": (
        ("bend your knee while raising your leg", "bend your other knee while raising your leg"),
        ("bow",), ("climb and imaginary ladder",), ("do two jumping jacks",),
        ("draw the letter A", "draw the letter C", "draw the letter K", "draw the letter M", "draw a square"),
        ("fly like a bird", "fly like an airplane"), ("jump", "jump as high as you can"),
        ("kick a ball", "kick a ball as far as you can", "kick a ball with the other leg"),
        ("lift your leg to one side", "lift your leg to the other side"),
        ("make the letter A",), ("make the letter C",), ("make the letter K",), ("make the letter M",),
        ("make the letter P",), ("make the letter T",), ("make the letter X",), ("make the letter Y",),
        ("point at the camera",), ("put your hands on your hips and twist",),
        ("put your hands on your hips and lean to the side", "put your hands on your hips and lean to the other side"),
        ("raise your arm to one side", "raise your arm to the other side"),
        ("raise your hand", "raise your other hand"),
        ("signal someone to come here",), ("signal someone to stop",), ("swim",), ("touch your toes",),
    ),
    "msr_action3d": (
        ("hammer",), ("horizontal arm wave",), ("two hand wave",), ("side boxing",), ("bend",), ("forward kick",),
        ("side kick",), ("golf swing",), ("draw tick",), ("forward punch",),
    ),
    "nw_ucla": (
        ("pick up with one hand", "pick up with two hands"), ("drop trash",), ("donning",), ("doffing",), ("carry",),
    ),
}  # fmt: skip
# It has seen none of the sets above.
ENCODER = TRAINED_MODELS / "utd_mhad_ctrgcn_joint_idle"
TAUGHT = 10
# Windows of a take that teaches; what is only tested is seen through one window, its middle.
WINDOWS = 6
# Sequences of these subjects teach, those of all others are tested. Kinder-Gator: four adults, four children; NW-UCLA
# is seen by its first camera only.
TEACHERS = {"kinder_gator": 8, "msr_action3d": 6, "nw_ucla": 4}


@dataclass(frozen=True)
class Set:
    """Features of one set's new actions.

    ``first`` float32 ``(N, D)`` and ``logits`` ``(N, K)`` of the middle windows; ``windows`` float32 ``(N, W, D)``,
    NaN for sequences that don't teach.
    """

    name: str
    classes: list[str]
    label: np.ndarray
    subject: np.ndarray
    teaches: np.ndarray
    windows: np.ndarray
    logits: np.ndarray
    position: np.ndarray  # in the store

    @property
    def first(self) -> np.ndarray:
        return self.windows[:, 0]


def teachers(store: SequenceStore) -> list[int]:
    """Subjects that teach: of Kinder-Gator as many adults as children."""
    subject, count = store.column("subject"), TEACHERS[store.name]
    if "adult" not in store.meta_keys:
        return np.unique(subject)[:count].tolist()
    adult = store.column("adult")
    halves = [np.unique(subject[adult == value])[: count // 2].tolist() for value in np.unique(adult)]
    return [each for half in halves for each in half]


def read_set(recogniser: Recogniser, name: str, cache: Path, times: list[float]) -> Set:
    """Features of a set's new actions, one of every group of alike ones; computed once, then read from the cache."""
    path = cache / f"{name}.npz"
    store = SequenceStore(stores() / name)
    wanted = {group[0] for group in NEW[name]}
    keep = np.array([store.classes[k] in wanted for k in store.label])
    if "view" in store.meta_keys:
        keep &= store.column("view") == 1
    chosen, subject = np.flatnonzero(keep), store.column("subject")
    teaches = np.isin(subject[chosen], teachers(store))
    if not path.is_file():
        spec = recogniser.own_card.preprocessing
        windows = np.full((len(chosen), WINDOWS, recogniser.own_card.feature_dim), np.nan, np.float32)
        logits = np.zeros((len(chosen), len(recogniser.own_card.classes)), np.float32)
        for n, i in enumerate(chosen):
            begin = clock.perf_counter()
            sequence = store.sequence(int(i))
            count = WINDOWS if teaches[n] else 1
            said = encode(recogniser, windows_of(cut(sequence, *trim(sequence)), spec, count))
            windows[n, :count], logits[n] = said.features, said.logits[0]
            if teaches[n]:
                times.append((clock.perf_counter() - begin) * 1e3)
        np.savez(path, windows=windows, logits=logits)
    with np.load(path) as kept:
        return Set(
            name, store.classes, store.label[chosen], subject[chosen], teaches, kept["windows"], kept["logits"], chosen
        )


def read_known(recogniser: Recogniser, cache: Path) -> tuple[KnownFeatures, np.ndarray, np.ndarray, np.ndarray]:
    """Statistics of the training part, and features, logits and labels of the test part."""
    store = SequenceStore(stores() / "utd_mhad")
    train, test = split_indices(store, "xsub")
    path = cache / "utd_mhad.npz"
    if not path.is_file():
        spec = recogniser.own_card.preprocessing
        said = [encode(recogniser, windows_of(store.sequence(int(i)), spec, 1)) for i in test]
        save_known(measure(recogniser, [(store, train)]), cache)
        np.savez(
            path, features=np.concatenate([p.features for p in said]), logits=np.concatenate([p.logits for p in said])
        )
    known = load_known(cache, recogniser.own_card)
    assert known is not None
    with np.load(path) as kept:
        return known, kept["features"], kept["logits"], store.label[test]


def read_spread(recogniser: Recogniser, data: Set, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Logits ``(N, 3, K)`` and features ``(N, 3, D)`` of three windows spread over every take that does not teach."""
    path, spec, card = cache / f"{data.name}_spread.npz", recogniser.own_card.preprocessing, recogniser.own_card
    if not path.is_file():
        store = SequenceStore(stores() / data.name)
        logits = np.full((len(data.label), 3, len(card.classes)), np.nan, np.float32)
        features = np.full((len(data.label), 3, card.feature_dim), np.nan, np.float32)
        for n in np.flatnonzero(~data.teaches):
            sequence = store.sequence(int(data.position[n]))
            start, end = trim(sequence)
            whole = cut(sequence, start, end)
            free = max(0.0, whole.duration - spec.window_s)
            ends = whole.times[0] + min(whole.duration, spec.window_s) + free * np.array([0.25, 0.5, 0.75])
            said = encode(recogniser, np.stack([preprocess(whole, spec, float(e)) for e in ends]))
            logits[n], features[n] = said.logits, said.features
        np.savez(path, logits=logits, features=features)
    with np.load(path) as kept:
        return kept["logits"], kept["features"]


@dataclass(frozen=True)
class Trial:
    """Takes of some actions, and what is tested with them: positions in the set."""

    classes: list[int]
    takes: dict[int, list[int]]
    tested: dict[str, np.ndarray]  # "same person", "other persons"


def trials(data: Set, count: int, seeds: int) -> list[Trial]:
    """Draws of actions, and of ``count`` takes of each: of one person where the set has several of a person."""
    several = np.unique(data.subject * 1000 + data.label, return_counts=True)[1].max() > 1
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, count])
        classes = rng.permutation(np.unique(data.label))[:TAUGHT].tolist()
        others = np.flatnonzero(~data.teaches & np.isin(data.label, classes))
        if several:
            teacher = int(rng.choice(np.unique(data.subject[data.teaches])))
            hers = {k: rng.permutation(np.flatnonzero((data.subject == teacher) & (data.label == k))) for k in classes}
            # One take at least must remain to be tested.
            classes = [k for k in classes if len(hers[k]) > count]
            takes = {k: hers[k][:count].tolist() for k in classes}
            rest = np.concatenate([hers[k][count:] for k in classes]) if classes else np.zeros(0, int)
            others = others[np.isin(data.label[others], classes)]
            tested = {"same person": rest, "other persons": others}
        else:
            subjects = np.unique(data.subject[data.teaches])
            takes = {}
            for k in classes:
                there = [s for s in subjects if ((data.subject == s) & (data.label == k)).any()]
                chosen = rng.permutation(there)[:count]
                takes[k] = [int(np.flatnonzero((data.subject == s) & (data.label == k))[0]) for s in chosen]
            tested = {"other persons": others}
        if len(classes) >= 3:
            found.append(Trial(classes, takes, tested))
    return found


@dataclass(frozen=True)
class Leads:
    """How far the best taught class is ahead of the best known one, and whether that would be right."""

    lead: np.ndarray
    right: np.ndarray


def leads(data: Set, trial: Trial, card: CheckpointCard, known, test, settings: Settings) -> dict[str, Leads]:
    """Of tested takes (right: it is the right taught class) and of the known test part (right: the classifier is)."""
    examples = [Examples(f"taught {k}", tuple(data.windows[i] for i in trial.takes[k])) for k in trial.classes]
    taught = fit(card, examples, ENCODER, known, Settings(settings.method, 1.0, 0.0, settings.shrink))
    old = len(card.classes)
    found = {}
    for name, positions in trial.tested.items():
        said = taught.extend(data.logits[positions], data.first[positions])
        best = said[:, old:].argmax(1)
        right = np.array(trial.classes)[best] == data.label[positions]
        found[name] = Leads(said[:, old:].max(1) - said[:, :old].max(1), right)
    features, logits, label = test
    said = taught.extend(logits, features)
    found["known"] = Leads(said[:, old:].max(1) - said[:, :old].max(1), logits.argmax(1) == label)
    return found


def rates(found: dict[str, Leads], threshold: float) -> dict[str, float]:
    """Top-1 of the tested takes, and points lost on the known test part, where a lead above the threshold wins."""
    out = {name: float((f.right & (f.lead > threshold)).mean()) for name, f in found.items() if name != "known"}
    known = found["known"]
    out["lost"] = float((known.right & (known.lead > threshold)).mean())
    return out


# What is compared: form and part of the covariance made round (strength of the ridge).
FORMS = (
    Settings("imprint"), Settings("cosine"), Settings("nearest"),
    *(Settings(method, shrink=shrink) for method in ("whitened", "lda") for shrink in (0.05, 0.3, 0.7)),
    *(Settings("ridge", shrink=shrink) for shrink in (0.02, 0.1, 0.5)),
)  # fmt: skip
ALLOWED_LOSS = 0.015
COUNTS = (1, 2, 3, 5)


def compare_forms(data: Set, count: int, seeds: int, card: CheckpointCard, known: KnownFeatures, test) -> list[dict]:
    """Every form with the threshold that costs the known test part at most 1.5 points on average over the draws."""
    drawn = trials(data, count, seeds)
    rows = []
    for form in FORMS if drawn else ():
        found = [leads(data, trial, card, known, test, form) for trial in drawn]
        thresholds = np.quantile(np.concatenate([f["known"].lead for f in found]), np.linspace(0.8, 1.0, 81))
        for threshold in thresholds:
            each = [rates(f, float(threshold)) for f in found]
            if np.mean([rate["lost"] for rate in each]) <= ALLOWED_LOSS:
                break
        rows.append({"form": form.method, "shrink": form.shrink, "draws": len(drawn), **summary(each)})
    return rows


def summary(each: list[dict[str, float]]) -> dict[str, list[float]]:
    """Mean and standard deviation over the draws."""
    return {k: [round(float(f([e[k] for e in each])), 4) for f in (np.mean, np.std)] for k in each[0]}


def as_used(
    data: Set, count: int, seeds: int, card: CheckpointCard, known: KnownFeatures, test, classifier, spread=None
) -> dict[str, dict]:
    """The program's default, and a head trained on the same features: shares right, shown and right, shown and wrong.

    Shown is what the card's threshold would begin to show of a single window.
    """
    features, logits, label = test
    old = len(card.classes)
    found: dict[str, list[dict[str, float]]] = {"default": [], "head": []}
    for trial in trials(data, count, seeds):
        examples = [Examples(f"taught {k}", tuple(data.windows[i] for i in trial.takes[k])) for k in trial.classes]
        taught = fit(card, examples, ENCODER, known)
        head = train_head(known, classifier, examples)
        sayers = {"default": taught.extend, "head": lambda logits, features, head=head: head(features)}
        for name, say in sayers.items():
            row = {}
            for where, positions in trial.tested.items():
                said = say(data.logits[positions], data.first[positions])
                truth = old + np.array([trial.classes.index(k) for k in data.label[positions]])
                row |= scored(said, truth, card, where)
                if spread is not None and where == "other persons":
                    three = [say(spread[0][positions, w], spread[1][positions, w]) for w in range(3)]
                    row |= scored(
                        np.log(np.mean([np.exp(log_softmax(each, card)) for each in three], 0))
                        * card.decision.temperature,
                        truth,
                        card,
                        "three windows",
                    )
            row |= scored(say(logits, features), label, card, "known")
            row["lost"] = float((logits.argmax(1) == label).mean()) - row["known"]
            found[name].append(row)
    return {name: summary(rows) for name, rows in found.items() if rows}


def log_softmax(logits: np.ndarray, card: CheckpointCard) -> np.ndarray:
    scaled = logits / card.decision.temperature
    scaled = scaled - scaled.max(1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(1, keepdims=True))


def scored(logits: np.ndarray, truth: np.ndarray, card: CheckpointCard, name: str) -> dict[str, float]:
    scores = np.exp(log_softmax(logits, card))
    right, shown = scores.argmax(1) == truth, scores.max(1) >= card.decision.enter
    return {
        name: float(right.mean()), f"{name}, shown and right": float((right & shown).mean()),
        f"{name}, shown and wrong": float((~right & shown).mean()),
    }  # fmt: skip


def measure_all(cache: Path, seeds: int) -> dict:
    recogniser = Recogniser(ENCODER, "onnx")
    times: list[float] = []
    known, *test = read_known(recogniser, cache)
    card, classifier = recogniser.own_card, classifier_rows(ENCODER)
    result: dict = {
        "machine": machine(), "checkpoint": card.name, "seeds": seeds, "windows_per_take": WINDOWS,
        "known_top1": round(float((test[1].argmax(1) == test[2]).mean()), 4), "known_count": len(test[2]), "sets": {},
    }  # fmt: skip
    for name in NEW:
        data = read_set(recogniser, name, cache, times)
        # Kinder-Gator's takes are longer than the window.
        spread = read_spread(recogniser, data, cache) if name == "kinder_gator" else None
        rows = []
        for count in COUNTS:
            forms = compare_forms(data, count, seeds, card, known, test)
            if forms:
                rows.append(
                    {
                        "takes": count,
                        "forms": forms,
                        **as_used(data, count, seeds, card, known, test, classifier, spread),
                    }
                )
        actions = len(np.unique(data.label))
        about = {"actions": actions, "sequences": len(data.label), "teachers": TEACHERS[name]}
        result["sets"][name] = about | {"rows": rows}
    begin = clock.perf_counter()
    examples = [
        Examples(f"new {k}", tuple(data.windows[np.flatnonzero(data.label == k)[:5]])) for k in np.unique(data.label)
    ]
    fit(card, [Examples(e.name, tuple(np.nan_to_num(t) for t in e.takes)) for e in examples], ENCODER, known)
    result["fit_ms"] = round((clock.perf_counter() - begin) * 1e3, 1)
    sequence = SequenceStore(stores() / "kinder_gator").sequence(0)
    for _ in range(5):
        begin = clock.process_time()
        encode(recogniser, windows_of(cut(sequence, *trim(sequence)), card.preprocessing, PROGRAM_WINDOWS))
        times.append((clock.process_time() - begin) * 1e3)
    result["take_ms"] = round(float(np.median(times[-5:])), 1)
    recogniser.close()
    return result


def percent(value: list[float]) -> str:
    return f"{100 * value[0]:.1f} ± {100 * value[1]:.1f}"


def report(result: dict) -> str:
    before = f"{100 * result['known_top1']:.1f} %"
    lines = [
        "# Taught actions, measured", "",
        f"Made by `benchmarks/teach.py` on {result['machine']['processor']}; encoder `{result['checkpoint']}`, which "
        "knows 27 actions of UTD-MHAD and idle and has seen no sequence of the sets below. Top-1 in percent of one "
        "window (the middle of the trimmed take) against all known classes and all taught ones, mean ± deviation over "
        f"up to {result['seeds']} draws of actions, persons and takes. *Shown*: the card's threshold is reached by "
        "that window alone (other persons). *Lost*: points of top-1 lost on the known classes' test part "
        f"({result['known_count']} sequences of persons the encoder was not trained on, {before} before).", "",
        "Kinder-Gator has one take of an action per person (adults and children), so its takes come from as many "
        "persons, and ten of its actions are drawn at a time; of the other sets all takes of a draw are one person's. "
        "NW-UCLA: first camera only, everyday movements of the whole body, none of which is like what the encoder "
        "learned. *3 windows*: scores of three windows spread over the take are averaged, as the live decision "
        "does over time.", "",
    ]  # fmt: skip
    for name, part in result["sets"].items():
        lines += [f"## {name}: {part['actions']} new actions, {part['sequences']} sequences", ""]
        heads = (
            "takes",
            "how",
            "same person",
            "other persons",
            "others, 3 windows",
            "shown and right",
            "shown and wrong",
            "lost",
        )
        lines += ["As the program does it:", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for row in part["rows"]:
            for how in ("default", "head"):
                if how in row:
                    it, same = row[how], "same person"
                    where = "other persons"
                    lines.append(
                        f"| {row['takes']} | {'closed form' if how == 'default' else 'fine-tuned head'} "
                        f"| {percent(it[same]) if same in it else '-'} | {percent(it[where])} "
                        f"| {percent(it['three windows']) if 'three windows' in it else '-'} "
                        f"| {percent(it[f'{where}, shown and right'])} | {percent(it[f'{where}, shown and wrong'])} "
                        f"| {percent(it['lost'])} |"
                    )
        lines += ["", "Closed forms compared, each with the threshold that costs at most 1.5 points of the known:", ""]
        counts = [row["takes"] for row in part["rows"]]
        lines += [
            "| form | shrink |" + "".join(f" {c} takes: same | others |" for c in counts),
            "|---|---|" + "---|---|" * len(counts),
        ]
        for n, form in enumerate(FORMS):
            cells = ""
            for row in part["rows"]:
                it = row["forms"][n]
                same = f"{100 * it['same person'][0]:.1f}" if "same person" in it else "-"
                cells += f" {same} | {100 * it['other persons'][0]:.1f} |"
            lines.append(
                f"| {form.method} | {form.shrink if form.method in ('whitened', 'lda', 'ridge') else '-'} |{cells}"
            )
        lines.append("")
    lines += [
        "## Time", "",
        f"A take: {result['take_ms']:.0f} ms of one core's time for its {PROGRAM_WINDOWS} windows, made and encoded "
        "(once per take, then kept). Learning all actions from kept features: "
        f"{result['fit_ms']:.0f} ms.", "",
        "The compared forms' thresholds are chosen on the draws they are reported on; the program's own default has "
        "one scale and one margin for everything. Kinect joints throughout: nothing here went through MediaPipe.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("teach_cache"), help="folder for features")
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    result = measure_all(options.cache, options.seeds)
    here = Path(__file__).with_suffix("")
    here.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    here.with_suffix(".md").write_text(report(result), "utf-8")
    print(report(result))


if __name__ == "__main__":
    main()

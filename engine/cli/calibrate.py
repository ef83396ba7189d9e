"""``calibrate``: how sure the live decision is, fitted on windows, on long streams, or taken over from a twin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import tyro

from engine.cli import UsageError
from engine.cli.live import find_checkpoint


def calibrate(
    checkpoint: tyro.conf.Positional[Path],
    dataset: str | None = None,
    subjects: tuple[int, ...] = (),
    precision: float = 0.9,
) -> int:
    """Fit how sure the live decision is, on windows of sequences the encoder was not trained on; written into the card.

    Args:
        checkpoint: Checkpoint folder, or the name of a trained one.
        dataset: Store to take windows from; default the filmed set of the checkpoint's dataset.
        subjects: Only these test subjects, so that others remain to check on; default all.
        precision: Share of shown words that should be right.
    """
    import numpy as np

    from engine.data.sets import split_indices
    from engine.data.store import SequenceStore
    from engine.models.card import require_classifier, write_card
    from engine.models.checkpoint import load_encoder
    from engine.paths import stores
    from engine.training.calibrate import calibrate as fit

    folder = find_checkpoint(checkpoint)
    encoder, card = load_encoder(folder)
    require_classifier(card, folder)
    origin = SequenceStore(stores() / card.dataset)
    store = SequenceStore(stores() / (dataset or f"{card.dataset}_mediapipe"))
    _, test = split_indices(origin, card.split)
    if subjects:
        test = test[np.isin(origin.column("subject")[test], subjects)]
    indices = store.indices_of([origin.names[int(i)] for i in test])
    found = fit(encoder, store, indices, card.preprocessing, precision)
    decision = card.decision.model_copy(
        update={"temperature": found.temperature, "enter": found.enter, "leave": found.leave}
    )
    about = {"store": store.name, "subjects": list(subjects) or "all test subjects", "windows": found.windows}
    training = card.training | {"decision_calibrated_on": about}
    write_card(card.model_copy(update={"decision": decision, "training": training}), folder)
    print(f"{found.windows} windows of {len(indices)} sequences of {store.name}")
    before, after = found.error_before, found.error_after
    print(f"temperature {found.temperature}; expected calibration error {before:.3f} -> {after:.3f}")
    print(f"a word from {found.enter} on, until {found.leave}:")
    print(f"  {found.shown:.0%} of the windows get one, {found.precision:.0%} of those are right")
    return 0


def streams(
    checkpoint: tyro.conf.Positional[Path],
    dataset: str | None = None,
    split: str | None = None,
    part: Literal["train", "test"] = "train",
    subjects: tuple[int, ...] = (),
    minutes: float = 10.0,
    keep: float = 0.98,
    seed: int = 1,
) -> int:
    """Fit when a word begins and how sure an action must have been, on long streams with idle in between.

    People who trained the encoder make it look surer than it is, and people it is tested on must not choose its values.
    So train a twin without some of the training people, fit on those, and take the values over: "calibrate copy".

    Args:
        checkpoint: Checkpoint folder, or the name of a trained one.
        dataset: Prepared set to perform; default the checkpoint's own.
        split: Split of the set; default the checkpoint's own.
        part: Whose sequences: train, or test for a twin whose test people are not those of the final test.
        subjects: Only these people of the part; default all.
        minutes: Length of all streams together.
        keep: Share of the right actions that must be kept.
        seed: Another seed is another order.
    """
    if minutes <= 0 or not 0 <= keep <= 1:
        raise UsageError("--minutes must be positive, --keep in 0..1")
    import numpy as np

    from engine.data.sets import split_indices
    from engine.data.store import SequenceStore
    from engine.live.recogniser import Recogniser
    from engine.models.card import read_card, require_classifier, write_card
    from engine.paths import stores
    from engine.streams.calibration import fit_on_streams
    from engine.streams.chained import StreamSettings, make_streams
    from engine.streams.watching import watch

    folder = find_checkpoint(checkpoint)
    card = read_card(folder)
    require_classifier(card, folder)
    store = SequenceStore(stores() / (dataset or card.dataset))
    indices = split_indices(store, split or card.split)[part == "test"]
    subject = store.column("subject")[indices]
    if subjects:
        indices, subject = indices[np.isin(subject, subjects)], subject[np.isin(subject, subjects)]
    if not len(indices):
        raise UsageError(f"--subjects: none of them is in the {part} part of this split")
    recogniser = Recogniser(folder)
    seen = []
    try:
        settings = StreamSettings(minutes * 60 / len(np.unique(subject)), seed=seed)
        for stream in make_streams(store, indices, settings):
            print(f"{stream.name}: {len(stream.truth)} actions", file=sys.stderr, flush=True)
            seen.append((stream, watch(recogniser, stream.sequence)))
        found = fit_on_streams(recogniser, seen, keep)
    finally:
        recogniser.close()
    about = {
        "store": store.name,
        "part": part,
        "subjects": sorted({int(s) for s in subject}),
        "minutes": minutes,
        "seed": seed,
    }
    training = card.training | {"decision_fitted_on_streams": about}
    write_card(card.model_copy(update={"decision": found.decision, "training": training}), folder)
    for name, report in (("before", found.before), ("after", found.after)):
        rates = report.rates[report.at]
        print(
            f"{name}: F1 {rates.f1:.3f} at overlap {report.at:g} (precision {rates.precision:.3f}, recall "
            f"{rates.recall:.3f}), {report.false_alarms_per_minute:.2f} false alarms a minute of idle"
        )
    decision = found.decision
    print(
        f"a word from {decision.enter} on, until {decision.leave}; taken back under a mean of {decision.min_score} or "
        f"if it stood for less than {decision.min_shown_s} s"
    )
    return 0


def copy(twin: tyro.conf.Positional[Path], checkpoint: tyro.conf.Positional[Path]) -> int:
    """Take the values of the live decision over from a twin that was calibrated on people it had not seen.

    Args:
        twin: Checkpoint of the same recipe, trained without some of the people and calibrated on those.
        checkpoint: Checkpoint folder, or the name of a trained one, that gets the values.
    """
    from engine.models.card import read_card, require_classifier, write_card

    folders = find_checkpoint(twin), find_checkpoint(checkpoint)
    source, target = (read_card(folder) for folder in folders)
    for card, folder in zip((source, target), folders, strict=True):
        require_classifier(card, folder)
    alike = ("backbone", "backbone_args", "classes", "preprocessing")
    if differing := [field for field in alike if getattr(source, field) != getattr(target, field)]:
        raise UsageError(f"{source.name} is no twin of {target.name}: another {', '.join(differing)}")
    fitted = {key: value for key, value in source.training.items() if key.startswith("decision_")}
    if not fitted:
        raise UsageError(f"{source.name} was not calibrated; main.py calibrate {twin} first")
    about = {key: value | {"twin": source.recipe_hash, "twin_split": source.split} for key, value in fitted.items()}
    changes = {"decision": source.decision, "training": target.training | about}
    write_card(target.model_copy(update=changes), folders[1])
    print(f"{target.name}: {source.decision.model_dump_json()}")
    return 0

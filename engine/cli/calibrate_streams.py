"""``calibrate streams``: fit the values of the live decision on long streams with idle in between."""

from __future__ import annotations

import sys
from pathlib import Path

import tyro

from engine.cli import UsageError
from engine.cli.live import find_checkpoint


def streams(
    checkpoint: tyro.conf.Positional[Path],
    dataset: str | None = None,
    split: str | None = None,
    subjects: tuple[int, ...] = (),
    minutes: float = 10.0,
    keep: float = 0.98,
    seed: int = 1,
) -> int:
    """Fit when a word begins and how sure an action must have been, on streams of training subjects; into the card.

    Test subjects are never used. Best are subjects that trained nothing: leave some out of a training and name them.

    Args:
        checkpoint: Checkpoint folder, or the name of a trained one.
        dataset: Prepared set to perform; default the checkpoint's own.
        split: Split of the set; default the checkpoint's own.
        subjects: Only these training subjects; default all.
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
    train, _ = split_indices(store, split or card.split)
    subject = store.column("subject")[train]
    if subjects:
        train, subject = train[np.isin(subject, subjects)], subject[np.isin(subject, subjects)]
    if not len(train):
        raise UsageError("--subjects: none of them is a training subject of this split")
    recogniser = Recogniser(folder)
    seen = []
    try:
        settings = StreamSettings(minutes * 60 / len(np.unique(subject)), seed=seed)
        for stream in make_streams(store, train, settings):
            print(f"{stream.name}: {len(stream.truth)} actions", file=sys.stderr, flush=True)
            seen.append((stream, watch(recogniser, stream.sequence)))
        found = fit_on_streams(recogniser, seen, keep)
    finally:
        recogniser.close()
    about = {"store": store.name, "subjects": sorted({int(s) for s in subject}), "minutes": minutes, "seed": seed}
    training = card.training | {"decision_fitted_on_streams": about}
    write_card(card.model_copy(update={"decision": found.decision, "training": training}), folder)
    for name, report in (("before", found.before), ("after", found.after)):
        rates = report.rates[report.at]
        print(
            f"{name}: F1 {rates.f1:.3f} at overlap {report.at:g} (precision {rates.precision:.3f}, recall "
            f"{rates.recall:.3f}), {report.false_alarms_per_minute:.2f} false alarms a minute of idle"
        )
    decision = found.decision
    print(f"a word from {decision.enter} on, until {decision.leave}; taken back under a mean of {decision.min_score}")
    return 0

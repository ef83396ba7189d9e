"""From a pack and an encoder to taught actions, in closed form: nothing is trained, so it takes milliseconds.

How the forms compare is measured in benchmarks/teach.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from engine.live.recogniser import Recogniser
from engine.live.taught import FeatureSpace, TaughtActions, TaughtError, Veto, unit
from engine.models.card import WEIGHTS_FILE, CheckpointCard
from engine.teach.features import pack_features
from engine.teach.known import KnownFeatures, classifier_rows, load_known
from engine.teach.pack import ClassPack, find_pack

Method = Literal["cosine", "nearest", "whitened", "lda", "ridge", "imprint"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True)
class Settings:
    """How taught actions are recognised.

    Parameters
    ----------
    method : str
        cosine: the direction nearest to a class's mean; nearest: nearest to any take; whitened: cosine after the known
        classes' spread is made round; lda: class means under one shared covariance; ridge: regression of the class on
        the features; imprint: the mean take as a further row of the classifier (needs no statistics).
    scale : float
        Logits per unit of score difference between a taught class and the best known one.
    margin : float
        Logits a taught class must be better by; below zero it is preferred to a known one that scores a little better.
    shrink : float
        Part of the covariance that is made round (whitened, lda); strength of the ridge as a part of the mean variance.
    """

    method: Method = "ridge"
    scale: float = 10.0
    margin: float = -1.5
    shrink: float = 0.1


DEFAULT = Settings()
# Where nothing but the classifier is known of the known classes: its rows are no class means, so the bar is high.
WITHOUT_STATISTICS = Settings("imprint", 10.0, 5.5)


@dataclass(frozen=True, eq=False)
class Examples:
    """Features of one action: of every take ``(W, D)``, and of what it is not (corrections).

    ``logits`` ``(W, K)`` of every take: what the encoder's own classifier says to them; only the check needs them.
    """

    name: str
    takes: tuple[np.ndarray, ...]
    against: tuple[np.ndarray, ...] = ()
    logits: tuple[np.ndarray, ...] = ()


def learn(
    pack: ClassPack,
    recogniser: Recogniser,
    settings: Settings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TaughtActions:
    """Taught actions of a pack for an encoder; the features of takes it has not seen yet are computed.

    Actions without a take are left out. ``recogniser`` is only asked for features; hand the result to
    ``Recogniser.use_taught``, ``LiveChain.use_taught`` or ``LivePipeline.use_taught``.

    Raises
    ------
    TaughtError
        Nothing to learn from, or too little is known about the encoder's own classes.
    """
    examples = pack_examples(pack, recogniser, progress)
    return fit(recogniser.own_card, examples, recogniser.checkpoint, settings=settings)


def learn_packs(
    packs: Sequence[str | Path],
    recogniser: Recogniser,
    say: Callable[[str], None] = lambda text: None,
    settings: Settings | None = None,
) -> TaughtActions:
    """Taught actions of several packs, by name or folder; takes of an action that stands in two of them are joined.

    What could not be read of a pack is told with ``say``; the rest is used.
    """
    joined: dict[str, Examples] = {}
    for name in packs:
        pack = ClassPack.open(find_pack(name))
        for problem in pack.problems:
            say(f"left out: {problem}")
        for new in pack_examples(pack, recogniser):
            old = joined.get(new.name, Examples(new.name, ()))
            joined[new.name] = Examples(
                new.name, old.takes + new.takes, old.against + new.against, old.logits + new.logits
            )
    return fit(recogniser.own_card, list(joined.values()), recogniser.checkpoint, settings=settings)


def pack_examples(
    pack: ClassPack, recogniser: Recogniser, progress: Callable[[int, int], None] | None = None
) -> list[Examples]:
    """Features of a pack's actions, those with at least one take or counter-example."""
    said = pack_features(pack, recogniser, progress=progress)
    found = []
    for action in pack.actions:
        for_ = [said[take.path] for take in pack.takes(action)]
        against = tuple(said[take.path].features for take in pack.takes(action, -1))
        if for_ or against:
            features, logits = tuple(p.features for p in for_), tuple(p.logits for p in for_)
            found.append(Examples(action, features, against, logits))
    return found


def fit(
    card: CheckpointCard,
    examples: Sequence[Examples],
    checkpoint: Path | None = None,
    known: KnownFeatures | None = None,
    settings: Settings | None = None,
) -> TaughtActions:
    """Taught actions from features.

    Parameters
    ----------
    card : CheckpointCard
        The encoder's own.
    checkpoint : Path, optional
        Its folder, for statistics of the known classes or its classifier where ``known`` is not given.

    Raises
    ------
    TaughtError
        No examples, or nothing is known about the encoder's classes.
    """
    settings = settings or DEFAULT
    if not any(e.takes or e.against for e in examples):
        raise TaughtError("there is no take to learn from; record one first")
    if known is None and checkpoint is not None:
        known = load_known(checkpoint, card)
    rows = classifier_rows(checkpoint) if checkpoint is not None else None
    if known is None or settings.method == "imprint":
        if rows is None:
            raise TaughtError(
                f"{card.name} tells nothing about its own classes; measure them first: "
                f"main.py teach known {checkpoint or card.name}"
            )
        settings = settings if settings.method == "imprint" else WITHOUT_STATISTICS
    names = tuple(card.classes)
    new = tuple(e.name for e in examples if e.takes and e.name not in names)
    order = (*names, *new)
    told = [e for e in examples if e.takes]
    space, reference, reference_bias, made = _score(settings, known, rows, told)
    return TaughtActions(
        checkpoint=card.name,
        weights=card.sha256.get(WEIGHTS_FILE, ""),
        known=names,
        classes=new,
        space=space,
        reference=reference.astype(np.float32),
        reference_bias=reference_bias.astype(np.float32),
        rows=np.concatenate([r for r, _ in made] or [reference[:0]]).astype(np.float32),
        bias=np.concatenate([b for _, b in made] or [reference_bias[:0]]).astype(np.float32),
        owner=np.concatenate(
            [np.full(len(b), order.index(e.name)) for e, (_, b) in zip(told, made, strict=True)]
            or [np.zeros(0, np.int64)]
        ).astype(np.int64),
        scale=settings.scale,
        margin=settings.margin,
        vetoes=_vetoes(space, order, examples, known),
        idle=names.index(card.decision.idle_class) if card.decision.idle_class is not None else None,
    )


Scored = tuple[FeatureSpace, np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]


def _score(
    settings: Settings,
    known: KnownFeatures | None,
    classifier: tuple[np.ndarray, np.ndarray] | None,
    told: Sequence[Examples],
) -> Scored:
    """Space, reference rows and their bias, and rows with bias for every taught action."""
    if known is None or settings.method == "imprint":
        assert classifier is not None
        space = FeatureSpace(np.zeros(classifier[0].shape[1], np.float32))
        means = [_mean_direction(space, e.takes) for e in told]
        return space, unit(classifier[0]), np.zeros(len(classifier[0])), [(m, np.zeros(1)) for m in means]
    seen = known.means[known.counts > 0]
    centre = seen.mean(0).astype(np.float32)
    if settings.method == "ridge":
        return _ridge(settings, known, centre, told)
    projection = None
    if settings.method in ("whitened", "lda"):
        projection = _whitening(known.covariance, settings.shrink)
    space = FeatureSpace(centre, projection, unit=settings.method != "lda")
    if settings.method == "nearest":
        reference = space(known.examples)
        made = [(np.concatenate([_mean_direction(space, (take,)) for take in e.takes])) for e in told]
        return space, reference, np.zeros(len(reference)), [(rows, np.zeros(len(rows))) for rows in made]
    reference = space(seen)
    if settings.method == "lda":
        means = [space(_mean(e.takes)[None]) for e in told]
        return space, reference, _half_square(reference), [(m, _half_square(m)) for m in means]
    means = [_mean_direction(space, e.takes) for e in told]
    return space, reference, np.zeros(len(reference)), [(m, np.zeros(1)) for m in means]


def _mean(takes: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of the takes' means ``(D,)``: a take counts once, however many windows it has."""
    return np.asarray(np.mean([take.mean(0) for take in takes], axis=0), np.float32)


def _mean_direction(space: FeatureSpace, takes: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of the directions of all windows, ``(1, E)`` of length 1."""
    return unit(np.mean([space(take).mean(0) for take in takes], axis=0)[None])


def _half_square(rows: np.ndarray) -> np.ndarray:
    return np.asarray(-0.5 * (rows**2).sum(1))


def _whitening(covariance: np.ndarray, shrink: float) -> np.ndarray:
    """Symmetric inverse root of the covariance, drawn towards a round one of the same size."""
    size = float(np.trace(covariance)) / len(covariance)
    values, vectors = np.linalg.eigh(covariance.astype(np.float64))
    values = (1 - shrink) * np.maximum(values, 0) + shrink * max(size, 1e-12)
    return np.asarray((vectors / np.sqrt(values)) @ vectors.T, np.float32)


def _ridge(settings: Settings, known: KnownFeatures, centre: np.ndarray, told: Sequence[Examples]) -> Scored:
    """Regression of the class (1 of K + n) on features of length 1; every class weighs the same."""
    space = FeatureSpace(centre)
    seen = np.unique(known.labels)
    blocks = [space(known.examples[known.labels == k]) for k in seen]
    blocks += [np.concatenate([space(take) for take in e.takes]) for e in told]
    x = np.concatenate([np.concatenate([block, np.ones((len(block), 1))], 1) for block in blocks]).astype(np.float64)
    y = np.repeat(np.eye(len(blocks)), [len(block) for block in blocks], axis=0)
    weight = np.repeat([1 / len(block) for block in blocks], [len(block) for block in blocks])[:, None]
    gram = x.T @ (x * weight)
    strength = settings.shrink * np.trace(gram[:-1, :-1]) / (len(gram) - 1)
    penalty = np.full(len(gram), strength)
    penalty[-1] = 1e-6  # the constant is free
    solved = np.linalg.solve(gram + np.diag(penalty), x.T @ (y * weight)).T
    rows, bias, old = solved[:, :-1], solved[:, -1], len(seen)
    return space, rows[:old], bias[:old], [(rows[i : i + 1], bias[i : i + 1]) for i in range(old, len(blocks))]


def _vetoes(
    space: FeatureSpace, order: Sequence[str], examples: Sequence[Examples], known: KnownFeatures | None
) -> tuple[Veto, ...]:
    """What corrections forbid; a name that is no class any more forbids nothing."""

    def directions(features: Sequence[np.ndarray]) -> np.ndarray:
        looks = space(np.concatenate(features))
        return looks if space.unit else unit(looks)

    found = []
    for example in examples:
        if not example.against or example.name not in order:
            continue
        owner = order.index(example.name)
        against = directions(example.against)
        for_ = [directions(example.takes)] if example.takes else []
        if known is not None and owner < len(known.classes) and (known.labels == owner).any():
            for_.append(directions([known.examples[known.labels == owner]]))
        found.append(Veto(owner, against, np.concatenate(for_) if for_ else against[:0]))
    return tuple(found)

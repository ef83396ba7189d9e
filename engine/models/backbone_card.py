"""What a backbone is, beside its code: the paper, the licence of what is here, its input and its published size.

Not a checkpoint's ``card.json`` (:mod:`engine.models.card`), which says what one trained encoder is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

WRITTEN_FROM_EQUATIONS = "Apache-2.0, written from the paper's equations and figures; none of the authors' code."
FOUR_STREAMS = ("joint", "bone", "joint_motion", "bone_motion")


@dataclass(frozen=True)
class BackboneCard:
    """Facts about one backbone.

    Parameters
    ----------
    title, paper, year
        Name in the literature, full reference, year of publication.
    input : str
        Clip shape the paper trains on and what its axes are.
    streams : tuple of str
        Streams the paper trains, each an encoder of its own.
    parameters : int
        Size of the encoder built by ``build_encoder(name, **setting)`` with the setting below; the tests hold it.
    setting : dict
        ``num_classes``, ``layout`` and ``persons`` of that size.
    gmac : float or None
        Multiply-adds of one clip in billions at the paper's input, convolutions and matrix products only.
    licence, notes : str
        Licence of this implementation; what a user should know before choosing it.
    """

    title: str
    paper: str
    year: int
    input: str
    streams: tuple[str, ...]
    parameters: int
    setting: dict[str, Any]
    gmac: float | None = None
    licence: str = WRITTEN_FROM_EQUATIONS
    notes: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

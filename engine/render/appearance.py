"""What a rendered person wears and looks like: colours and proportions, fixed or drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

Colour = tuple[float, float, float]

_SKINS: tuple[Colour, ...] = (
    (0.96, 0.80, 0.69), (0.91, 0.72, 0.58), (0.82, 0.61, 0.46),
    (0.70, 0.49, 0.35), (0.52, 0.35, 0.25), (0.38, 0.25, 0.18),
)  # fmt: skip
_HAIR: tuple[Colour, ...] = (
    (0.09, 0.07, 0.06),
    (0.23, 0.15, 0.09),
    (0.42, 0.27, 0.14),
    (0.66, 0.50, 0.28),
    (0.5, 0.5, 0.5),
)


@dataclass(frozen=True)
class Appearance:
    """Looks of one person; colours are sRGB in 0..1.

    Parameters
    ----------
    skin, hair, shirt, trousers, shoes, lips : tuple of float
        Colours.
    girth : float
        Thickness of trunk and limbs relative to an average adult, about 0.85 to 1.25.
    head : float
        Size of the head relative to the body, about 0.9 to 1.1.
    long_sleeves, long_trousers, long_hair : bool
        Cut of the clothes and of the hair.
    """

    skin: Colour = (0.91, 0.72, 0.58)
    hair: Colour = (0.23, 0.15, 0.09)
    shirt: Colour = (0.20, 0.42, 0.70)
    trousers: Colour = (0.22, 0.24, 0.30)
    shoes: Colour = (0.16, 0.14, 0.14)
    lips: Colour = (0.74, 0.38, 0.36)
    girth: float = 1.0
    head: float = 1.0
    long_sleeves: bool = False
    long_trousers: bool = True
    long_hair: bool = False

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple) and (len(value) != 3 or not all(0.0 <= c <= 1.0 for c in value)):
                raise ValueError(f"colour {item.name} must be three numbers in 0..1, got {value}")
        if not (0.5 <= self.girth <= 2.0 and 0.5 <= self.head <= 2.0):
            raise ValueError(f"girth and head must lie in 0.5..2, got {self.girth} and {self.head}")

    @classmethod
    def random(cls, seed: int | np.random.Generator) -> Appearance:
        """Draw a plausible appearance; the same seed gives the same person."""
        rng = np.random.default_rng(seed)

        def cloth(low: float, high: float) -> Colour:
            # A grey of random brightness pushed some way towards a random hue: most clothes are not saturated.
            grey = rng.uniform(low, high)
            tint = rng.uniform(-1, 1, 3) * rng.uniform(0.05, 0.3)
            r, g, b = np.clip(grey + tint, 0.04, 0.96).tolist()
            return (r, g, b)

        skin = np.array(_SKINS[rng.integers(len(_SKINS))]) * rng.uniform(0.94, 1.04)
        lips = skin * np.array([0.86, 0.58, 0.60])
        return cls(
            skin=_clip(skin),
            hair=_HAIR[rng.integers(len(_HAIR))],
            shirt=cloth(0.15, 0.9),
            trousers=cloth(0.1, 0.6),
            shoes=cloth(0.05, 0.9),
            lips=_clip(lips),
            girth=float(rng.uniform(0.88, 1.2)),
            head=float(rng.uniform(0.95, 1.06)),
            long_sleeves=bool(rng.random() < 0.45),
            long_trousers=bool(rng.random() < 0.8),
            long_hair=bool(rng.random() < 0.35),
        )


def _clip(colour: np.ndarray) -> Colour:
    r, g, b = np.clip(colour, 0.0, 1.0).tolist()
    return (r, g, b)


APPEARANCES: dict[str, Appearance] = {
    "blue": Appearance(),
    "red": Appearance(
        skin=(0.96, 0.80, 0.69), hair=(0.42, 0.27, 0.14), shirt=(0.72, 0.24, 0.22), trousers=(0.30, 0.33, 0.42),
        shoes=(0.85, 0.85, 0.82), girth=0.93, long_hair=True,
    ),
    "green": Appearance(
        skin=(0.52, 0.35, 0.25), hair=(0.09, 0.07, 0.06), shirt=(0.30, 0.55, 0.36), trousers=(0.55, 0.50, 0.42),
        shoes=(0.25, 0.18, 0.14), lips=(0.42, 0.22, 0.20), girth=1.08, long_sleeves=True,
    ),
    "grey": Appearance(
        skin=(0.82, 0.61, 0.46), hair=(0.5, 0.5, 0.5), shirt=(0.78, 0.78, 0.76), trousers=(0.16, 0.18, 0.22),
        lips=(0.68, 0.38, 0.34), girth=1.15,
    ),
}  # fmt: skip

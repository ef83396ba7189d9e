"""What stands behind the rendered person: a room with floor and wall, or plain, graded and textured backdrops."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from engine.render.camera import Camera


@dataclass(frozen=True)
class Room:
    """A floor and a back wall.

    Parameters
    ----------
    floor : float
        Height of the floor in metres (y, Kinect camera axes; negative below the camera).
    wall : float
        Distance of the wall in metres (z).
    floor_colour, wall_colour : tuple of float
        sRGB in 0..1.
    """

    floor: float = -0.95
    wall: float = 5.0
    floor_colour: tuple[float, float, float] = (0.62, 0.54, 0.45)
    wall_colour: tuple[float, float, float] = (0.83, 0.85, 0.86)

    @classmethod
    def under(cls, joints: np.ndarray) -> Room:
        """Put the floor under the lowest joint of ``(..., 3)`` and the wall behind the farthest."""
        points = np.asarray(joints, np.float64).reshape(-1, 3)
        points = points[np.abs(points).sum(-1) > 0]
        if not len(points):
            return cls()
        # The one-in-a-hundred low joint stands for the feet: a single noisy joint must not sink the floor.
        lowest = float(np.percentile(points[:, 1], 1)) if len(points) > 200 else float(points[:, 1].min())
        return cls(floor=round(lowest - 0.05, 2), wall=round(max(float(points[:, 2].max()) + 1.6, 3.5), 1))


@lru_cache(maxsize=4)
def room_image(room: Room, camera: Camera) -> np.ndarray:
    """Picture of the empty room, uint8 ``(height, width, 3)``; read-only, since it is cached."""
    x, y = camera.ray_columns().astype(np.float32), camera.ray_rows().astype(np.float32)
    z = floor_depth(room, camera)[:, None]
    light = 1.06 - 0.10 * (x[None, :] ** 2 + (y[:, None] - 0.2) ** 2)
    wall = np.asarray(room.wall_colour, np.float32) * light[..., None]
    skirting = np.abs(room.floor + 0.05 - y[:, None] * room.wall) < 0.05
    wall = np.where(skirting[..., None], wall * 0.86, wall)
    # Boards running away from the camera give the floor a direction and a scale.
    with np.errstate(invalid="ignore"):
        board = np.floor(np.where(np.isfinite(z), x[None, :] * z, 0) / 0.18)
        shade = 1 + 0.05 * np.sin(board * 2.4) + 0.03 * np.sin(board * 5.1)
        haze = np.clip((z - 1.5) / 8, 0, 0.35)
    floor = np.asarray(room.floor_colour, np.float32) * shade[..., None]
    floor = floor * (1 - haze[..., None]) + 0.8 * haze[..., None]
    image = np.where((z < room.wall)[..., None], floor, wall)
    image = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    image.setflags(write=False)
    return image


def floor_depth(room: Room, camera: Camera) -> np.ndarray:
    """Depth at which every row's rays meet the floor, float32 ``(height,)``, infinite above the horizon."""
    y = camera.ray_rows()
    with np.errstate(divide="ignore"):
        z = room.floor / y
    return np.where(z > 0, z, np.inf).astype(np.float32)


def cast_shadow(image: np.ndarray, room: Room, camera: Camera, spots: np.ndarray) -> None:
    """Darken the floor of ``image`` (uint8, in place) under ``spots`` (K, 4): x, z, radius in metres, strength 0..1."""
    z = floor_depth(room, camera)
    reach = 2.2 * spots[:, 2]
    nearest, farthest = float((spots[:, 1] - reach).min()), float((spots[:, 1] + reach).max())
    rows = np.flatnonzero((z > max(nearest, 0.1)) & (z < min(farthest, room.wall)))
    if not len(rows):
        return
    v0, v1 = rows[0], rows[-1] + 1
    depth = z[v0:v1, None]
    near, far = float(depth.min()), float(depth.max())
    left, right = float((spots[:, 0] + reach).max()), float((spots[:, 0] - reach).min())
    u0 = int(np.clip(camera.cx - camera.focal * max(left / near, left / far), 0, camera.width))
    u1 = int(np.clip(camera.cx - camera.focal * min(right / near, right / far) + 1, 0, camera.width))
    x = camera.ray_columns().astype(np.float32)[None, u0:u1] * depth
    light = np.ones(x.shape, np.float32)
    for cx, cz, radius, strength in spots.tolist():
        light *= 1 - strength * np.exp(-((x - cx) ** 2 + (depth - cz) ** 2) / radius**2)
    image[v0:v1, u0:u1] = image[v0:v1, u0:u1] * light[..., None]


def random_backdrop(width: int, height: int, seed: int | np.random.Generator) -> np.ndarray:
    """Draw a plain, graded or blotchy backdrop, uint8 ``(height, width, 3)``; the same seed gives the same picture."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(3)
    base = rng.uniform(0.15, 0.9) + rng.uniform(-0.12, 0.12, 3)
    image: np.ndarray = np.broadcast_to(base, (height, width, 3)).astype(np.float32)
    if kind >= 1:
        angle = rng.uniform(0, 2 * np.pi)
        ramp = np.cos(angle) * np.linspace(-1, 1, width)[None, :] + np.sin(angle) * np.linspace(-1, 1, height)[:, None]
        image = image + rng.uniform(0.05, 0.2) * ramp[..., None] * (1 + rng.uniform(-0.3, 0.3, 3))
    if kind == 2:
        for _ in range(3):
            cells = int(rng.integers(3, 24))
            # Light and dark patches with a little colour, as of furniture and plaster out of focus.
            coarse = rng.normal(0, 1, (cells, cells, 1)) + 0.35 * rng.normal(0, 1, (cells, cells, 3))
            coarse *= rng.uniform(0.02, 0.07)
            image = image + _stretch(coarse, height, width)
    image = image + rng.normal(0, rng.uniform(0, 0.015), (height, width, 1))
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _stretch(small: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear enlargement of ``(n, n, 3)`` to ``(height, width, 3)``."""

    def weights(size: int, cells: int) -> np.ndarray:
        position = np.linspace(0, cells - 1, size)
        return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(cells)[None, :]))

    rows, columns = weights(height, len(small)), weights(width, len(small))
    return np.einsum("hi,ijc,wj->hwc", rows, small, columns, optimize=True)

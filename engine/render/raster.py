"""Ray casting of quadric surfaces (ellipsoids and elliptic cone frustums) into a depth and an index buffer.

Every surface is ``P'MP + 2b'P + c = 0``. A ray from the camera is ``P = t d`` with ``d = (x, y, 1)``, so that t is the
depth, the discriminant is a quadratic polynomial in the pixel coordinates, and the near root is ``c / (sqrt(disc) -
b'd)``. Only the bounding box of each surface is visited.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from engine.render.camera import Camera

_NEAR = 0.1  # metres; surfaces closer to the camera than this are not drawn


@dataclass
class Surfaces:
    """A list of surfaces under construction; every call appends one surface with a colour index."""

    centres: list[np.ndarray] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)
    radii: list[tuple[float, float, float]] = field(default_factory=list)
    ellipsoid_colours: list[int] = field(default_factory=list)
    starts: list[np.ndarray] = field(default_factory=list)
    ends: list[np.ndarray] = field(default_factory=list)
    sides: list[np.ndarray] = field(default_factory=list)
    cone_radii: list[tuple[float, float, float]] = field(default_factory=list)
    cone_colours: list[int] = field(default_factory=list)

    def ellipsoid(self, centre: np.ndarray, frame: np.ndarray, radii: tuple[float, float, float], colour: int) -> None:
        """Append an ellipsoid; the rows of ``frame`` (3, 3) are its axes, ``radii`` its half lengths in metres."""
        self.centres.append(centre)
        self.frames.append(frame)
        self.radii.append(radii)
        self.ellipsoid_colours.append(colour)

    def sphere(self, centre: np.ndarray, radius: float, colour: int) -> None:
        """Append a sphere."""
        self.ellipsoid(centre, _IDENTITY, (radius, radius, radius), colour)

    def cone(
        self, start: np.ndarray, end: np.ndarray, radii: tuple[float, float], colour: int,
        side: np.ndarray | None = None, flat: float = 1.0,
    ) -> None:  # fmt: skip
        """Append an open frustum from ``start`` to ``end``; across ``side`` it is only ``flat`` times as thick."""
        self.starts.append(start)
        self.ends.append(end)
        self.sides.append(_Z if side is None else side)
        self.cone_radii.append((radii[0], radii[1], flat))
        self.cone_colours.append(colour)


_IDENTITY = np.eye(3)
_Z = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Quadrics:
    """Surfaces as matrices: ``matrix`` (N, 3, 3), ``vector`` (N, 3), ``constant`` (N,), clipping plane and extent."""

    matrix: np.ndarray
    vector: np.ndarray
    constant: np.ndarray
    axis: np.ndarray  # (N, 3) unit axis of a cone; zero for an ellipsoid
    offset: np.ndarray  # (N,) axial coordinate of the cone's start
    length: np.ndarray  # (N,) length of the cone
    low: np.ndarray  # (N, 3) corner of the world box
    high: np.ndarray  # (N, 3)
    colour: np.ndarray  # (N,) int


def to_quadrics(parts: Surfaces) -> Quadrics:
    """Convert a list of surfaces to matrix form, ellipsoids first."""
    centre = np.array(parts.centres, np.float64).reshape(-1, 3)
    frame = np.array(parts.frames, np.float64).reshape(-1, 3, 3)
    radii = np.array(parts.radii, np.float64).reshape(-1, 3)
    scaled = frame / radii[..., None]
    m_e = np.matmul(scaled.transpose(0, 2, 1), scaled)
    mc = np.matmul(m_e, centre[..., None])[..., 0]
    reach = np.sqrt(((frame * radii[..., None]) ** 2).sum(1))

    a = np.array(parts.starts, np.float64).reshape(-1, 3)
    b = np.array(parts.ends, np.float64).reshape(-1, 3)
    side = np.array(parts.sides, np.float64).reshape(-1, 3)
    r0, r1, flat = np.array(parts.cone_radii, np.float64).reshape(-1, 3).T
    axis = b - a
    length = np.maximum(np.sqrt((axis**2).sum(-1)), 1e-4)
    w = axis / length[:, None]
    side = side - (side * w).sum(-1, keepdims=True) * w
    weak = (side**2).sum(-1) < 1e-8
    if weak.any():  # the hint runs along the axis: any perpendicular will do
        other = np.where(np.abs(w[:, :1]) < 0.8, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
        side = np.where(weak[:, None], np.cross(w, other), side)
    side = side / np.sqrt((side**2).sum(-1, keepdims=True))
    across = np.cross(w, side)
    k = (r1 - r0) / length

    def outer(v: np.ndarray) -> np.ndarray:
        return v[:, :, None] * v[:, None, :]

    m_c = outer(across) + outer(side) / (flat**2)[:, None, None] - outer(w) * (k**2)[:, None, None]
    ma = np.matmul(m_c, a[..., None])[..., 0]
    wa = (w * a).sum(-1)
    widest = np.maximum(r0, r1) * np.maximum(flat, 1.0)
    spread = widest[:, None] * np.sqrt(np.maximum(1 - w**2, 0.0))
    empty = len(centre)
    return Quadrics(
        matrix=np.concatenate([m_e, m_c]),
        vector=np.concatenate([-mc, -ma - (r0 * k)[:, None] * w]),
        constant=np.concatenate([(mc * centre).sum(-1) - 1, (ma * a).sum(-1) + 2 * r0 * k * wa - r0**2]),
        axis=np.concatenate([np.zeros((empty, 3)), w]),
        offset=np.concatenate([np.zeros(empty), wa]),
        length=np.concatenate([np.zeros(empty), length]),
        low=np.concatenate([centre - reach, np.minimum(a, b) - spread]),
        high=np.concatenate([centre + reach, np.maximum(a, b) + spread]),
        colour=np.array(parts.ellipsoid_colours + parts.cone_colours, np.intp),
    )


def _boxes(q: Quadrics, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Pixel boxes ``(N, 4)`` as u0, u1, v0, v1 (half open) and which surfaces are visible at all."""
    ahead = q.low[:, 2] > _NEAR
    near, far = np.where(ahead, q.low[:, 2], 1.0), np.where(ahead, q.high[:, 2], 1.0)
    edges = []
    for c, centre in ((0, camera.cx), (1, camera.cy)):
        low = np.minimum(q.low[:, c] / near, q.low[:, c] / far)
        high = np.maximum(q.high[:, c] / near, q.high[:, c] / far)
        size = camera.width if c == 0 else camera.height
        edges.append(np.clip(np.ceil(centre - camera.focal * high), 0, size))
        edges.append(np.clip(np.floor(centre - camera.focal * low) + 1, 0, size))
    box = np.stack(edges, -1).astype(int)
    return box, ahead & (q.constant > 0) & (box[:, 1] > box[:, 0]) & (box[:, 3] > box[:, 2])


def cast(q: Quadrics, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest surface behind every pixel.

    Returns
    -------
    depth : numpy.ndarray
        float32 ``(height, width)``, metres, infinite where there is nothing.
    index : numpy.ndarray
        int16 ``(height, width)``, the surface, -1 where there is nothing.
    """
    depth = np.full((camera.height, camera.width), np.inf, np.float32)
    index = np.full((camera.height, camera.width), -1, np.int16)
    box, visible = _boxes(q, camera)
    xs, ys = camera.ray_columns(), camera.ray_rows()
    # The polynomials are expanded around the middle of the box in double precision: around the picture's centre the
    # discriminant of a small far surface would drown in single precision.
    mid_u, mid_v = (box[:, 0] + box[:, 1]) // 2, (box[:, 2] + box[:, 3]) // 2
    x0 = (camera.cx - mid_u) / camera.focal
    y0 = (camera.cy - mid_v) / camera.focal
    d0 = np.stack([x0, y0, np.ones_like(x0)], -1)
    disc = q.vector[:, :, None] * q.vector[:, None, :] - q.constant[:, None, None] * q.matrix
    disc_d0 = np.matmul(disc, d0[..., None])[..., 0]
    disc_00 = (disc_d0 * d0).sum(-1)
    lin_0 = -(q.vector * d0).sum(-1)
    axis_0 = (q.axis * d0).sum(-1)
    # Scaling disc and linear part leaves the near root's depth alone; keep them near 1 for single precision.
    cast32 = [
        v.tolist()
        for v in (
            disc[:, 0, 0], disc[:, 1, 1], 2 * disc[:, 0, 1], 2 * disc_d0[:, 0], 2 * disc_d0[:, 1], disc_00,
            q.vector[:, 0], q.vector[:, 1], lin_0, q.constant, q.axis[:, 0], q.axis[:, 1], axis_0, q.offset, q.length,
            x0, y0,
        )
    ]  # fmt: skip
    rows = list(zip(*cast32, strict=True))
    boxes = box.tolist()
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for i in np.flatnonzero(visible).tolist():
            u0, u1, v0, v1 = boxes[i]
            (dxx, dyy, dxy, dx, dy, dc, bx, by, b0, c, wx, wy, w0, off, length, px, py) = rows[i]
            x = xs[u0:u1] - px
            y = ys[v0:v1] - py
            left = np.empty((v1 - v0, 3), np.float32)
            right = np.empty((3, u1 - u0), np.float32)
            left[:, 0] = 1
            left[:, 1] = y
            left[:, 2] = (dyy * y + dy) * y + dc
            right[0] = (dxx * x + dx) * x
            right[1] = dxy * x
            right[2] = 1
            t = left @ right
            np.sqrt(t, out=t)  # NaN where the ray misses: every comparison below is then false
            t += (-bx * x).astype(np.float32)
            t += (b0 - by * y).astype(np.float32)[:, None]
            np.divide(np.float32(c), t, out=t)
            seen = depth[v0:v1, u0:u1]
            mask = t < seen
            if length > 0:
                h = np.float32(wx) * x.astype(np.float32) + (w0 + wy * y).astype(np.float32)[:, None]
                h *= t
                mask &= h >= np.float32(off)
                mask &= h <= np.float32(off + length)
            np.copyto(seen, t, where=mask)
            np.copyto(index[v0:v1, u0:u1], np.int16(i), where=mask)
    return depth, index


def normals(q: Quadrics, points: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Outward unit normals ``(K, 3)`` float32 at ``points`` (K, 3) on the surfaces ``index`` (K,)."""
    matrix = q.matrix.astype(np.float32).reshape(-1, 9)
    scale = np.abs(matrix).max(-1, keepdims=True)
    table = np.concatenate([matrix / scale, q.vector / scale], -1).astype(np.float32)[index]
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    n = np.empty_like(points)
    for axis in range(3):
        row = 3 * axis
        n[:, axis] = table[:, row] * x + table[:, row + 1] * y + table[:, row + 2] * z + table[:, 9 + axis]
    n /= np.sqrt(np.einsum("ij,ij->i", n, n))[:, None] + 1e-12
    return n

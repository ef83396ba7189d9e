"""The rendered actor: a shaded figure that MediaPipe recognises as a person, driven by any skeleton recording.

It stands in for a camera where there is none: in the demo clip, in tests from pixels with known joints, and when
skeleton data sets are turned into what a pose estimator would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.render import body, raster, scene
from engine.render.appearance import Appearance
from engine.render.camera import Camera
from engine.render.scene import Room
from engine.skeleton.convert import convert_layout

_LIGHT = np.array([0.45, 0.62, -0.64], np.float32)  # from above the camera's left shoulder, towards the light
_LIGHT /= np.linalg.norm(_LIGHT)
_FLOOR_JOINTS = (0, 14, 15, 18, 19)


class Actor:
    """Draws one or several persons.

    Parameters
    ----------
    appearance : Appearance or sequence of Appearance
        Looks of the persons in order; the last one is used for any further person.
    supersample : int
        Rays per pixel along each side: 1 for speed, 2 for smooth edges.
    """

    def __init__(self, appearance: Appearance | Sequence[Appearance] | None = None, supersample: int = 1) -> None:
        if appearance is None:
            appearance = Appearance()
        looks = [appearance] if isinstance(appearance, Appearance) else list(appearance)
        if not looks or supersample not in (1, 2, 3, 4):
            raise ValueError("an actor needs at least one appearance and supersample 1, 2, 3 or 4")
        self.appearances: tuple[Appearance, ...] = tuple(looks)
        self.supersample = supersample

    def render(self, joints: np.ndarray, camera: Camera, background: np.ndarray | Room | None = None) -> np.ndarray:
        """Draw a picture.

        Parameters
        ----------
        joints : numpy.ndarray
            ``(25, 3)``, ``(M, 25, 3)`` NTU-25 or the same with 20 Kinect v1 joints; metres, Kinect camera axes. A
            person whose joints are all zero is not drawn.
        camera : Camera
            Where the picture is taken from.
        background : numpy.ndarray, Room or None
            uint8 ``(height, width, 3)``, or a room, or a default room whose floor lies under the lowest joint. Pass
            a room for the frames of a sequence, so that the floor stays where it is.

        Returns
        -------
        numpy.ndarray
            uint8 RGB ``(height, width, 3)``.

        Raises
        ------
        ValueError
            For joints of another shape or that are not finite, and for a background of another size.
        """
        persons = as_persons(joints)
        present = [i for i in range(len(persons)) if persons[i].any()]
        room = Room.under(persons) if background is None else background if isinstance(background, Room) else None
        fine = camera.scaled(self.supersample) if self.supersample > 1 else camera
        if room is not None:
            image = scene.room_image(room, fine).copy()
            if present:
                scene.cast_shadow(image, room, fine, _shadow_spots(persons[present], room))
        else:
            given = np.asarray(background)
            if given.shape != (camera.height, camera.width, 3):
                raise ValueError(f"the background is {given.shape}, the camera sees {(camera.height, camera.width, 3)}")
            if given.dtype != np.uint8:
                raise ValueError(f"the background must be uint8 in 0..255, it is {given.dtype}")
            image = given.copy()
            if self.supersample > 1:
                image = image.repeat(self.supersample, 0).repeat(self.supersample, 1)
        if present:
            self._draw(image, persons, present, fine)
        return _shrink(image, self.supersample) if self.supersample > 1 else image

    def silhouette(self, joints: np.ndarray, camera: Camera) -> np.ndarray:
        """Depth of the figure behind every pixel, float32 ``(height, width)`` in metres, infinite beside it."""
        persons = as_persons(joints)
        depth = np.full((camera.height, camera.width), np.inf, np.float32)
        for i, person in enumerate(persons):
            if person.any():
                quadrics = raster.to_quadrics(body.build(person, self._look(i)))
                np.minimum(depth, raster.cast(quadrics, camera)[0], out=depth)
        return depth

    def _look(self, person: int) -> Appearance:
        return self.appearances[min(person, len(self.appearances) - 1)]

    def _draw(self, image: np.ndarray, persons: np.ndarray, present: list[int], camera: Camera) -> None:
        nearest: np.ndarray | None = None
        for i in present:
            quadrics = raster.to_quadrics(body.build(persons[i], self._look(i)))
            depth, index = raster.cast(quadrics, camera)
            drawn = index >= 0
            if nearest is None:
                nearest = depth
            else:
                drawn &= depth < nearest
                np.minimum(nearest, depth, out=nearest)
            flat = np.flatnonzero(drawn)
            if not len(flat):
                continue
            which = index.reshape(-1)[flat]
            shade = _shade(quadrics, depth.reshape(-1)[flat], which, flat, camera)
            table = body.colours(self._look(i))[quadrics.colour] * 255
            image.reshape(-1, 3)[flat] = np.minimum(table[which] * shade + 0.5, 255)


def _shrink(image: np.ndarray, n: int) -> np.ndarray:
    """Average of every ``n`` x ``n`` block of an uint8 picture."""
    total = np.full((image.shape[0] // n, image.shape[1] // n, 3), n * n // 2, np.uint16)
    for i in range(n):
        for j in range(n):
            total += image[i::n, j::n]
    return (total // (n * n)).astype(np.uint8)


def _shade(q: raster.Quadrics, t: np.ndarray, which: np.ndarray, flat: np.ndarray, camera: Camera) -> np.ndarray:
    """Brightness ``(K, 3)``: warm key light, cool light from the sky, darker rims that part limbs from the trunk."""
    rows, columns = np.divmod(flat, camera.width)
    points = np.empty((len(flat), 3), np.float32)
    points[:, 0] = camera.ray_columns().astype(np.float32)[columns] * t
    points[:, 1] = camera.ray_rows().astype(np.float32)[rows] * t
    points[:, 2] = t
    n = raster.normals(q, points, which)
    _soften(n, points, q.colour[which] == body.SHIRT, rows, columns, camera)
    key = np.maximum(n @ _LIGHT, 0)
    facing = np.clip(-np.einsum("ij,ij->i", n, points) / np.sqrt(np.einsum("ij,ij->i", points, points)), 0, 1)
    sky = 0.42 + 0.13 * n[:, 1]
    rim = 0.62 + 0.38 * np.minimum(facing * 1.8, 1)
    key *= 0.62
    shade = np.empty((len(flat), 3), np.float32)
    shade[:, 0] = (sky + key * 1.03) * rim
    shade[:, 1] = (sky * 1.01 + key) * rim
    shade[:, 2] = (sky * 1.04 + key * 0.95) * rim
    return shade


def _soften(
    n: np.ndarray, points: np.ndarray, cloth: np.ndarray, rows: np.ndarray, columns: np.ndarray, camera: Camera
) -> None:
    """Average the normals (in place) over a few centimetres of the trunk's cloth: hides the seams of its surfaces."""
    chosen = np.flatnonzero(cloth)
    if len(chosen) < 50:
        return
    reach = max(1, round(0.03 * camera.focal / float(np.median(points[chosen, 2]))))
    v, u = rows[chosen], columns[chosen]
    v -= v.min() - 2 * reach
    u -= u.min() - 2 * reach
    grid = np.zeros((v.max() + 1 + 2 * reach, u.max() + 1 + 2 * reach, 4), np.float32)
    grid[v, u, :3] = n[chosen]
    grid[v, u, 3] = 1
    for _ in range(2):
        for axis in (0, 1):
            total = np.cumsum(grid, axis)
            low, high = (slice(None, -2 * reach), slice(2 * reach, None))
            if axis == 0:
                grid[reach:-reach] = total[high] - total[low]
            else:
                grid[:, reach:-reach] = total[:, high] - total[:, low]
    smooth = grid[v, u, :3]
    smooth /= np.sqrt(np.einsum("ij,ij->i", smooth, smooth))[:, None] + 1e-6
    n[chosen] = smooth


def as_persons(joints: np.ndarray) -> np.ndarray:
    """Bring joints to NTU-25 ``(M, 25, 3)`` float64; raises ``ValueError`` that says what is wrong."""
    array = np.asarray(joints, np.float64)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[1] not in (20, 25) or array.shape[2] != 3:
        raise ValueError(f"joints are {np.shape(joints)}; give (25, 3), (M, 25, 3), or 20 Kinect joints in that form")
    if not np.isfinite(array).all():
        raise ValueError("joints hold NaN or infinite values; fill the gaps, or set an absent person to zeros")
    return convert_layout(array, "kinect20", "ntu25") if array.shape[1] == 20 else array


def _shadow_spots(persons: np.ndarray, room: Room) -> np.ndarray:
    """Soft spots (x, z, radius, strength) on the floor: under the body, and under each foot that is near the floor."""
    spots = []
    for person in persons:
        s = body.body_scale(person)
        for joint in _FLOOR_JOINTS:
            x, y, z = person[joint]
            height = max(0.0, y - room.floor)
            if joint == 0:
                spots.append((x, z, 0.42 * s, 0.30))
            else:
                spots.append((x, z, (0.11 + 0.25 * height) * s, 0.42 * float(np.exp(-height / 0.18))))
    return np.array(spots)

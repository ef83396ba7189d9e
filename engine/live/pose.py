"""Pose estimation: one RGB picture in, up to two people's landmarks out, by MediaPipe's pose landmarker.

The landmarker's own two-person mode runs its detector on every frame while only one person is there (10 ms more) and
loses people who stand close. Here each person has a landmarker of their own that follows them; the second one looks
for a second person now and then, in the picture with the first person painted over.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from engine.live.errors import LiveError
from engine.live.persons import (
    MAX_COVERED,
    body_mask,
    covered,
    is_finite,
    is_plausible,
    same_person,
)
from engine.live.types import RawPose

MAX_POSES = 2
# Looking for a second person costs one detector run (about 11 ms) each time.
SEARCH_INTERVAL_S = 0.35
# A new person is believed after this many frames in a row; a ghost seldom survives them.
CONFIRM_FRAMES = 4
# A second person this near to the first for this many frames has become a copy of the first.
DUPLICATE_FRAMES = 3


class PoseModelError(LiveError):
    """The pose model can't be loaded; the message says what to do."""


class PoseEstimator:
    """Follows up to two people through the frames of one source. Not thread-safe: one thread calls it.

    Parameters
    ----------
    bundle : Path
        A ``.task`` bundle of MediaPipe's pose landmarker (see :func:`engine.live.bundle.pose_bundle`).
    num_poses : int
        1 or 2. With 2, one person costs hardly more than with 1; two people cost two landmark passes a frame.
    min_detection, min_presence, min_tracking : float
        MediaPipe's three confidence thresholds, 0..1.
    search_interval : float
        Seconds of source time between two looks for a second person.

    Raises
    ------
    PoseModelError
        When the bundle is missing, damaged or not a pose landmarker.
    """

    def __init__(
        self,
        bundle: Path,
        num_poses: int = MAX_POSES,
        min_detection: float = 0.5,
        min_presence: float = 0.5,
        min_tracking: float = 0.5,
        search_interval: float = SEARCH_INTERVAL_S,
    ) -> None:
        if num_poses not in (1, MAX_POSES):
            raise ValueError(f"num_poses is {num_poses}; 1 and {MAX_POSES} are possible")
        self._first: _Landmarker | None = None
        self._second: _Landmarker | None = None
        options = (Path(bundle), min_detection, min_presence, min_tracking)
        self._first = _Landmarker(*options)
        try:
            self._second = _Landmarker(*options) if num_poses == MAX_POSES else None
        except BaseException:
            self._first.close()
            raise
        self.num_poses = num_poses
        self.search_interval = search_interval
        self._searched = -np.inf
        self._seen = 0  # frames in a row the second landmarker had somebody of their own
        self._copies = 0

    def detect(self, image_rgb: np.ndarray, time_s: float) -> tuple[RawPose, ...]:
        """Find people in one frame.

        Parameters
        ----------
        image_rgb : numpy.ndarray
            uint8 ``(H, W, 3)`` RGB, not mirrored.
        time_s : float
            Seconds, normally increasing; a time that repeats or goes back is accepted.

        Returns
        -------
        tuple of RawPose
            None, one or two people, in no order that means anything across frames (tracking gives identities).
        """
        if self._first is None:
            raise PoseModelError("the pose estimator is closed; make a new one")
        if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8 or 0 in image_rgb.shape:
            raise ValueError(f"expected an RGB picture uint8 (H, W, 3), got {image_rgb.dtype} {image_rgb.shape}")
        image, time = np.ascontiguousarray(image_rgb), float(time_s)
        first = self._first.detect(image, time)
        if self._second is None:
            return () if first is None else (first,)
        size = (image.shape[1], image.shape[0])
        if self._seen:
            return self._follow_two(image, time, size, first)
        if first is not None:
            self._search(image, time, size, first)
        return () if first is None else (first,)

    def _search(self, image: np.ndarray, time: float, size: tuple[int, int], first: RawPose) -> None:
        """Every ``search_interval`` seconds look for a second person where the first one is not."""
        if abs(time - self._searched) < self.search_interval:
            return
        self._searched = time
        assert self._second is not None
        mask = body_mask(first, size)
        found = self._second.detect(_paint_over(image, mask), time)
        if found is None:
            return
        if _is_newcomer(found, first, mask, size):
            self._seen, self._copies = 1, 0
        else:
            self._second.forget(size, time)

    def _follow_two(
        self,
        image: np.ndarray,
        time: float,
        size: tuple[int, int],
        first: RawPose | None,
    ) -> tuple[RawPose, ...]:
        assert self._second is not None
        second = self._second.detect(image, time)
        if second is None:
            self._seen = 0
            return () if first is None else (first,)
        if first is None:
            # Whoever is left becomes the one that is always looked for.
            self._first, self._second = self._second, self._first
            self._seen = 0
            return (second,)
        if same_person(first, second, size):
            self._copies += 1
            if self._copies >= DUPLICATE_FRAMES or self._seen < CONFIRM_FRAMES:
                self._second.forget(size, time)
                self._seen, self._searched = 0, time
            return (first,)
        self._copies = 0
        if self._seen < CONFIRM_FRAMES:
            if not _is_newcomer(second, first, body_mask(first, size), size):
                self._second.forget(size, time)
                self._seen = 0
                return (first,)
            self._seen += 1
            if self._seen < CONFIRM_FRAMES:
                return (first,)
        return (first, second)

    def close(self) -> None:
        """Free the landmarkers; call it before the interpreter ends (MediaPipe complains otherwise)."""
        first, self._first = self._first, None
        second, self._second = self._second, None
        for landmarker in (first, second):
            if landmarker is not None:
                landmarker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Landmarker:
    """One MediaPipe landmarker in VIDEO mode for one person, with time stamps that always increase."""

    _first_person_seen = False

    def __init__(
        self,
        bundle: Path,
        min_detection: float,
        min_presence: float,
        min_tracking: float,
    ) -> None:
        if not bundle.is_file():
            raise PoseModelError(
                f"pose model not found: {bundle}. Build it with `python assets/build_pose_bundle.py` or choose another "
                "pose model in the settings."
            )
        with _quiet_stderr():
            # Before mediapipe, which imports cv2 too: cv2 then finds nothing left to set.
            from engine.live._cv2 import clean_qt_environment

            try:
                import mediapipe
                from mediapipe.tasks.python import BaseOptions, vision
            except ImportError as error:
                raise PoseModelError(
                    f"MediaPipe can't be imported ({error}); install it with `pip install mediapipe`"
                ) from error
            clean_qt_environment()
            self._mediapipe: Any = mediapipe
            options = vision.PoseLandmarkerOptions(
                base_options=BaseOptions(model_asset_path=str(bundle)),
                running_mode=vision.RunningMode.VIDEO,
                num_poses=1,
                min_pose_detection_confidence=min_detection,
                min_pose_presence_confidence=min_presence,
                min_tracking_confidence=min_tracking,
            )
            self._milliseconds = -1
            self._offset: int | None = None
            try:
                self._landmarker: Any = vision.PoseLandmarker.create_from_options(options)
                # The first call loads the networks; do it here, so that the first frame is as fast as the rest.
                self._run(np.zeros((64, 64, 3), np.uint8), 0)
            except (RuntimeError, ValueError, OSError) as error:
                raise PoseModelError(
                    f"pose model can't be used: {bundle} ({error}). The file is damaged or not a MediaPipe pose "
                    "landmarker; delete it and fetch or build it again (`python assets/build_pose_bundle.py`)."
                ) from error

    def detect(self, image: np.ndarray, time: float) -> RawPose | None:
        result = self._run(image, self._timestamp(time))
        if not result.pose_landmarks:
            return None
        image_points = result.pose_landmarks[0]
        raw = RawPose(
            image=np.array([(p.x, p.y, p.z) for p in image_points], np.float32),
            world=np.array([(p.x, p.y, p.z) for p in result.pose_world_landmarks[0]], np.float32),
            visibility=np.array([p.visibility for p in image_points], np.float32),
        )
        return raw if is_finite(raw) else None

    def forget(self, size: tuple[int, int], time: float) -> None:
        """Make the landmarker let go of the person it follows, by showing it an empty picture."""
        self.detect(np.full((size[1], size[0], 3), 127, np.uint8), time)

    def _run(self, image: np.ndarray, milliseconds: int) -> Any:
        self._milliseconds = milliseconds
        mp = self._mediapipe
        picture = mp.Image(image_format=mp.ImageFormat.SRGB, data=image)
        if _Landmarker._first_person_seen:
            return self._landmarker.detect_for_video(picture, milliseconds)
        with _quiet_stderr():  # one more warning comes with the first person of the process
            result = self._landmarker.detect_for_video(picture, milliseconds)
        _Landmarker._first_person_seen = bool(result.pose_landmarks)
        return result

    def _timestamp(self, time: float) -> int:
        """Whole milliseconds that strictly increase; after a step back the source's clock goes on from there."""
        wanted = round(time * 1000)
        if self._offset is None:
            self._offset = self._milliseconds + 1 - wanted
        if wanted + self._offset <= self._milliseconds:
            self._offset = self._milliseconds + 1 - wanted
        return wanted + self._offset

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._landmarker.close()


def _paint_over(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A copy of the picture with ``mask`` (bool ``(H, W)``) hidden under the picture's mean colour."""
    painted = image.copy()
    painted[mask] = image[:: max(1, image.shape[0] // 32), :: max(1, image.shape[1] // 32)].reshape(-1, 3).mean(0)
    return painted


def _is_newcomer(pose: RawPose, first: RawPose, mask: np.ndarray, size: tuple[int, int]) -> bool:
    return is_plausible(pose, size) and covered(pose, mask) < MAX_COVERED and not same_person(first, pose, size)


# What the C++ side prints while it loads; no environment variable of this version silences it.
_NOISE = re.compile(r"^([WI]\d{4} |INFO: |WARNING: (Read-only tensor|Logging before|All log messages)|$)")
_quiet_lock = threading.RLock()


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hold back what C++ libraries write to the error stream, then pass on every line that is not known noise."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _quiet_lock, tempfile.TemporaryFile() as held:
        try:
            kept = os.dup(2)
        except OSError:  # a program without an error stream has nothing to silence
            yield
            return
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines():
                if not _NOISE.match(line) and sys.stderr is not None:
                    print(line, file=sys.stderr)

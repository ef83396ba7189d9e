"""A camera before which the rendered actor stands and does what she is told: the person in walks through the window."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from engine.live.source_base import FrameSource
from engine.live.types import Frame
from engine.render.actor import Actor
from engine.render.camera import Camera, fit_camera
from engine.render.motions import motion
from engine.render.scene import Room

REST = "stand"


class Stage:
    """Pictures of motions, rendered once each: ``(name, seconds)`` to uint8 ``(T, H, W, 3)``."""

    def __init__(self, size: tuple[int, int] = (320, 240), fps: float = 12.0, supersample: int = 1) -> None:
        self.size, self.fps = size, fps
        self._actor = Actor(supersample=supersample)
        self._kept: dict[tuple[str, float], np.ndarray] = {}
        everything = np.concatenate([motion(name, 2.0, fps).xyz for name in ("wave", "raise left arm", "jumping jack")])
        self._camera: Camera = fit_camera(everything, *size)
        self._room = Room.under(everything)

    def pictures(self, name: str, seconds: float) -> np.ndarray:
        if (name, seconds) not in self._kept:
            frames = motion(name, seconds, self.fps).xyz
            pictures = [self._actor.render(frame, self._camera, self._room) for frame in frames]
            self._kept[name, seconds] = np.stack(pictures)
        return self._kept[name, seconds]


class ActingSource(FrameSource):
    """Endless; :meth:`perform` from any thread. No frame is dropped: a slow machine slows her time down.

    ``speed`` above 1 lets her time run faster than ours where the machine can.
    """

    def __init__(self, stage: Stage, speed: float = 1.0) -> None:
        super().__init__("0", "camera", realtime=False)
        self._stage = stage
        self._speed = speed
        self._wait = threading.Event()
        self._todo: deque[tuple[str, float]] = deque()
        self._now, self._place = stage.pictures(REST, 2.0), 0
        self._count = 0
        self._acting = self.busy = False
        self.fps = stage.fps

    def perform(self, name: str, seconds: float) -> None:
        """Do this as soon as what she does now is over; then stand still again."""
        self._stage.pictures(name, seconds)
        self._todo.append((name, seconds))
        self.busy = True

    def _next(self) -> Frame | None:
        if self._place >= len(self._now) or (self._todo and not self._acting):
            self._acting = bool(self._todo)
            self.busy = self._acting
            self._now = self._stage.pictures(*self._todo.popleft()) if self._acting else self._stage.pictures(REST, 2.0)
            self._place = 0
        picture = self._now[self._place]
        self._place += 1
        self._count += 1
        self._wait.wait(1 / (self._stage.fps * self._speed))
        return self._stamp(picture, self._count / self._stage.fps)

    def reopen(self) -> bool:
        return True

    def close(self) -> None:
        self._wait.set()

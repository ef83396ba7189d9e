"""What the panel shows of a pack: plain values made on a worker, so that no widget ever reads a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from engine.skeleton.sequence import SkeletonSequence
from skelapp.teach.small_skeleton import SmallSkeleton

if TYPE_CHECKING:
    from engine.teach.takes import Take


@dataclass(frozen=True, eq=False)
class TakeView:
    """One take of the engine's and the figure that plays it; ``start`` and ``end`` are its trim, seconds."""

    take: Take
    figure: SmallSkeleton

    @property
    def path(self) -> Path:
        """Identity of a take."""
        return self.take.path

    @property
    def sequence(self) -> SkeletonSequence:
        return self.take.sequence

    @property
    def start(self) -> float:
        return self.take.start

    @property
    def end(self) -> float:
        return self.take.end

    @property
    def seconds(self) -> float:
        return self.take.seconds

    @property
    def negative(self) -> bool:
        """Whether it shows what the action is *not*."""
        return self.take.sign < 0

    @property
    def origin(self) -> str:
        return self.take.source


@dataclass(frozen=True, eq=False)
class ActionView:
    """One action with its takes. ``warning`` says what it is taken for; ``live`` whether it is recognised now."""

    name: str
    takes: tuple[TakeView, ...] = ()
    warning: str = ""
    live: bool = False

    def words(self) -> str:
        """The second line of the list."""
        wrong = sum(take.negative for take in self.takes)
        count = len(self.takes) - wrong
        parts = [f"{count} take{'s' if count != 1 else ''}"] if count else []
        parts += [f"{wrong} counter-example{'s' if wrong != 1 else ''}"] if wrong else []
        if not parts:
            return "no takes yet"
        return ", ".join(parts) + ("" if self.live or not count else ", not live")


@dataclass(frozen=True, eq=False)
class PackView:
    """A pack as a whole; ``problems`` could not be read."""

    folder: Path
    name: str
    actions: tuple[ActionView, ...] = ()
    problems: tuple[str, ...] = field(default=())

    def action(self, name: str) -> ActionView | None:
        return next((action for action in self.actions if action.name == name), None)

    @property
    def names(self) -> list[str]:
        return [action.name for action in self.actions]

    @property
    def takes(self) -> int:
        return sum(len(action.takes) for action in self.actions)

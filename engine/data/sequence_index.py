"""A store's sequences as columns that can be searched and sorted: what a table of a hundred thousand rows needs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from engine.data.store import SequenceStore
from engine.data.store_files import ABSENT_INT

# Columns a protocol or a reader of the data asks for, in the order in which they are shown.
_FIRST = ("subject", "performer", "view", "camera", "setup", "trial", "replication", "episode")
_HIDDEN = ("digest",)


@dataclass(frozen=True)
class SequenceIndex:
    """Columns of a store.

    Parameters
    ----------
    names : tuple of str
        One per sequence.
    label, length, bodies : numpy.ndarray
        int64 ``(N,)``.
    columns : dict
        Meta columns by name, int64 ``(N,)`` or texts; split memberships and digests are left out.
    """

    names: tuple[str, ...]
    label: np.ndarray
    length: np.ndarray
    bodies: np.ndarray
    classes: tuple[str, ...]
    fps: float
    columns: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, store: SequenceStore) -> SequenceIndex:
        """Read the columns of a store."""
        shown = [key for key in store.meta_keys if not key.endswith("_train") and key not in _HIDDEN]
        shown.sort(key=lambda key: (_FIRST.index(key) if key in _FIRST else len(_FIRST), key))
        columns = {key: store.column(key) for key in shown}
        return cls(
            tuple(store.names), store.label, store.length, store.bodies, tuple(store.classes), store.fps, columns
        )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def person_column(self) -> str:
        """The column that says who acts, "" when none does."""
        return next((key for key in ("subject", "performer", "person") if key in self.columns), "")

    def values(self, column: str) -> list[int | str]:
        """Different values of a meta column, ascending, absent ones left out."""
        found = np.unique(self.columns[column])
        return [value for value in found.tolist() if value not in (ABSENT_INT, "")]

    def text(self, column: str, i: int) -> str:
        """Value of a meta column as text, "" where the sequence lacks it."""
        value = self.columns[column][i]
        return "" if value == ABSENT_INT else str(value)

    def select(
        self,
        words: str = "",
        label: int | None = None,
        person: int | str | None = None,
        among: np.ndarray | None = None,
        sort: str = "",
        descending: bool = False,
    ) -> np.ndarray:
        """Positions of the sequences that fit, int64, in storage order or sorted.

        Parameters
        ----------
        words : str
            All of these words must stand in the name or the class, capitals ignored.
        label, person : optional
            Only this class; only this value of :attr:`person_column`.
        among : numpy.ndarray, optional
            Positions to choose from, such as a part of a split.
        sort : str
            ``name``, ``class``, ``length``, ``bodies`` or a meta column; "" keeps the order. Equal ones keep theirs.
        """
        chosen = np.ones(len(self), bool)
        if among is not None:
            chosen[:] = False
            chosen[among] = True
        if label is not None:
            chosen &= self.label == label
        if person is not None and self.person_column:
            chosen &= self.columns[self.person_column] == person
        for word in words.lower().split():
            in_class = np.array([word in name.lower().replace("_", " ") for name in self.classes] + [False])
            rows = np.flatnonzero(chosen & ~in_class[self.label])
            lost = [i for i in rows.tolist() if word not in self.names[i].lower()]
            chosen[lost] = False
        found = np.flatnonzero(chosen)
        if not sort:
            return found
        order = np.argsort(self._key(sort)[found], kind="stable")
        if descending:
            # Reversing twice keeps equal ones in their order.
            order = len(found) - 1 - np.argsort(self._key(sort)[found][::-1], kind="stable")[::-1]
        return found[order]

    def _key(self, sort: str) -> np.ndarray:
        if sort == "name":
            return np.array(self.names)
        if sort == "class":
            rank = np.argsort(np.argsort(np.array(self.classes)))
            return np.append(rank, len(rank))[self.label]
        return {"length": self.length, "bodies": self.bodies}.get(sort, self.columns.get(sort, self.label))

"""Reads pickle files as data: an interpreter of the format that has no way to import or call anything.

Python's own unpickler looks up and calls whatever a file names, so opening a stranger's file can run a program. This
one builds plain values and numeric arrays and refuses everything else (datasets.md, section 5.4). Arrays are views of
the mapped file: a gigabyte opens without being copied.
"""

from __future__ import annotations

import codecs
import mmap
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.data.bodies import RawDataError
from engine.data.pickled_arrays import ArrayBuilder, PickledArray, PickleLimits, UnsafeFileError

__all__ = ["PickleLimits", "UnsafeFileError", "load_pickle", "loads_pickle"]

# Shorter byte strings are copied, longer ones stay views of the file.
_COPY_BELOW = 256
# Instructions of the format that are understood well enough to be refused.
_REFUSED = {
    "i": "makes an object (INST)", "o": "makes an object (OBJ)", "\x81": "makes an object (NEWOBJ)",
    "\x92": "makes an object (NEWOBJ_EX)", "\x82": "uses a registered class (EXT1)",
    "\x83": "uses a registered class (EXT2)", "\x84": "uses a registered class (EXT4)",
    "P": "asks for an object from outside (PERSID)", "Q": "asks for an object from outside (BINPERSID)",
    "\x97": "asks for bytes from outside (NEXT_BUFFER)", "\x98": "asks for bytes from outside (READONLY_BUFFER)",
    "\x8f": "makes a set (EMPTY_SET)", "\x90": "fills a set (ADDITEMS)", "\x91": "makes a set (FROZENSET)",
}  # fmt: skip


def load_pickle(path: Path, limits: PickleLimits | None = None) -> Any:
    """Read a pickle file of any protocol (0 to 5, Python 2 or 3).

    Returns
    -------
    object
        Made of None, bool, int, float, str, bytes (long ones as memoryview), tuple, list, dict with str keys, and
        read-only numpy.ndarray of bool, int or float. NumPy scalars become Python numbers; text written by Python 2
        is decoded as Latin-1.

    Raises
    ------
    UnsafeFileError
        It names anything else (the message says what), or exceeds a limit.
    RawDataError
        It can't be read, is cut short or is no pickle.
    """
    path, limits = Path(path), limits or PickleLimits()
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size > limits.file_bytes:
                raise UnsafeFileError(f"{path}: {size} bytes; at most {limits.file_bytes} are read")
            if size == 0:
                raise RawDataError(f"{path}: the file is empty")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise RawDataError(f"{path}: can't be read ({error.strerror or error})") from error
    return loads_pickle(data, str(path), limits)


def loads_pickle(data: bytes | mmap.mmap, where: str = "pickle", limits: PickleLimits | None = None) -> Any:
    """:func:`load_pickle` for bytes; ``where`` names them in messages."""
    reader = _Reader(data, where, limits or PickleLimits())
    try:
        return reader.run()
    except RawDataError:
        raise
    except (IndexError, KeyError, ValueError, TypeError, OverflowError, struct.error, MemoryError) as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise RawDataError(f"{where}: damaged or no pickle, at byte {reader.pos} ({reason})") from error
    finally:
        reader.table.clear()  # a cycle that would keep the file mapped


class _Reader:
    """The pickle machine: a stack, a stack of marks, and a memo (pickletools describes every instruction)."""

    def __init__(self, data: bytes | mmap.mmap, where: str, limits: PickleLimits) -> None:
        self.data, self.view = data, memoryview(data)
        self.where, self.limits = where, limits
        self.pos, self.end = 0, len(data)
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.arrays = ArrayBuilder(where, limits)
        self.table = self._instructions()

    def run(self) -> Any:
        data, end, table = self.data, self.end, self.table
        for _ in range(self.limits.steps):
            if self.pos >= end:
                raise RawDataError(f"{self.where}: cut short, the pickle has no end")
            code = data[self.pos]
            self.pos += 1
            if code == 0x2E:  # STOP
                return self.stack.pop()
            step = table.get(code)
            if step is None:
                raise self._refused(code)
            step()
        raise UnsafeFileError(f"{self.where}: more than {self.limits.steps} instructions")

    def _refused(self, code: int) -> RawDataError:
        known = _REFUSED.get(chr(code))
        if known is None:
            return RawDataError(f"{self.where}: no pickle (byte {code:#04x} at {self.pos - 1})")
        wants = (
            f" of {'.'.join(ascii(str(self._line(), 'latin1')[:80])[1:-1] for _ in 'ab')}" if code == ord("i") else ""
        )
        return UnsafeFileError(f"{self.where}: refused, it {known}{wants}, which plain data don't need")

    # Reading the file

    def _skip(self, count: int) -> int:
        begin = self.pos
        if count < 0 or count > self.end - begin:
            raise RawDataError(f"{self.where}: cut short, {count} bytes wanted at {begin}, {self.end - begin} left")
        self.pos = begin + count
        return begin

    def _number(self, form: struct.Struct) -> int:
        number: int = form.unpack_from(self.data, self._skip(form.size))[0]
        return number

    def _line(self) -> bytes:
        stop = self.data.find(b"\n", self.pos)
        if stop < 0:
            raise RawDataError(f"{self.where}: cut short in a line at byte {self.pos}")
        begin, self.pos = self.pos, stop + 1
        return self.data[begin:stop]

    def _digits(self) -> bytes:
        line = self._line()
        if len(line) > 64:
            raise UnsafeFileError(f"{self.where}: a number of {len(line)} digits")
        return line

    def _bytes(self, count: int) -> bytes | memoryview:
        begin = self._skip(count)
        return self.data[begin : self.pos] if count < _COPY_BELOW else self.view[begin : self.pos]

    def _text(self, count: int) -> str:
        begin = self._skip(count)
        return str(self.view[begin : self.pos], "utf-8", "surrogatepass")

    # The stack

    def _push(self, item: Any) -> None:
        self.stack.append(item)

    def _from_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        if len(items) > self.limits.items:
            raise UnsafeFileError(f"{self.where}: a container of {len(items)} items")
        return items

    def _mark(self) -> None:
        if len(self.marks) >= self.limits.depth:
            raise UnsafeFileError(f"{self.where}: containers nested more than {self.limits.depth} deep")
        self.marks.append(self.stack)
        self.stack = []

    def _tuple(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        if len(items) < count:
            raise IndexError("nothing to make a tuple of")
        self.stack[-count:] = [items]

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise TypeError(f"appends to {type(target).__name__}")
        if len(target) + len(items) > self.limits.items:
            raise UnsafeFileError(f"{self.where}: a list of more than {self.limits.items} items")
        target.extend(items)

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise TypeError(f"sets items of {type(target).__name__}")
        if len(target) + len(items) // 2 > self.limits.items:
            raise UnsafeFileError(f"{self.where}: a dictionary of more than {self.limits.items} items")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not str:
                raise UnsafeFileError(f"{self.where}: a dictionary key of type {type(key).__name__}; only text is read")
            target[key] = value

    def _make_dict(self) -> None:
        items = self._from_mark()
        self.stack.append({})
        self._update(items)

    def _get(self, index: int) -> None:
        item = self.memo[index]
        self.stack.append(item.value if isinstance(item, PickledArray) and item.value is not None else item)

    def _put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    # Names, and what may be done with them

    def _global(self, module: Any, name: Any) -> None:
        self.stack.append(self.arrays.name(module, name))

    def _stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._global(module, name)

    def _reduce(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self.arrays.call(function, args))

    def _build(self) -> None:
        state = self.stack.pop()
        self.stack[-1] = self.arrays.build(self.stack[-1], state)

    def _text_number(self, line: bytes) -> int | bool:
        return {b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line, 0)

    def _instructions(self) -> dict[int, Callable[[], object]]:
        """Every instruction that is known, by its byte."""
        push = self._push
        u1, u2, u4, u8, i4, f8 = (struct.Struct(form) for form in ("<B", "<H", "<I", "<Q", "<i", ">d"))
        number, line = self._number, self._line

        def integer(count: int) -> int:
            if count > 255:
                raise UnsafeFileError(f"{self.where}: a number of {count} bytes")
            begin = self._skip(count)
            return int.from_bytes(self.data[begin : self.pos], "little", signed=True)

        def quoted() -> str:
            text = line()
            if len(text) < 2 or text[:1] not in (b"'", b'"') or text[-1:] != text[:1]:
                raise ValueError("a text without quotes")
            return codecs.escape_decode(text[1:-1])[0].decode("latin1")  # type: ignore[attr-defined,no-any-return]

        def protocol() -> None:
            if (version := number(u1)) > 5:
                raise RawDataError(f"{self.where}: pickle protocol {version} is not known")

        def pop() -> None:
            if self.stack:
                self.stack.pop()
            else:
                self.stack = self.marks.pop()

        steps: dict[str, Callable[[], object]] = {
            "\x80": protocol,
            "\x95": lambda: number(u8),  # FRAME
            "(": self._mark,
            "0": pop,
            "1": self._from_mark,
            "2": lambda: push(self.stack[-1]),
            "N": lambda: push(None),
            "\x88": lambda: push(True),
            "\x89": lambda: push(False),
            "I": lambda: push(self._text_number(self._digits())),
            "J": lambda: push(number(i4)),
            "K": lambda: push(number(u1)),
            "M": lambda: push(number(u2)),
            "L": lambda: push(int(self._digits().rstrip(b"L"), 0)),
            "\x8a": lambda: push(integer(number(u1))),
            "\x8b": lambda: push(integer(number(i4))),
            "F": lambda: push(float(self._digits())),
            "G": lambda: push(f8.unpack_from(self.data, self._skip(8))[0]),
            "S": lambda: push(quoted()),
            "T": lambda: push(str(self._bytes(number(i4)), "latin1")),
            "U": lambda: push(str(self._bytes(number(u1)), "latin1")),
            "B": lambda: push(self._bytes(number(u4))),
            "C": lambda: push(self._bytes(number(u1))),
            "\x8e": lambda: push(self._bytes(number(u8))),
            "\x96": lambda: push(self._bytes(number(u8))),
            "V": lambda: push(str(line(), "raw-unicode-escape")),
            "X": lambda: push(self._text(number(u4))),
            "\x8c": lambda: push(self._text(number(u1))),
            "\x8d": lambda: push(self._text(number(u8))),
            ")": lambda: push(()),
            "t": lambda: push(tuple(self._from_mark())),
            "\x85": lambda: self._tuple(1),
            "\x86": lambda: self._tuple(2),
            "\x87": lambda: self._tuple(3),
            "]": lambda: push([]),
            "l": lambda: push(self._from_mark()),
            "a": lambda: self._extend([self.stack.pop()]),
            "e": lambda: self._extend(self._from_mark()),
            "}": lambda: push({}),
            "d": self._make_dict,
            "s": lambda: self._update([self.stack.pop(-2), self.stack.pop()]),
            "u": lambda: self._update(self._from_mark()),
            "g": lambda: self._get(int(self._digits())),
            "h": lambda: self._get(number(u1)),
            "j": lambda: self._get(number(u4)),
            "p": lambda: self._put(int(self._digits())),
            "q": lambda: self._put(number(u1)),
            "r": lambda: self._put(number(u4)),
            "\x94": lambda: self._put(len(self.memo)),
            "c": lambda: self._global(str(line(), "utf-8"), str(line(), "utf-8")),
            "\x93": self._stack_global,
            "R": self._reduce,
            "b": self._build,
        }
        return {ord(code): step for code, step in steps.items()}

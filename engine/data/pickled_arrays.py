"""The few things a pickled array is made of, and nothing else: the only names a pickle file may use here.

Nothing is imported or called by name: each allowed name is a word this module knows how to act on (datasets.md,
section 5.4).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.data.bodies import RawDataError


class UnsafeFileError(RawDataError):
    """A file asks for something that could run a program, or for more than a data file needs."""


@dataclass(frozen=True)
class PickleLimits:
    """Caps, all checked before anything is allocated.

    ``steps`` bounds the number of objects (NTU-120 in PYSKL's form takes about 6 million), ``items`` the length of one
    list, tuple or dictionary, ``depth`` how deep containers under construction may nest.
    """

    file_bytes: int = 8 << 30
    array_bytes: int = 2 << 30
    steps: int = 40_000_000
    items: int = 5_000_000
    depth: int = 100


# Module and name as old and new NumPy write them.
_PARTS = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("numpy._core.multiarray", "scalar"): "scalar",
    ("numpy.core.numeric", "_frombuffer"): "frombuffer",
    ("numpy._core.numeric", "_frombuffer"): "frombuffer",
}
_DTYPE_CLASS = re.compile(r"(Bool|U?Int(?:8|16|32|64)|Float(?:16|32|64))DType")
_DTYPE_CODE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|\?)")


class PickledName:
    """One of the allowed names, as it lies on the stack."""

    def __init__(self, part: str) -> None:
        self.part = part


class PickledDtype:
    """A dtype under construction: its byte order arrives in a second step."""

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype


class PickledArray:
    """An array under construction; later references to it give ``value``."""

    value: np.ndarray | None = None


class ArrayBuilder:
    """Acts on names, calls and states of a pickle; ``where`` names the file in messages.

    All methods raise :class:`UnsafeFileError` for what is not allowed, and ``ValueError``, ``TypeError`` or
    ``IndexError`` for an allowed thing in a wrong form.
    """

    def __init__(self, where: str, limits: PickleLimits) -> None:
        self.where, self.limits = where, limits

    def name(self, module: Any, name: Any) -> PickledName:
        """The allowed name ``module.name``."""
        if type(module) is not str or type(name) is not str:
            raise TypeError("a name that is no text")
        part = _PARTS.get((module, name))
        if part is None and module == "numpy.dtypes" and _DTYPE_CLASS.fullmatch(name):
            part = f"dtype {name.removesuffix('DType').lower()}"
        if part is None:
            wanted = f"{module[:80]}.{name[:80]}".encode("ascii", "backslashreplace").decode()
            raise UnsafeFileError(
                f"{self.where}: refused, it tries to load {wanted}; data need no such thing, it may be meant to run a "
                "program"
            )
        return PickledName(part)

    def call(self, function: Any, args: Any) -> Any:
        """What the call of an allowed name stands for."""
        if not isinstance(function, PickledName) or type(args) is not tuple:
            raise UnsafeFileError(f"{self.where}: refused, it tries to call {type(function).__name__}")
        part = function.part
        if part == "reconstruct":
            if len(args) != 3 or not isinstance(args[0], PickledName) or args[0].part != "ndarray":
                raise UnsafeFileError(f"{self.where}: refused, it builds an array of an unknown class")
            return PickledArray()
        if part == "dtype":
            return PickledDtype(self._dtype(args[0]))
        if part.startswith("dtype ") and not args:
            return PickledDtype(np.dtype(part.removeprefix("dtype ")))
        if part == "encode":
            text, encoding = args
            if type(text) is not str or type(encoding) is not str or encoding not in ("latin1", "latin-1"):
                raise UnsafeFileError(f"{self.where}: refused, it encodes {type(text).__name__} in an unknown way")
            return text.encode("latin1")
        if part == "scalar":
            dtype, raw = args
            return self._array((), dtype, False, raw).item()
        if part == "frombuffer":
            raw, dtype, shape, order = args[:4]
            if type(order) is not str or order not in ("C", "F"):
                raise ValueError("an array of unknown order")
            return self._array(shape, dtype, order == "F", raw)
        raise UnsafeFileError(f"{self.where}: refused, it tries to call {part}")

    def build(self, target: Any, state: Any) -> Any:
        """``target`` after its state was set: a dtype with its byte order, or the finished array."""
        if isinstance(target, PickledDtype):
            order = state[1].decode("latin1") if type(state[1]) is bytes else state[1]
            if (
                type(order) is not str
                or order not in ("<", ">", "=", "|")
                or any(part is not None for part in state[2:5])
            ):
                raise UnsafeFileError(f"{self.where}: refused, an array of records")
            target.dtype = target.dtype.newbyteorder(order)  # type: ignore[arg-type]
            return target
        if isinstance(target, PickledArray):
            _, shape, dtype, fortran, raw = state
            target.value = self._array(shape, dtype, bool(fortran), raw)
            return target.value
        raise UnsafeFileError(f"{self.where}: refused, it sets the state of {type(target).__name__}")

    def _dtype(self, code: Any) -> np.dtype:
        text = code.decode("latin1") if type(code) is bytes else code
        if type(text) is not str or not _DTYPE_CODE.fullmatch(text):
            kind = ascii(text[:40]) if type(text) is str else type(text).__name__
            raise UnsafeFileError(f"{self.where}: refused, an array of type {kind}; only numbers are read")
        return np.dtype(text)

    def _array(self, shape: Any, dtype: Any, fortran: bool, raw: Any) -> np.ndarray:
        if type(raw) is str:  # Python 2 wrote bytes as text
            raw = raw.encode("latin1")
        if not isinstance(dtype, PickledDtype) or type(raw) not in (bytes, memoryview):
            raise TypeError("an array without numbers")
        if type(shape) is not tuple or len(shape) > 32 or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("an array without a shape")
        size = math.prod(shape) * dtype.dtype.itemsize
        if size > self.limits.array_bytes:
            raise UnsafeFileError(f"{self.where}: an array of {size} bytes; at most {self.limits.array_bytes} are read")
        if size != len(raw):
            raise ValueError(f"an array of {size} bytes with {len(raw)} bytes of content")
        if not size:
            return np.zeros(shape, dtype.dtype)
        return np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if fortran else "C")

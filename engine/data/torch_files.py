"""Reads the tensors of a PyTorch file (``.pt``, ``.pth``) without PyTorch and without running anything in the file.

A ``.pt`` file is a pickle whose arrays lie beside it. ``torch.load`` with ``weights_only`` also restricts what the
pickle may name, but it does call what is on its list, and has been got round before (CVE-2025-32434). The interpreter
of :mod:`engine.data.safe_pickle` can call nothing at all, so it is extended here by the one thing needed: a tensor is
a stretch of a storage that lies in the same file.
"""

from __future__ import annotations

import math
import mmap
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.bodies import RawDataError
from engine.data.pickled_arrays import ArrayBuilder, PickledName, PickleLimits, UnsafeFileError
from engine.data.safe_pickle import _Reader

__all__ = ["load_torch"]

# The first object of files written before PyTorch 1.6.
_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_PICKLE = 256 << 20
_MAX_MEMBERS = 100_000
_MAX_DEPTH = 100
# NumPy has no bfloat16: its bits are the upper half of a float32.
_BFLOAT = "bfloat16"
_STORAGES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": _BFLOAT,
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip
_PARTS = {
    ("collections", "OrderedDict"): "dict",
    ("torch._utils", "_rebuild_tensor"): "tensor",
    ("torch._utils", "_rebuild_tensor_v2"): "tensor",
    ("torch._utils", "_rebuild_parameter"): "parameter",
    ("torch", "Size"): "size",
} | {("torch", name): f"storage {name}" for name in _STORAGES}
_SAVE_AGAIN = "save the weights alone: torch.save(model.state_dict(), FILE)"


@dataclass(frozen=True)
class _Storage:
    """A storage by its key in the file: ``count`` numbers of ``dtype``."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage; offset and strides in numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _TensorBuilder(ArrayBuilder):
    """What a pickle of tensors may name, beside what one of arrays may. ``storages``: those named, by key."""

    def __init__(self, where: str, limits: PickleLimits) -> None:
        super().__init__(where, limits)
        self.storages: dict[str, _Storage] = {}

    def name(self, module: Any, name: Any) -> PickledName:
        part = _PARTS.get((module, name)) if type(module) is str and type(name) is str else None
        if part is not None:
            return PickledName(part)
        try:
            return super().name(module, name)
        except UnsafeFileError as error:
            raise UnsafeFileError(f"{error}; {_SAVE_AGAIN}") from None

    def call(self, function: Any, args: Any) -> Any:
        part = function.part if isinstance(function, PickledName) else ""
        if type(args) is not tuple:
            raise TypeError("arguments that are no tuple")
        if part == "dict":
            return dict(args[0]) if args else {}
        if part == "size":
            return tuple(args[0])
        if part == "parameter":
            return args[0]
        if part == "tensor":
            return self._tensor(*args[:4])
        return super().call(function, args)

    def build(self, target: Any, state: Any) -> Any:
        # An ordered dictionary carries attributes (_metadata): versions of modules, which nobody needs here.
        return target if type(target) is dict else super().build(target, state)

    def storage(self, reference: Any) -> _Storage:
        """The storage a persistent reference names; nothing is read yet."""
        if type(reference) is not tuple or len(reference) < 5 or reference[0] != "storage":
            raise UnsafeFileError(f"{self.where}: refused, it asks for something from outside that is no storage")
        _, kind, key, _, count = reference[:5]
        part = kind.part if isinstance(kind, PickledName) else ""
        if not part.startswith("storage ") or type(key) is not str or type(count) is not int or count < 0:
            raise ValueError("a storage in an unknown form")
        if len(reference) > 5 and reference[5] is not None:
            raise RawDataError(f"{self.where}: views of storages (PyTorch before 0.4) are not read; {_SAVE_AGAIN}")
        return self.storages.setdefault(key, _Storage(key, _STORAGES[part.removeprefix("storage ")], count))

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any) -> _Tensor:
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError("a tensor in an unknown form")
        if len(shape) != len(strides) or len(shape) > 32:
            raise ValueError("a tensor of unknown shape")
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if math.prod(shape) and last >= storage.count:
            raise ValueError(f"a tensor that reaches beyond its storage {storage.key}")
        if math.prod(shape) * 8 > self.limits.array_bytes:
            raise UnsafeFileError(f"{self.where}: a tensor of {math.prod(shape)} numbers")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _TorchReader(_Reader):
    """The pickle machine with references to storages and with dictionaries of any plain key (optimiser states)."""

    def __init__(self, data: bytes | mmap.mmap, where: str, limits: PickleLimits, begin: int = 0) -> None:
        super().__init__(data, where, limits)
        self.arrays: _TensorBuilder = _TensorBuilder(where, limits)
        self.pos = begin

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2 or len(target) + len(items) // 2 > self.limits.items:
            raise TypeError(f"sets {len(items)} items of {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int, float, bool, type(None)):
                raise UnsafeFileError(f"{self.where}: a dictionary key of type {type(key).__name__}")
            target[key] = value

    def _reference(self) -> None:
        self.stack.append(self.arrays.storage(self.stack.pop()))

    def _instructions(self) -> dict[int, Callable[[], object]]:
        return super()._instructions() | {ord("Q"): self._reference}


def load_torch(path: Path, limits: PickleLimits | None = None) -> Any:
    """Read a file written by ``torch.save``, of any version since 0.4 (zip archive, or the older single stream).

    Returns
    -------
    object
        What was saved: dictionaries, lists, numbers, text, and a read-only numpy.ndarray for every tensor. bfloat16
        becomes float32.

    Raises
    ------
    UnsafeFileError
        It names anything but tensors and plain values (the message says what), is a TorchScript program, or exceeds a
        limit.
    RawDataError
        It can't be read, is cut short or is no such file.
    """
    path, limits = Path(path), limits or PickleLimits()
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if not 0 < size <= limits.file_bytes:
                raise RawDataError(f"{path}: {size} bytes; no PyTorch file, or more than {limits.file_bytes}")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _load_zip(path, data, limits) if zipfile.is_zipfile(path) else _load_stream(path, data, limits)
    except RawDataError:
        raise
    except OSError as error:
        raise RawDataError(f"{path}: can't be read ({error.strerror or error})") from error
    except (
        IndexError, KeyError, ValueError, TypeError, OverflowError, struct.error, MemoryError, EOFError,
        zipfile.BadZipFile, NotImplementedError, RecursionError,
    ) as error:  # fmt: skip
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise RawDataError(f"{path}: damaged or no PyTorch file ({reason})") from error


def _load_zip(path: Path, data: mmap.mmap, limits: PickleLimits) -> Any:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > _MAX_MEMBERS:
            raise RawDataError(f"{path}: {len(members)} members; this is no PyTorch file")
        found = {info.filename: info for info in members}
        pickles = [name for name in found if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise RawDataError(f"{path}: no PyTorch file (it has no data.pkl)")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}constants.pkl" in found or any(name.startswith(f"{root}code/") for name in found):
            raise UnsafeFileError(f"{path}: refused, a TorchScript program; {_SAVE_AGAIN}")
        if found[pickles[0]].file_size > _MAX_PICKLE:
            raise UnsafeFileError(f"{path}: a pickle of {found[pickles[0]].file_size} bytes")
        pickled = archive.read(pickles[0])
        order = archive.read(f"{root}byteorder")[:8] if f"{root}byteorder" in found else b"little"

    def bytes_of(storage: _Storage) -> memoryview:
        info = found.get(f"{root}data/{storage.key}")
        if info is None or info.compress_type != zipfile.ZIP_STORED:
            raise RawDataError(f"{path}: storage {storage.key} is missing or compressed")
        signature, name, extra = struct.unpack_from("<4s22xHH", data, info.header_offset)
        if signature != b"PK\x03\x04":
            raise RawDataError(f"{path}: storage {storage.key} does not begin where the directory says")
        begin = info.header_offset + 30 + name + extra
        if begin + info.file_size > len(data):
            raise RawDataError(f"{path}: cut short in storage {storage.key}")
        return memoryview(data)[begin : begin + info.file_size]

    value = _run(_TorchReader(pickled, str(path), limits))
    return _Arrays(bytes_of, ">" if order.startswith(b"big") else "<").resolve(value)


def _load_stream(path: Path, data: mmap.mmap, limits: PickleLimits) -> Any:
    """The form before PyTorch 1.6: magic number, version, system, the object, the keys, then every storage."""
    position, objects = 0, []
    named: dict[str, _Storage] = {}
    for _ in range(5):
        reader = _TorchReader(data, str(path), limits, position)
        objects.append(_run(reader))
        position = reader.pos
        named |= reader.arrays.storages
        if objects[0] != _MAGIC:
            raise RawDataError(f"{path}: no PyTorch file")
    _, _, system, value, keys = objects
    order = "<" if not isinstance(system, dict) or system.get("little_endian", True) else ">"
    places: dict[str, memoryview] = {}
    for key in keys:
        count = struct.unpack_from(f"{order}q", data, position)[0]
        storage = named.get(key)
        if storage is None or count != storage.count:
            raise RawDataError(f"{path}: storage {key!r} does not fit the object")
        begin = position + 8
        position = begin + count * _itemsize(storage.dtype)
        if position > len(data):
            raise RawDataError(f"{path}: cut short in storage {key}")
        places[key] = memoryview(data)[begin:position]
    return _Arrays(lambda storage: places[storage.key], order).resolve(value)


def _run(reader: _TorchReader) -> Any:
    try:
        return reader.run()
    finally:
        reader.table.clear()


def _itemsize(dtype: str) -> int:
    return 2 if dtype == _BFLOAT else np.dtype(dtype).itemsize


class _Arrays:
    """Puts arrays in the place of tensors."""

    def __init__(self, bytes_of: Callable[[_Storage], memoryview], order: str) -> None:
        self._bytes_of, self._order = bytes_of, order
        self._done: dict[int, tuple[Any, Any]] = {}

    def resolve(self, value: Any, depth: int = 0) -> Any:
        if isinstance(value, _Storage):
            value = _Tensor(value, 0, (value.count,), (1,))
        if isinstance(value, _Tensor):
            return self._array(value)
        if not isinstance(value, dict | list | tuple):
            return value
        if depth > _MAX_DEPTH:
            raise ValueError("containers nested too deep")
        # What stands in several places is resolved once: nesting must not multiply it.
        if id(value) in self._done:
            return self._done[id(value)][1]
        made: Any
        if isinstance(value, dict):
            made = {key: self.resolve(item, depth + 1) for key, item in value.items()}
        else:
            made = type(value)([self.resolve(item, depth + 1) for item in value])
        self._done[id(value)] = value, made
        return made

    def _array(self, tensor: _Tensor) -> np.ndarray:
        size = _itemsize(tensor.storage.dtype)
        kind = "u2" if tensor.storage.dtype == _BFLOAT else tensor.storage.dtype
        dtype = np.dtype(kind).newbyteorder(self._order)  # type: ignore[arg-type]
        if not math.prod(tensor.shape):
            return np.zeros(tensor.shape, np.float32 if tensor.storage.dtype == _BFLOAT else dtype)
        raw = self._bytes_of(tensor.storage)
        if len(raw) < tensor.storage.count * size:
            raise ValueError(f"storage {tensor.storage.key} has {len(raw)} bytes for {tensor.storage.count} numbers")
        # The constructor checks that the view stays inside its buffer.
        strides = tuple(step * size for step in tensor.strides)
        array: np.ndarray = np.ndarray(tensor.shape, dtype, raw, tensor.offset * size, strides)
        if tensor.storage.dtype == _BFLOAT:
            array = (array.astype("u4") << 16).view("f4")
        array.flags.writeable = False
        return array

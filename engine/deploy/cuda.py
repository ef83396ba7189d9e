"""The little of NVIDIA's driver that running an engine needs, through ctypes: no CUDA package to install, no torch."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


class CudaError(Exception):
    """The driver is missing or refused a call."""


@dataclass(frozen=True)
class Gpu:
    """The first GPU: its name and compute capability, e.g. ``("NVIDIA GeForce RTX 4070", (8, 9))``."""

    name: str
    capability: tuple[int, int]

    @property
    def code(self) -> str:
        """Capability as TensorRT writes it, e.g. ``SM89``."""
        return f"SM{self.capability[0]}{self.capability[1]}"


@lru_cache(maxsize=1)
def _driver() -> Any:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise CudaError(f"no NVIDIA driver found ({_LIBRARY} is missing)") from error
    # Handles and addresses are wider than the int that ctypes takes for granted.
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    library.cuCtxSetCurrent.argtypes = [pointer]
    library.cuMemAlloc_v2.argtypes = [ctypes.POINTER(ctypes.c_uint64), size]
    library.cuMemFree_v2.argtypes = [ctypes.c_uint64]
    library.cuMemcpyHtoDAsync_v2.argtypes = [ctypes.c_uint64, pointer, size, pointer]
    library.cuMemcpyDtoHAsync_v2.argtypes = [pointer, ctypes.c_uint64, size, pointer]
    library.cuStreamSynchronize.argtypes = [pointer]
    library.cuStreamDestroy_v2.argtypes = [pointer]
    return library


def _check(driver: Any, status: int, doing: str) -> None:
    if status:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(status, ctypes.byref(text))
        reason = text.value.decode() if text.value else f"error {status}"
        raise CudaError(f"the NVIDIA driver failed while {doing}: {reason}")


def first_gpu() -> Gpu:
    """Name and capability of the first GPU; raises :class:`CudaError` where there is none."""
    driver = _driver()
    _check(driver, driver.cuInit(0), "starting")
    count = ctypes.c_int()
    _check(driver, driver.cuDeviceGetCount(ctypes.byref(count)), "counting GPUs")
    if count.value == 0:
        raise CudaError("the NVIDIA driver sees no GPU")
    name = ctypes.create_string_buffer(256)
    _check(driver, driver.cuDeviceGetName(name, 256, 0), "asking for the GPU's name")
    capability = []
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        value = ctypes.c_int()
        _check(driver, driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, 0), "asking for its capability")
        capability.append(value.value)
    return Gpu(name.value.decode(errors="replace"), (capability[0], capability[1]))


class CudaBuffers:
    """Device memory and one stream on the first GPU, for one caller at a time."""

    def __init__(self) -> None:
        self._driver = _driver()
        first_gpu()
        self._context = ctypes.c_void_p()
        self._do("cuDevicePrimaryCtxRetain", "opening the GPU", ctypes.byref(self._context), 0)
        self._memory: dict[str, tuple[int, int]] = {}
        self._stream = ctypes.c_void_p()
        self.enter()
        self._do("cuStreamCreate", "making a stream", ctypes.byref(self._stream), 1)

    def _do(self, name: str, doing: str, *arguments: Any) -> None:
        _check(self._driver, getattr(self._driver, name)(*arguments), doing)

    @property
    def stream(self) -> int:
        return int(self._stream.value or 0)

    def enter(self) -> None:
        """Make the GPU current in this thread; every thread must, before it calls anything else."""
        self._do("cuCtxSetCurrent", "choosing the GPU", self._context)

    def reserve(self, name: str, size: int) -> int:
        """Address of at least ``size`` bytes under a name; kept until a larger piece or :meth:`close`."""
        address, have = self._memory.get(name, (0, 0))
        if have < size:
            if address:
                self._do("cuMemFree_v2", "freeing memory", address)
                del self._memory[name]
            found = ctypes.c_uint64()
            self._do("cuMemAlloc_v2", f"reserving {size} bytes", ctypes.byref(found), size)
            address = found.value
            self._memory[name] = (address, size)
        return address

    def upload(self, address: int, data: int, size: int) -> None:
        self._do("cuMemcpyHtoDAsync_v2", "copying to the GPU", address, data, size, self._stream)

    def download(self, data: int, address: int, size: int) -> None:
        self._do("cuMemcpyDtoHAsync_v2", "copying from the GPU", data, address, size, self._stream)

    def wait(self) -> None:
        self._do("cuStreamSynchronize", "computing", self._stream)

    def close(self) -> None:
        if self._context is None:
            return
        self.enter()
        for address, _ in self._memory.values():
            self._driver.cuMemFree_v2(address)
        self._memory.clear()
        self._driver.cuStreamDestroy_v2(self._stream)
        self._driver.cuDevicePrimaryCtxRelease_v2(0)
        self._context = None  # type: ignore[assignment]

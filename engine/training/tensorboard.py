"""A run's numbers as a TensorBoard event file beside its event log; written by hand, so nothing has to be installed.

The format is a sequence of records (length, its checksum, data, its checksum), each a protocol-buffer message with a
time, a step and named scalars. ``tensorboard --logdir RUNS`` then shows all runs of a folder, each by its name.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from engine.training.run_folder import RunError

# Entries of events that are no curves.
_NO_CURVE = {"event", "at", "epoch", "step", "steps", "epochs", "eta_s", "seconds"}
_POLYNOMIAL = 0x82F63B78
_MASK = 0xA282EAD8
_START = 1


@functools.cache
def _table() -> tuple[int, ...]:
    values = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
        values.append(byte)
    return tuple(values)


def crc32c(data: bytes) -> int:
    """Castagnoli's cyclic redundancy check of some bytes."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def record(data: bytes) -> bytes:
    """Data as one record of the file."""

    def masked(part: bytes) -> bytes:
        crc = crc32c(part)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _message(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def event(at: float, step: int, scalars: Mapping[str, float]) -> bytes:
    """An event message: wall time in seconds, step, and a summary of named scalars."""
    values = (_message(1, name.encode()) + b"\x15" + struct.pack("<f", value) for name, value in scalars.items())
    summary = b"".join(_message(1, value) for value in values)
    return b"\x09" + struct.pack("<d", at) + b"\x10" + _varint(step) + _message(5, summary)


class ScalarFile:
    """Listens to a run's events and writes their numbers: ``train/...`` by step, ``epoch/...`` and ``test/...``.

    Parameters
    ----------
    folder : Path
        The run's; every process that goes on with the run adds a file of its own. A resumed run tells TensorBoard to
        forget the steps that are made again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._steps = 1

    def __call__(self, values: dict[str, Any]) -> None:
        """Take in one event of the log.

        Raises
        ------
        RunError
            The disk is full.
        """
        try:
            self._take(values)
        except OSError as error:
            raise RunError(
                f"the TensorBoard file in {self._folder} can't be written ({error.strerror}); make room and resume"
            ) from error

    def _take(self, values: dict[str, Any]) -> None:
        kind, at = values["event"], values["at"]
        if kind == "run":
            self._steps = max(int(values["steps"]), 1)
            self._open(at, int(values["epoch"]) * self._steps + int(values["step"]))
        if self._file is None or kind not in ("step", "epoch"):
            return
        numbers = {
            name: float(value)
            for name, value in values.items()
            if name not in _NO_CURVE and isinstance(value, int | float) and not isinstance(value, bool)
        }
        if kind == "step":
            step = (int(values["epoch"]) - 1) * self._steps + int(values["step"])
            scalars = {f"train/{name}": value for name, value in numbers.items()}
        else:
            step = int(values["epoch"]) * self._steps
            scalars = {_tag(name): value for name, value in numbers.items()}
        self._file.write(record(event(at, step, scalars)))
        self._file.flush()

    def _open(self, at: float, step: int) -> None:
        self.close()
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = (self._folder / name).open("ab")
        self._file.write(record(b"\x09" + struct.pack("<d", at) + _message(3, b"brain.Event:2")))
        begin = b"\x09" + struct.pack("<d", at) + b"\x10" + _varint(step)
        self._file.write(record(begin + _message(7, b"\x08" + _varint(_START))))
        self._file.flush()

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            # What could not be flushed was already complained about.
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def _tag(name: str) -> str:
    group, _, rest = name.partition("_")
    return f"{group}/{rest}" if group in ("test", "probe") and rest else f"epoch/{name}"

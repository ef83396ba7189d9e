"""The TensorBoard file, read back by a slow reader written from the format's description."""

import struct

import pytest

from engine.training.run_folder import EventLog, RunError
from engine.training.tensorboard import ScalarFile, crc32c, event, record


def test_known_checksums():
    """Published test vectors of CRC-32C (RFC 3720, appendix B.4) and its customary check value."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def slow_crc(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 * (crc & 1))
    return crc ^ 0xFFFFFFFF


def records(data):
    """Data of every record, with both checksums verified."""
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        body = data[12 : 12 + length]
        for part, stored in ((data[:8], data[8:12]), (body, data[12 + length : 16 + length])):
            crc = slow_crc(part)
            assert struct.unpack("<I", stored)[0] == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32
        yield body
        data = data[16 + length :]


def fields(data):
    """(number, value) of a protocol-buffer message; nested messages stay bytes."""

    def varint():
        nonlocal data
        value, shift = 0, 0
        while True:
            byte, data = data[0], data[1:]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    found = []
    while data:
        number, kind = divmod(varint(), 8)
        if kind == 0:
            found.append((number, varint()))
        else:
            size = {1: 8, 2: None, 5: 4}[kind]
            size = varint() if size is None else size
            value, data = data[:size], data[size:]
            found.append((number, {1: lambda v: struct.unpack("<d", v)[0], 5: lambda v: struct.unpack("<f", v)[0]}.get(
                kind, bytes)(value)))  # fmt: skip
    return found


def read(path):
    """(step, {tag: value}) of every summary in a file, and the steps at which a session begins."""
    rows, begins = [], []
    for body in records(path.read_bytes()):
        message = dict(fields(body))
        if 5 in message:
            values = [dict(fields(value)) for number, value in fields(message[5]) if number == 1]
            rows.append((message[2], {value[1].decode(): value[2] for value in values}))
        elif 7 in message:
            begins.append((message.get(2, 0), dict(fields(message[7]))))
        else:
            assert message[3] == b"brain.Event:2"
    return rows, begins


def test_a_message_reads_back():
    body = event(12.5, 70000, {"train/loss": 0.25, "test/top1": 1.0})
    (data,) = records(record(body))
    message = dict(fields(data))
    assert message[1] == 12.5 and message[2] == 70000
    assert [dict(fields(value)) for _, value in fields(message[5])] == [
        {1: b"train/loss", 2: 0.25}, {1: b"test/top1", 2: 1.0},
    ]  # fmt: skip


def test_curves_of_a_run_that_is_resumed(tmp_path):
    first, second = ScalarFile(tmp_path), ScalarFile(tmp_path)
    log = EventLog(tmp_path / "events.jsonl", first)
    log.write("run", epoch=0, step=0, steps=4, epochs=3, resumed=False, parent=None)
    log.write("step", epoch=1, step=2, steps=4, lr=0.5, loss=2.0, eta_s=9.0)
    log.write("evaluation", epoch=1, top1=0.5)
    log.write("epoch", epoch=1, loss=1.5, seconds=3.0, test_top1=0.5, test_top1_xview_clean=0.25, note="x")
    log.close()
    first.close()
    log = EventLog(tmp_path / "events.jsonl", second)
    log.write("run", epoch=1, step=1, steps=4, epochs=3, resumed=True)
    log.write("step", epoch=2, step=4, steps=4, lr=0.25, loss=1.0, eta_s=0.0)
    log.close()
    second.close()
    one, two = sorted(tmp_path.glob("events.out.tfevents.*"))
    rows, begins = read(one)
    assert begins == [(0, {1: 1})]
    assert rows == [
        (2, {"train/lr": 0.5, "train/loss": 2.0}),
        (4, {"epoch/loss": 1.5, "test/top1": 0.5, "test/top1_xview_clean": 0.25}),
    ]
    assert read(two) == ([(8, {"train/lr": 0.25, "train/loss": 1.0})], [(5, {1: 1})])


def test_a_full_disk_is_said(tmp_path):
    curves = ScalarFile(tmp_path / "gone")
    with pytest.raises(RunError, match="can't be written"):
        curves({"event": "run", "at": 0.0, "epoch": 0, "step": 0, "steps": 1})

"""The table of runtimes: every row from a call that was made, and a reason for every row that is missing."""

import json

import numpy as np
import pytest

from engine.cli import entry
from engine.deploy import benchmark
from engine.deploy.benchmark import REFERENCE, VARIANTS, Case, Variant, clips_for, compare_runtimes, peak_memory
from tests.engine.deploy.conftest import small_checkpoint


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    root = tmp_path_factory.mktemp("compared")
    folder = small_checkpoint(root / "c", "infogcn", "ntu25", 2)
    before = sorted(path.name for path in folder.iterdir())
    found = compare_runtimes(folder, root / "work", (1, 3), repeats=3, memory=False)
    assert sorted(path.name for path in folder.iterdir()) == before
    return found


def test_rows_cover_what_runs_here(compared):
    cases = {(row.batch, row.persons) for row in compared.rows}
    assert cases == {(1, 2), (3, 2), (1, 1)}
    measured = {Variant(row.runtime, row.precision) for row in compared.rows}
    assert {
        REFERENCE,
        Variant("torch-cpu", "bf16"),
        Variant("onnx-cpu", "fp32"),
        Variant("onnx-cpu", "int8"),
    } <= measured
    assert len(compared.rows) == len(measured) * len(cases)
    assert measured | set(compared.left_out) == set(VARIANTS) and not measured & set(compared.left_out)
    assert all(compared.left_out.values())


def test_numbers_fit_together(compared):
    for row in compared.rows:
        assert row.calls == 3 and row.bytes > 10_000 and row.peak_mb is None
        assert 0 < row.p50_ms <= row.p95_ms
        assert row.clips_per_s == pytest.approx(1000 * row.batch / row.p50_ms)
        exactness = {"fp32": 1e-5, "bf16": 0.1, "int8": 0.3}[row.precision]
        assert row.relative_difference < exactness
        if Variant(row.runtime, row.precision) == REFERENCE:
            assert row.max_difference == 0


def test_a_slow_encoder_is_called_less_often():
    class Slow:
        calls = 0

        def predict(self, clips):
            self.calls += 1

    slow = Slow()
    taken = benchmark._alternate({REFERENCE: slow}, clips_for((3, 2, 25, 2), Case(1, 2)), 1000, seconds=0.0)
    assert len(taken[REFERENCE]) == 3 and slow.calls == 3 + benchmark.WARM_UP


def test_clips_leave_slots_empty():
    clips = clips_for((3, 4, 25, 2), Case(5, 1))
    assert clips.shape == (5, 3, 4, 25, 2) and clips.dtype == np.float32
    assert (clips[..., 1] == 0).all() and (clips[..., 0] != 0).any()
    real = np.arange(3, dtype=np.float32)[:, None, None, None, None] * np.ones((1, 3, 4, 25, 2), np.float32)
    assert clips_for((3, 4, 25, 2), Case(2, 2), real)[:, 0, 0, 0, 0].tolist() == [1, 2]
    assert clips_for((3, 4, 25, 2), Case(5, 1), real)[:, 0, 0, 0, :].tolist() == [
        [1, 0],
        [2, 0],
        [0, 0],
        [1, 0],
        [2, 0],
    ]
    assert real[2, 0, 0, 0, 1] == 2


@pytest.mark.slow
def test_memory_is_of_a_process_of_its_own(tmp_path):
    folder = small_checkpoint(tmp_path / "c", "stgcn")
    ballast = np.ones(100_000_000)
    peaks = peak_memory(folder, REFERENCE, 1, (1, 64))
    assert 50 < peaks[1] <= peaks[64] < ballast.nbytes / 1e6
    assert peak_memory(folder, Variant("onnx-cpu", "fp32"), 1, (1,)) == {}


def test_command_writes_table_and_json(tmp_path, monkeypatch, capsys):
    folder = small_checkpoint(tmp_path / "c", "stgcn")
    few = (REFERENCE, Variant("onnx-cpu", "fp32"), Variant("tensorrt-rtx", "fp16"))
    monkeypatch.setattr(compare_runtimes, "__defaults__", (*compare_runtimes.__defaults__[:-2], few, True))
    options = ["--repeats", "2", "--no-memory", "--batches", "1", "--out", str(tmp_path / "out")]
    assert entry(["benchmark", "encoders", "--checkpoint", str(folder), *options]) == 0
    text = (tmp_path / "out" / "encoders.md").read_text()
    assert "## small_stgcn, clips 3x13x25x1" in text and "| onnx-cpu | fp32 | 1 | 1 |" in text
    report = json.loads((tmp_path / "out" / "encoders.json").read_text())
    rows = {(row["runtime"], row["precision"]) for row in report["rows"]}
    assert rows | {tuple(name.split()) for name in report["left_out"]["small_stgcn"]} == set(few)
    assert report["machine"]["cores"] >= 1 and report["rows"][0]["encoder"] == "small_stgcn"
    assert entry(["benchmark", "encoders", "--backbones", "gcn", "--out", str(tmp_path)]) == 2
    assert "unknown backbone gcn; known: ctrgcn" in capsys.readouterr().err
    assert entry(["benchmark", "encoders", "--repeats", "0"]) == 2

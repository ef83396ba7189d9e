from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.cli import benchmark, entry
from engine.live.sources import open_source
from engine.render.motions import motion
from engine.render.video import render_sequence


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_sequence(motion("wave", 2.0, fps=15), tmp_path_factory.mktemp("b") / "wave.mp4", size=(320, 240))


def test_any_clip_becomes_640x480_at_30_frames(clip: Path, tmp_path: Path) -> None:
    path = benchmark._standard_clip(str(clip), tmp_path / "c.mp4")
    with open_source(path, realtime=False) as source:
        times = []
        while (frame := source.read()) is not None:
            assert frame.image.shape == (480, 640, 3)
            times.append(frame.time)
    assert times == pytest.approx([i / 30 for i in range(len(times))], abs=1e-3) and 57 <= len(times) <= 60


def test_live_benchmark_writes_consistent_results(
    clip: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers hang together; how large they are is the machine's business."""
    monkeypatch.setattr(benchmark, "_WARM_UP_S", 0.1)
    arguments = ["--source", str(clip), "--checkpoint", str(tiny_checkpoint), "--out", str(tmp_path)]
    assert entry(["benchmark", "live", *arguments, "--seconds", "2", "--rounds", "1", "--persons", "1"]) == 0
    found = json.loads((tmp_path / "live.json").read_text())
    live, speed = found["live"], found["throughput"]
    assert 0 < live["pose_fps"] <= live["source_fps"] + 1 and live["source_fps"] < 40
    assert live["grab_to_label_ms"]["p95"] >= live["grab_to_label_ms"]["p50"] > 0
    assert {"capture", "pose", "encode", "decide"} <= set(live["stages_ms"])
    assert live["memory_mib"]["peak"] >= live["memory_mib"]["first"] > 50
    assert speed["ratio"] == pytest.approx(speed["chain_fps"] / speed["mediapipe_fps"], rel=0.01)
    text = (tmp_path / "live.md").read_text()
    assert f"{live['pose_fps']:.1f}" in text and "| pose |" in text and found["machine"]["processor"] in text


def test_wrong_usage_and_missing_things(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry(["benchmark", "live", "--seconds", "0"]) == 2
    assert entry(["benchmark", "live", "--checkpoint", str(tmp_path / "gone")]) == 1
    assert entry(["benchmark", "live", "--checkpoint", str(tiny_checkpoint), "--source", "no.mp4"]) == 1
    assert "no such file" in capsys.readouterr().err

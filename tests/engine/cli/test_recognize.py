from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from engine.cli import entry
from engine.live import source_camera
from tests.engine.live.helpers import CameraSocket, waving_pose, write_trace, write_video

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return write_trace(tmp_path / "t.npz", 6.0, [(0, "none"), (1.5, "left"), (4, "none")])


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_lines_are_decisions_segments_summary(tiny_checkpoint: Path, trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert entry(["recognize", str(trace), "--checkpoint", str(tiny_checkpoint), "--json", str(out)]) == 0
    found = lines(out)
    decisions = [item for item in found if "t" in item]
    segments = [item["segment"] for item in found if "segment" in item]
    assert found == [*decisions, *({"segment": s} for s in segments), found[-1]]
    for item in decisions:
        assert list(item) == ["t", "person", "label", "score", "top", "latency_ms"]
        assert item["person"] == 1 and item["label"] in (None, "left") and 0 <= item["score"] <= 1
        assert len(item["top"]) == 3 and sum(p for _, p in item["top"]) == pytest.approx(1, abs=1e-3)
        assert item["latency_ms"] > 0
    assert [list(s) for s in segments] == [["person", "label", "start", "end", "score", "repetitions"]]
    assert segments[0]["label"] == "left"
    assert segments[0]["repetitions"] == 5  # the arm swings for two and a half seconds, twice a second
    assert segments[0]["start"] == pytest.approx(1.5, abs=0.5) and segments[0]["end"] == pytest.approx(4.0, abs=0.6)
    summary = found[-1]["summary"]
    assert list(summary) == ["frames", "pose_frames", "decisions", "fps", "latency_ms", "checkpoint", "runtime"]
    assert summary["frames"] == summary["pose_frames"] == 180 and summary["decisions"] == len(decisions)
    assert summary["latency_ms"]["p95"] >= summary["latency_ms"]["p50"] > 0 and summary["fps"] > 0
    assert (summary["checkpoint"], summary["runtime"]) == ("tiny", "ONNX CPU")


def test_the_same_file_gives_the_same_answer(tiny_checkpoint: Path, trace: Path, tmp_path: Path) -> None:
    runs = []
    for k in range(2):
        out = tmp_path / f"{k}.jsonl"
        assert entry(["recognize", str(trace), "--checkpoint", str(tiny_checkpoint), "--json", str(out)]) == 0
        runs.append([{**i, "latency_ms": 0} if "t" in i else i for i in lines(out)[:-1]])
    assert runs[0] == runs[1] and len(runs[0]) > 30


def test_stdout_holds_results_only(
    tiny_checkpoint: Path, trace: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["recognize", str(trace), "--checkpoint", str(tiny_checkpoint)]
    assert entry([*arguments, "--json", "-"]) == 0
    out, err = capsys.readouterr()
    assert all(json.loads(line) for line in out.splitlines()) and "180 frames" in err
    assert entry([*arguments, "--segments", str(tmp_path / "s.vtt")]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1 and "person 1  left" in out
    assert "person 1: left" in (tmp_path / "s.vtt").read_text()


def test_render_has_every_frame_with_its_time(tiny_checkpoint: Path, trace: Path, tmp_path: Path) -> None:
    video = tmp_path / "out.mp4"
    assert entry(["recognize", str(trace), "--checkpoint", str(tiny_checkpoint), "--render", str(video)]) == 0
    with av.open(str(video)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 180
    assert [f.time for f in frames] == pytest.approx([i / 30 for i in range(180)], abs=1e-3)
    assert frames[100].to_ndarray(format="rgb24").max() > 150


def test_class_subset_and_seconds(tiny_checkpoint: Path, trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    arguments = ["recognize", str(trace), "--checkpoint", str(tiny_checkpoint), "--json", str(out)]
    assert entry([*arguments, "--classes", "right"]) == 0
    assert {item["label"] for item in lines(out) if "t" in item} == {None}
    assert entry([*arguments, "--seconds", "2"]) == 0
    assert lines(out)[-1]["summary"]["frames"] == 61


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["--render", "x.avi"], ".mp4"),
        (["--segments", "x.txt"], ".csv or .vtt"),
        (["--encode-every", "0"], "at least 1"),
        (["--classes", "jump"], "tiny knows idle, left, right"),
        (["--fps", "0"], "above 0"),
    ],
)
def test_wrong_usage_is_two(
    more: list[str], part: str, tiny_checkpoint: Path, trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry(["recognize", str(trace), "--checkpoint", str(tiny_checkpoint), *more]) == 2
    assert part in capsys.readouterr().err


class TestBadInput:
    """Every one: exit status 1 and one clear line on stderr."""

    def fails(self, capsys: pytest.CaptureFixture[str], checkpoint: Path, source: object, *more: str) -> str:
        assert entry(["recognize", str(source), "--checkpoint", str(checkpoint), *more]) == 1
        err = capsys.readouterr().err.strip()
        assert "Traceback" not in err and err.splitlines()[-1].startswith("main.py recognize: ")
        return err

    def test_sources(self, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "empty.mp4").touch()
        (tmp_path / "junk.mp4").write_bytes(b"junk" * 100)
        assert "no such file" in self.fails(capsys, tiny_checkpoint, "no/such.mp4")
        assert "is empty" in self.fails(capsys, tiny_checkpoint, tmp_path / "empty.mp4")
        assert "can't be read as a video" in self.fails(capsys, tiny_checkpoint, tmp_path / "junk.mp4")
        assert "unknown kind of address" in self.fails(capsys, tiny_checkpoint, "foo://x")

    def test_nobody_keeps_the_summary(
        self, tiny_checkpoint: Path, grey_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """With the real pose model."""
        out, video = tmp_path / "o.jsonl", tmp_path / "o.mp4"
        more = ("--json", str(out), "--render", str(video))
        assert "nobody was seen in its 20 frames" in self.fails(capsys, tiny_checkpoint, grey_video, *more)
        (summary,) = lines(out)
        assert summary["summary"]["frames"] == 20 and summary["summary"]["pose_frames"] == 0
        assert summary["summary"]["latency_ms"] == {"p50": None, "p95": None}
        with av.open(str(video)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 20

    def test_one_frame(self, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write_video(tmp_path / "one.mp4", [np.zeros((48, 64, 3), np.uint8)])
        assert "nobody was seen in its 1 frame" in self.fails(capsys, tiny_checkpoint, path)
        short = write_trace(tmp_path / "one.npz", 1 / 30, [(0, "left")])
        assert "too short" in self.fails(capsys, tiny_checkpoint, short)

    def test_nan_landmarks(self, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        np.savez(tmp_path / "nan.npz", landmarks=np.full((40, 33, 4), np.nan))
        assert "nobody was seen" in self.fails(capsys, tiny_checkpoint, tmp_path / "nan.npz")
        poses = [waving_pose(i / 30) for i in range(90)]
        landmarks = np.array([np.concatenate([p.image, p.visibility[:, None]], 1) for p in poses])
        landmarks[40:45] = np.nan
        landmarks[60, 15] = np.nan
        np.savez(tmp_path / "some.npz", landmarks=landmarks)
        out = tmp_path / "o.jsonl"
        arguments = ["recognize", str(tmp_path / "some.npz"), "--checkpoint", str(tiny_checkpoint), "--json", str(out)]
        assert entry(arguments) == 0
        assert lines(out)[-1]["summary"]["pose_frames"] == 84

    def test_checkpoints(self, trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "is not a checkpoint folder" in self.fails(capsys, tmp_path / "gone", trace)
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "card.json").write_text("{")
        assert "is damaged" in self.fails(capsys, tmp_path / "bad", trace)

    def test_missing_bundle(
        self, tiny_checkpoint: Path, grey_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        from engine import paths

        monkeypatch.setattr(paths, "POSE_BUNDLE", tmp_path / "gone.task")
        assert "gone.task" in self.fails(capsys, tiny_checkpoint, grey_video)

    def test_camera_unplugged_for_good_keeps_everything(
        self, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import threading

        from engine.cli import live
        from engine.live.chain import PoseStage
        from tests.engine.live.helpers import ScriptedDetector

        socket = CameraSocket()
        monkeypatch.setattr(source_camera, "open_capture", socket.open)
        monkeypatch.setattr(PoseStage, "_load", lambda self: ScriptedDetector())
        real = live.run_chain
        monkeypatch.setattr(live, "run_chain", lambda *a, **k: real(*a, **k, patience=0.5))
        threading.Timer(1.5, lambda: setattr(socket, "plugged", False)).start()
        out = tmp_path / "o.jsonl"
        err = self.fails(capsys, tiny_checkpoint, "0", "--json", str(out))
        assert "warning: camera 0 stopped" in err and "did not come back" in err
        found = lines(out)
        assert found[-1]["summary"]["decisions"] == sum("t" in item for item in found) > 3


def run_until_frames(arguments: list[str], out: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-m", "engine.cli", *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline and child.poll() is None and not (out.exists() and out.stat().st_size > 6000):
        time.sleep(0.02)
    return child


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_cleanly_with_everything_written(
    which: signal.Signals, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    path = write_trace(tmp_path / "long.npz", 300.0, [(0, "left")])
    out, video = tmp_path / "o.jsonl", tmp_path / "o.mp4"
    arguments = [
        "recognize",
        str(path),
        "--checkpoint",
        str(tiny_checkpoint),
        "--json",
        str(out),
        "--render",
        str(video),
    ]
    child = run_until_frames(arguments, out)
    child.send_signal(which)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 0 and "stopped by the user" in err, err
    found = lines(out)
    summary = found[-1]["summary"]
    assert 0 < summary["frames"] < 9000 and summary["decisions"] == sum("t" in item for item in found)
    assert any("segment" in item for item in found)
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == summary["frames"]

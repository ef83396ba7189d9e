"""A second encoder on the same windows: its own decisions, agreement, swaps while running, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.live.pipeline import LivePipeline
from engine.live.types import LiveState
from tests.engine.live.helpers import build_checkpoint, write_trace
from tests.engine.live.test_pipeline import no_thread_is_left, texts, until

__all__ = ["no_thread_is_left"]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return write_trace(tmp_path / "t.npz", 4.0, [(0, "none"), (0.5, "left")])


def compared(pipeline: LivePipeline) -> int:
    rival = pipeline.snapshot().rival
    return rival.compared if rival is not None else 0


def agreement(pipeline: LivePipeline) -> float | None:
    rival = pipeline.snapshot().rival
    return rival.agreement if rival is not None else None


def test_off_by_default(tiny_checkpoint: Path, trace: Path) -> None:
    with LivePipeline(str(trace), checkpoint=tiny_checkpoint, realtime=False) as pipeline:
        assert pipeline.wait(LiveState.ENDED, timeout=10)
        assert pipeline.snapshot().rival is None


def test_the_same_encoder_agrees_with_itself_and_is_compared_on_every_decision(
    tiny_checkpoint: Path, trace: Path, tmp_path: Path
) -> None:
    twin = build_checkpoint(tmp_path / "twin", "twin")
    pipeline = LivePipeline(str(trace), checkpoint=tiny_checkpoint)
    pipeline.compare_with(twin)
    with pipeline:
        assert pipeline.wait(LiveState.ENDED, timeout=12)
        found = pipeline.snapshot()
    rival = found.rival
    assert rival is not None and rival.checkpoint == "twin" and rival.runtime == "ONNX CPU" and rival.window_s == 1.5
    assert rival.agreement == 1.0 and 5 < rival.compared <= pipeline.counts["decisions"]
    assert [s.label for s in rival.segments] == [s.label for s in found.segments] == ["left"]
    assert rival.encode is not None and rival.latency is not None and found.latency is not None
    assert found.checkpoint == "tiny"


def test_an_encoder_that_never_speaks_disagrees(tiny_checkpoint: Path, trace: Path, tmp_path: Path) -> None:
    silent = build_checkpoint(tmp_path / "silent", "silent", min_motion=1e9)
    with LivePipeline(str(trace), checkpoint=tiny_checkpoint) as pipeline:
        pipeline.compare_with(silent)
        assert until(lambda: any(d.label for d in pipeline.snapshot().decisions.values()))
        # The second decides after the first: the moment at which the first speaks is compared a little later.
        assert until(lambda: compared(pipeline) > 3 and agreement(pipeline) != 1)
        rival = pipeline.snapshot().rival
        assert rival is not None
        assert all(d.label is None for d in rival.decisions.values()) and rival.segments == ()


def test_both_are_swapped_while_running_and_the_longer_window_is_kept(
    tiny_checkpoint: Path, trace: Path, tmp_path: Path
) -> None:
    long = build_checkpoint(tmp_path / "long", "long", window_s=3.0)
    other = build_checkpoint(tmp_path / "other", "other", window_s=1.0)
    with LivePipeline(str(trace), checkpoint=tiny_checkpoint) as pipeline:
        assert until(lambda: pipeline.snapshot().checkpoint == "tiny")
        pipeline.compare_with(long)
        assert until(lambda: pipeline.snapshot().rival is not None)
        assert pipeline._window.seconds == 4.0
        pipeline.switch_checkpoint(other)
        assert until(lambda: pipeline.snapshot().checkpoint == "other")
        assert pipeline._window.seconds == 4.0, "the second encoder looks back farther"
        pipeline.set_decision(enter=0.9)
        assert pipeline._rival is not None and pipeline._rival.stage.decider.decision.enter == 0.9
        pipeline.compare_with(None)
        assert until(lambda: pipeline.snapshot().rival is None)
        assert pipeline._window.seconds == 2.0
        pipeline.compare_with(tmp_path / "nowhere")
        assert until(lambda: any("nothing is compared" in text for _, text in pipeline._messages))
        assert "not a checkpoint folder" in texts(pipeline)
        assert pipeline.snapshot().rival is None and pipeline.snapshot().checkpoint == "other"


def test_stop_while_it_loads(tiny_checkpoint: Path, trace: Path, tmp_path: Path) -> None:
    twin = build_checkpoint(tmp_path / "twin", "twin")
    pipeline = LivePipeline(str(trace), checkpoint=tiny_checkpoint)
    for _ in range(2):
        pipeline.start()
        pipeline.compare_with(twin)
        assert pipeline.stop()
        assert pipeline._rival is None

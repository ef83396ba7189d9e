"""From pixels: the rendered actor, the real MediaPipe, tracking, window, encoder and decision, in one run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from engine.live.chain import LiveChain, PoseOptions, PoseStage
from engine.live.drive import run_chain
from engine.live.pipeline import LivePipeline
from engine.live.recogniser import Recogniser
from engine.live.sources import open_source
from engine.live.types import LiveState
from engine.render.motions import motion
from engine.render.video import render_sequence
from tests.engine.live.helpers import build_checkpoint
from tests.shared_data import shared


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A right-handed wave of three seconds, 320x240, 15 frames a second."""
    return render_sequence(motion("wave", 3.0, fps=15), tmp_path_factory.mktemp("actor") / "wave.mp4", size=(320, 240))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


def test_the_waving_hand_is_named_from_pixels(clip: Path, checkpoint: Path) -> None:
    chain = LiveChain(PoseStage(PoseOptions(num_poses=1)), Recogniser(checkpoint), encode_every=3)
    with open_source(clip, realtime=False) as source:
        results = list(run_chain(chain, source))
    chain.finish()
    chain.close()
    assert len(results) == 45 and [r.frame.index for r in results] == list(range(45))
    assert sum(bool(r.pose.persons) for r in results) >= 43
    labels = [d.label for r in results for d in r.decisions]
    assert "right" in labels and "left" not in labels
    assert [s.label for s in chain.segments] == ["right"]


def test_a_mirrored_picture_is_turned_back(clip: Path, checkpoint: Path, tmp_path: Path) -> None:
    """Seen through a mirror the other hand waves, unless the program is told."""
    found = {}
    for mirrored in (True, False):
        chain = LiveChain(PoseStage(PoseOptions(num_poses=1)), Recogniser(checkpoint), encode_every=3)
        with open_source(clip, realtime=False, mirrored=mirrored) as source:
            found[mirrored] = {d.label for r in run_chain(chain, source) for d in r.decisions} - {None}
        chain.close()
    assert found == {True: {"left"}, False: {"right"}}


def test_threads_and_real_pose(clip: Path, checkpoint: Path) -> None:
    pipeline = LivePipeline(str(clip), checkpoint=checkpoint, pose=PoseOptions(num_poses=1), realtime=False)
    with pipeline:
        assert pipeline.wait(LiveState.ENDED, timeout=60)
        assert pipeline.counts["frames"] == pipeline.counts["pose_frames"] == 45
        begin = time.monotonic()
    assert time.monotonic() - begin < 3.0
    assert pipeline.state is LiveState.IDLE


def test_real_video_of_a_squat(checkpoint: Path) -> None:
    chain = LiveChain(PoseStage(PoseOptions(num_poses=1)), Recogniser(checkpoint))
    with open_source(shared("videos/squat_correct_001.avi"), realtime=False) as source:
        results = list(run_chain(chain, source))
    chain.close()
    assert len(results) == 49
    assert sum(bool(r.pose.persons) for r in results) >= 45
    assert sum(len(r.decisions) for r in results) >= 7

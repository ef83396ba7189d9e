from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.live.pipeline import LivePipeline
from engine.live.recogniser import Recogniser
from engine.live.source_files import TraceSource
from engine.live.taught import FeatureSpace, TaughtActions, TaughtError, Veto, unit
from engine.live.types import LiveState
from engine.models.card import CheckpointCard
from engine.teach.known import statistics
from engine.teach.learn import Examples, fit
from tests.engine.live.helpers import CLASSES, write_trace

K, D = 4, 6


def made(rng: np.random.Generator, **changes: object) -> TaughtActions:
    values: dict = {
        "checkpoint": "c", "weights": "", "known": ("a", "b", "c", "idle"), "classes": ("new", "newer"),
        "space": FeatureSpace(rng.normal(size=D).astype(np.float32), rng.normal(size=(3, D)).astype(np.float32)),
        "reference": rng.normal(size=(5, 3)), "reference_bias": rng.normal(size=5), "rows": rng.normal(size=(4, 3)),
        "bias": rng.normal(size=4), "owner": np.array([4, 5, 5, 1]), "scale": 3.0, "margin": -0.5, "idle": 3,
    }  # fmt: skip
    return TaughtActions(**(values | changes))


def test_extended_logits_against_loops() -> None:
    rng = np.random.default_rng(0)
    taught = made(rng)
    logits, features = rng.normal(size=(7, K)).astype(np.float32), rng.normal(size=(7, D)).astype(np.float32)
    found = taught.extend(logits, features)
    assert found.shape == (7, 6) and found.dtype == np.float32
    for n in range(7):
        look = taught.space.projection @ (features[n] - taught.space.centre)
        look = look / np.linalg.norm(look)
        rival = max(float(look @ r + b) for r, b in zip(taught.reference, taught.reference_bias))
        expected = [*map(float, logits[n]), -np.inf, -np.inf]
        for row, bias, owner in zip(taught.rows, taught.bias, taught.owner):
            said = max(map(float, logits[n])) + 3.0 * (float(look @ row + bias) - rival) + 0.5
            expected[owner] = max(expected[owner], said)
        np.testing.assert_allclose(found[n], expected, rtol=1e-4, atol=1e-4)
    only_new = replace(taught, rows=taught.rows[:3], bias=taught.bias[:3], owner=taught.owner[:3])
    assert (only_new.extend(logits, features)[:, :K] == logits).all(), "known classes compete as before"


def test_what_is_not_finite_is_never_taught() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(2, K)).astype(np.float32)
    features = np.full((2, D), np.nan, np.float32)
    found = made(rng).extend(logits, features)
    assert (found[:, :K] == logits).all() and (found[:, K:] == logits.min(1, keepdims=True)).all()


def test_a_correction_sends_its_look_alikes_to_nothing() -> None:
    rng = np.random.default_rng(2)
    space = FeatureSpace(np.zeros(D, np.float32))
    right, wrong = unit(rng.normal(size=(2, D)))[:, None]
    for owner, idle, target in ((4, 3, 3), (0, 3, 3), (4, None, None)):
        taught = made(
            rng, space=space, reference=np.eye(D)[:2], reference_bias=np.zeros(2), rows=np.eye(D)[:1],
            bias=np.zeros(1), owner=np.array([4]), vetoes=(Veto(owner, wrong, right),), idle=idle,
        )  # fmt: skip
        logits = np.zeros((2, K), np.float32)
        logits[:, 0] = 5.0
        free = replace(taught, vetoes=()).extend(logits, np.concatenate([right, wrong]))
        found = taught.extend(logits, np.concatenate([right, wrong]))
        assert (found[0] == free[0]).all(), "what is like the takes stays"
        assert found[1, owner] <= logits[1].min()
        if target is not None:
            assert found[1, target] == max(free[1, target], free[1, owner])
    unlike = -wrong
    assert (taught.extend(logits[:1], unlike) == replace(taught, vetoes=()).extend(logits[:1], unlike)).all()


def test_taught_on_another_encoder_is_refused(tiny_checkpoint: Path) -> None:
    recogniser = Recogniser(tiny_checkpoint, "onnx")
    taught = made(np.random.default_rng(3))
    assert not taught.fits(recogniser.card)
    with pytest.raises(TaughtError, match="taught on c, not on this tiny"):
        recogniser.use_taught(taught)
    assert recogniser.card.classes == CLASSES and recogniser.taught is None
    with pytest.raises(TaughtError, match="names of their own"):
        made(np.random.default_rng(3), classes=("a", "newer"))
    recogniser.close()


def both_hands(card: CheckpointCard) -> TaughtActions:
    """For the tiny checkpoint, whose features are how fast every joint moves: both hands instead of one."""
    rng = np.random.default_rng(4)
    speed = np.zeros((4, 25), np.float32)
    arms = {"left": (5, 6, 7, 21, 22), "right": (9, 10, 11, 23, 24)}
    speed[1, arms["left"]] = speed[2, arms["right"]] = 0.02
    speed[3] = speed[1] + speed[2]
    windows = np.repeat(speed, 20, 0) * rng.uniform(0.8, 1.2, (80, 1)).astype(np.float32)
    windows += rng.normal(0, 5e-4, windows.shape).astype(np.float32)
    known = statistics(CLASSES, windows[:60], np.repeat(np.arange(3), 20))
    return fit(card, [Examples("both", (windows[60:70], windows[70:]))], known=known)


def test_taught_while_the_pipeline_runs(tiny_checkpoint: Path, tmp_path: Path) -> None:
    trace = write_trace(tmp_path / "t.npz", 4.0, [(0, "left")])
    with np.load(trace) as file:
        arrays = dict(file)
    right = write_trace(tmp_path / "r.npz", 4.0, [(0, "right")])
    with np.load(right) as file:
        still = write_trace(tmp_path / "s.npz", 4.0, [(0, "none")])
        with np.load(still) as rest:
            for name in ("world", "landmarks"):
                arrays[name] = arrays[name] + file[name] - rest[name]
    np.savez(tmp_path / "both.npz", **arrays)

    def play(taught: TaughtActions | None, late: bool) -> tuple[set[str | None], tuple[str, ...], LivePipeline]:
        source = TraceSource(tmp_path / "both.npz", realtime=False)
        pipeline = LivePipeline(source, checkpoint=tiny_checkpoint, runtime="onnx", encode_every=2)
        if not late:
            pipeline.use_taught(taught)
        with pipeline:
            assert pipeline.wait(LiveState.ENDED, timeout=60)
            if late:
                # Played again, after the change: the same source, the same encoder.
                pipeline.use_taught(taught)
                pipeline.resume()
                assert pipeline.wait(LiveState.RUNNING, timeout=20) and pipeline.wait(LiveState.ENDED, timeout=60)
            snapshot = pipeline.snapshot()
            past = pipeline.poses(None, start=1.0, end=3.0)
        assert past is not None and past.xyz.shape == (past.times.size, 2, 25, 3)
        assert 1.9 < past.duration < 2.1 and not past.xyz[:, 1].any()
        return {s.label for s in snapshot.segments}, snapshot.taught, pipeline

    recogniser = Recogniser(tiny_checkpoint, "onnx")
    taught = both_hands(recogniser.card)
    recogniser.close()
    assert "both" not in play(None, False)[0]
    assert play(taught, False)[:2] == ({"both"}, ("both",))
    assert play(taught, True)[:2] == ({"both"}, ("both",))
    other = replace(taught, checkpoint="another")
    labels, names, pipeline = play(other, False)
    assert "both" not in labels and names == ()
    assert any("belong to another" in text for _, text in pipeline.messages())

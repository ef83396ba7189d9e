from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.data.start_pose import arms_stretched
from engine.data.store import SequenceStore, write_store
from engine.live.chain import LiveChain
from engine.live.decision_stage import DecisionStage
from engine.live.recogniser import Recogniser
from engine.render.motions import motion
from engine.skeleton.layout import NTU25
from engine.skeleton.sequence import SkeletonSequence
from engine.skeleton.speed import STILL_SPEED, joint_speed
from engine.streams.calibration import min_score_that_keeps
from engine.streams.chained import StreamSettings, make_streams
from engine.streams.event_metrics import judge
from engine.streams.watching import StoredPoses, decide, decide_live, frames_of, run_stream, watch
from tests.engine.live.helpers import build_checkpoint

PERFORMED = {"left": "raise left arm", "right": "wave"}


def padded(name: str, label: int, subject: int, trial: int, height: float) -> SkeletonSequence:
    """An action with half a second of standing still before and after it."""
    act = motion(PERFORMED[name], 2.0 + 0.1 * trial, height=height)
    xyz = np.concatenate([act.xyz[:1].repeat(15, 0), act.xyz, act.xyz[-1:].repeat(15, 0)])
    meta = {"subject": subject}
    return SkeletonSequence(xyz, np.arange(len(xyz)) / 30, name=f"{name} {subject} {trial}", label=label, meta=meta)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SequenceStore:
    sequences = [
        padded(name, label, subject, trial, 1.6 + 0.1 * subject)
        for subject in (1, 2)
        for label, name in enumerate(PERFORMED)
        for trial in range(3)
    ]
    folder = tmp_path_factory.mktemp("home") / "stores" / "utd_mhad"
    return write_store(folder, "utd_mhad", sequences, list(PERFORMED), 30.0)


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    return Recogniser(build_checkpoint(tmp_path_factory.mktemp("tiny"), enter=0.5, leave=0.4))


def test_streams_hold_what_they_say(store: SequenceStore) -> None:
    settings = StreamSettings(seconds=60, idle_s=(1.5, 3.0), seed=3)
    first, second = make_streams(store, np.arange(len(store)), settings)
    again, _ = make_streams(store, np.arange(len(store)), settings)
    other, _ = make_streams(store, np.arange(len(store)), StreamSettings(seconds=60, idle_s=(1.5, 3.0), seed=4))
    np.testing.assert_array_equal(first.sequence.xyz, again.sequence.xyz)
    assert first.truth == again.truth and first.truth != other.truth
    assert len(first.truth) == len(second.truth) == 6  # all of a subject's own, each once
    xyz, times = first.sequence.xyz[:, 0], first.sequence.times
    speed = joint_speed(xyz, times)
    inside = np.zeros(len(times), bool)
    for action, cut in zip(first.truth, first.cut, strict=True):
        assert cut.start + 0.3 < action.start < action.end < cut.end - 0.3  # the still ends are not the action
        a, b = round(cut.start * 30), round(cut.end * 30) + 1
        names = [n for n in store.names if n.startswith(f"{action.label} 1")]
        performed = [store.sequence(store.names.index(n)).xyz[:, 0] for n in names]
        assert any(len(p) == b - a and np.allclose(p, xyz[a:b], atol=1e-5) for p in performed)
        inside[round(action.start * 30) : round(action.end * 30) + 1] = True
    assert speed[~inside].mean() < STILL_SPEED < speed[inside].mean() / 3
    gaps = [b.start - a.end for a, b in zip(first.truth[:-1], first.truth[1:], strict=True)]
    assert min(gaps) > 1.5
    # No joint jumps, and no limb changes its length on the way between two poses.
    assert np.linalg.norm(np.diff(xyz, axis=0), axis=-1).max() < 0.25
    bones = np.array([(v, p) for v, p in enumerate(NTU25.parents) if v != p])
    lengths = np.linalg.norm(xyz[:, bones[:, 0]] - xyz[:, bones[:, 1]], axis=-1)
    assert (np.ptp(lengths, axis=0) < 0.03).all()


def test_nobody_begins_an_action_in_the_start_pose_of_a_laboratory(tmp_path: Path) -> None:
    sequences = []
    for trial in range(3):
        act = padded("left", 0, 1, trial, 1.7)
        spread, sinking = act.xyz[:1].repeat(20, 0), np.linspace(0, 1, 15)[:, None, None, None]
        for side, sign in (("Left", -1.0), ("Right", 1.0)):
            shoulder = spread[:, :, NTU25.index(f"Shoulder{side}")]
            outwards = np.sign(shoulder[0, 0, 0] - spread[0, 0, NTU25.index("SpineShoulder"), 0]) or sign
            for name, far in (("Elbow", 0.28), ("Wrist", 0.52), ("Hand", 0.6), ("HandTip", 0.66), ("Thumb", 0.62)):
                spread[:, :, NTU25.index(f"{name}{side}")] = shoulder + np.array([outwards * far, 0.0, 0.0])
        down = spread[:1] * (1 - sinking) + act.xyz[:1] * sinking
        xyz = np.concatenate([spread, down, act.xyz]).astype(np.float32)
        times = np.arange(len(xyz)) / 30
        sequences.append(SkeletonSequence(xyz, times, name=f"left 1 {trial}", label=0, meta={"subject": 1}))
    for name, shown in (("kinder_gator", False), ("another", True)):
        kept = write_store(tmp_path / name, name, sequences, ["left"], 30.0)
        (stream,) = make_streams(kept, np.arange(3), StreamSettings(seconds=30, seed=5))
        assert arms_stretched(stream.sequence.xyz[:, 0]).any() == shown and len(stream.truth) >= 2


def test_strangers_fit_the_person_and_are_not_known(store: SequenceStore) -> None:
    settings = StreamSettings(seconds=40, unknown_share=0.6, seed=1)
    mine = np.flatnonzero(store.column("subject") == 1)
    theirs = np.flatnonzero(store.column("subject") == 2)
    (stream,) = make_streams(store, mine, settings, (store, theirs))
    unknown = [t for t in stream.truth if not t.known]
    assert unknown and len(unknown) < len(stream.truth)
    size = np.linalg.norm(stream.sequence.xyz[:, 0, 5] - stream.sequence.xyz[:, 0, 4], axis=-1)
    assert np.ptp(size) < 0.02  # upper arms of a person 10 cm taller


def test_batches_decide_exactly_as_the_live_path(store: SequenceStore, recogniser: Recogniser) -> None:
    stream = next(make_streams(store, np.arange(len(store)), StreamSettings(seconds=40, seed=2)))
    decisions, found = decide(DecisionStage(recogniser), watch(recogniser, stream.sequence))
    chain = LiveChain(StoredPoses(stream.sequence), recogniser)
    live_decisions, live_found = decide_live(chain, frames_of(stream.sequence))
    assert [(d.time, d.label, d.repetitions) for d in decisions] == [
        (d.time, d.label, d.repetitions) for d in live_decisions
    ]
    np.testing.assert_allclose([d.score for d in decisions], [d.score for d in live_decisions], atol=1e-6)
    assert found == live_found and len(found) >= 4


def test_actions_of_a_stream_are_found(store: SequenceStore, recogniser: Recogniser) -> None:
    streams = list(make_streams(store, np.arange(len(store)), StreamSettings(seconds=60, seed=2)))
    report = judge([run_stream(recogniser, stream) for stream in streams])
    assert report.rates[0.5].f1 >= 0.9 and report.false_alarms == 0
    assert abs(np.median(report.start_error)) < 0.2 and abs(np.median(report.end_error)) < 0.2
    assert np.median(report.closing) < 1.0
    assert all(named.size and (named > 0).all() for named in (report.from_start,))


def test_an_action_nobody_is_sure_of_or_hardly_there_is_taken_back(
    store: SequenceStore, recogniser: Recogniser
) -> None:
    stream = next(make_streams(store, np.arange(len(store)), StreamSettings(seconds=25, seed=2)))
    moments = watch(recogniser, stream.sequence)

    def played(**values: float) -> list[float]:
        stage = DecisionStage(recogniser)
        stage.use_decision(values)
        decide(stage, moments)
        return [segment.score for segment in stage.segments]

    scores = played()
    least = float(np.median(scores)) + 1e-6
    assert played(min_score=least) == [score for score in scores if score >= least] != scores
    # Asked is how long the word stood, and how long the action is before its ends are trimmed.
    for rule in ("min_shown_s", "min_s"):
        kept = [len(played(**{rule: 0.1 * tenths})) for tenths in range(0, 60, 5)]
        assert kept == sorted(kept, reverse=True) and kept[0] == len(scores) and kept[-1] == 0
    stage = DecisionStage(recogniser)
    decide(stage, moments)
    shown = [segment.shown_s for segment in stage.segments]
    for least in (2.1, 2.2, 2.3):  # at every fourth frame the count is whole windows, and stays as it is
        assert len(played(min_shown_s=least)) == sum(seconds >= least for seconds in shown)
    assert min(shown) < 2.2 <= max(shown)
    stage = DecisionStage(recogniser)
    stage.use_decision({"min_score": 1.0})
    stage._own_classes = frozenset({"left"})  # "right" was taught: its scores are its own
    decide(stage, moments)
    assert {segment.label for segment in stage.segments} == {"right"}


def test_the_command_measures_and_writes(
    store: SequenceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.cli import entry

    monkeypatch.setenv("SKELAPP_HOME", str(store.folder.parent.parent))
    folder = build_checkpoint(tmp_path / "tiny", enter=0.5, leave=0.4)
    words = ["benchmark", "streams", "--checkpoint", str(folder), "--dataset", "utd_mhad", "--split", "xsub"]
    assert entry([*words, "--minutes", "1", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "streams.md").read_text("utf-8")
    content = json.loads((tmp_path / "streams.json").read_text("utf-8"))
    assert content["people"] == 1 and content["rates"]["0.5"]["f1"] >= 0.8  # subject 2 alone is the test part
    assert f"{content['rates']['0.5']['f1']:.3f}" in page and page.splitlines()[6] in capsys.readouterr().out
    assert entry([*words, "--minutes", "0"]) == 2
    assert entry([*words, "--unknown", "utd_mhad"]) == 2
    header = store.folder / "store.json"
    kept = header.read_text("utf-8")
    about = json.loads(kept)
    about["about"]["merged"] = {"kinder_gator": {"sequences": 1}}
    header.write_text(json.dumps(about), "utf-8")
    capsys.readouterr()
    assert entry([*words, "--unknown", "kinder_gator"]) == 2
    header.write_text(kept, "utf-8")
    assert "utd_mhad was merged from it" in capsys.readouterr().err


def test_values_are_fitted_on_streams_of_training_subjects(
    store: SequenceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.cli import entry
    from engine.models.card import read_card, write_card

    monkeypatch.setenv("SKELAPP_HOME", str(store.folder.parent.parent))
    folder = build_checkpoint(tmp_path / "tiny", enter=0.999, leave=0.4)  # hardly anything is ever named
    words = ["calibrate", "streams", str(folder), "--dataset", "utd_mhad", "--split", "xsub", "--minutes", "0.5"]
    assert entry(words) == 0
    card = read_card(folder)
    before, after = (float(line.split()[2]) for line in capsys.readouterr().out.splitlines()[:2])
    assert after > before and after >= 0.8
    assert card.decision.enter < 0.9 and card.decision.min_score > 0.3
    assert card.training["decision_fitted_on_streams"]["subjects"] == [1]
    assert entry([*words, "--subjects", "2"]) == 2  # a test subject
    shipped, other = build_checkpoint(tmp_path / "shipped", enter=0.9), build_checkpoint(tmp_path / "other")
    assert entry(["calibrate", "copy", str(shipped), str(other)]) == 2
    assert "was not calibrated" in capsys.readouterr().err
    assert entry(["calibrate", "copy", str(folder), str(shipped)]) == 0
    copied = read_card(shipped)
    assert copied.decision == card.decision
    assert copied.training["decision_fitted_on_streams"]["twin_split"] == card.split
    write_card(copied.model_copy(update={"backbone_args": {"base_channels": 99}}), other)
    assert entry(["calibrate", "copy", str(shipped), str(other)]) == 2
    assert "another backbone_args" in capsys.readouterr().err


def test_min_score_keeps_the_share_it_must() -> None:
    scores = [0.5, 0.615, 0.7, 0.8, 0.95]
    assert min_score_that_keeps(scores, 1.0) == 0.5
    assert min_score_that_keeps(scores, 0.8) == 0.61
    assert min_score_that_keeps([0.99], 1.0) == 0.9 and min_score_that_keeps([], 0.9) == 0.0

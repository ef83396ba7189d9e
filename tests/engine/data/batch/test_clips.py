"""Batches made for evaluation are what the live path's function makes of each sequence."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from engine.data.augment import evaluation_clip
from engine.data.batch.clips import ClipMaker, read_frames
from engine.data.batch.gather import BodyFrames
from engine.data.batch.sampling import CentreCrop, RandomCrop, SortedCopies, Window
from engine.data.normalise_papers import NORMALISATIONS
from engine.data.preprocess import Preprocessing, normalise
from engine.data.store import write_store
from engine.models.card import CheckpointCard
from engine.paths import TRAINED_MODELS
from tests.engine.data.batch.stores import make_store, sequences

SAMPLINGS = ["window", "linspace", "centre_crop", "resize", "first", "repeat"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "float32")


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "float16", half=True)


@pytest.fixture(scope="module")
def kinect(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "kinect", layout="kinect20", joints=20, fps=17.0)


def assert_batch_is_preprocess(store, spec):
    indices = torch.from_numpy(np.random.default_rng(0).permutation(len(store)))
    clips = ClipMaker(BodyFrames(store), spec)(indices)
    assert clips.shape == (len(store), *spec.shape) and clips.dtype == torch.float32
    for i, clip in zip(indices.tolist(), clips.numpy(), strict=True):
        expected = evaluation_clip(store.sequence(i), spec)
        # Divided by a small body numbers are large, and so is their rounding.
        extent = max(1.0, float(np.abs(expected).max()))
        assert np.abs(clip - expected).max() <= 1e-5 * extent, (store.names[i], np.abs(clip - expected).max(), extent)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("centre", ["first", "mean", "each", "each_ground", "none"])
@pytest.mark.parametrize("scale", ["none", "torso", "limbs", "minmax"])
def test_every_setting_of_a_card(store, sampling, centre, scale):
    facing = (len(sampling) + len(centre)) % 2 == 0
    assert_batch_is_preprocess(
        store, Preprocessing(persons=2, frames=20, sampling=sampling, centre=centre, scale=scale, facing=facing)
    )


@settings(deadline=None, max_examples=40)
@given(
    sampling=st.sampled_from(SAMPLINGS),
    frames=st.integers(2, 90),
    persons=st.integers(1, 2),
    window=st.floats(0.2, 6),
    centre=st.sampled_from(["first", "mean", "each", "each_ground", "none"]),
    scale=st.sampled_from(["none", "torso", "limbs", "minmax"]),
    facing=st.booleans(),
    stream=st.sampled_from(["joint", "bone", "joint_motion", "bone_motion"]),
    which=st.sampled_from(["store", "half", "kinect"]),
)
def test_any_card(request, sampling, frames, persons, window, centre, scale, facing, stream, which):
    spec = Preprocessing(
        sampling=sampling,
        frames=frames,
        persons=persons,
        window_s=window,
        centre=centre,
        scale=scale,
        facing=facing,
        stream=stream,
    )
    assert_batch_is_preprocess(request.getfixturevalue(which), spec)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("name", [name for name in NORMALISATIONS if name != "none"])
def test_normalisations_of_papers(store, name, sampling):
    assert_batch_is_preprocess(store, Preprocessing(persons=2, frames=20, sampling=sampling, normalisation=name))


@pytest.mark.parametrize("folder", sorted(TRAINED_MODELS.glob("*/card.json")), ids=lambda path: path.parent.name)
def test_shipped_cards(store, kinect, folder):
    spec = CheckpointCard.model_validate_json(folder.read_text("utf-8")).preprocessing
    assert_batch_is_preprocess(store, spec)
    assert_batch_is_preprocess(kinect, spec)


def test_a_normalised_store_is_not_normalised_twice(tmp_path, store):
    spec = Preprocessing(persons=2, frames=16, sampling="centre_crop", normalisation="cmd")
    done = []
    for sequence in sequences():
        sequence.xyz[...] = normalise(sequence.xyz, spec)
        done.append(sequence)
    normalised = write_store(tmp_path / "done", "small", done, list("abcde"), 30.0, about={"normalised": "cmd"})
    assert normalised.sequence(3).meta["normalised"] == "cmd"
    assert_batch_is_preprocess(normalised, spec)
    everyone = torch.arange(len(store))
    once = ClipMaker(BodyFrames(normalised), spec)(everyone)
    assert torch.allclose(once, ClipMaker(BodyFrames(store), spec)(everyone), atol=1e-5)
    other = spec.model_copy(update={"normalisation": "hiclr"})
    with pytest.raises(ValueError, match="already normalised as 'cmd'; the card wants 'hiclr'"):
        ClipMaker(BodyFrames(normalised), other)


def test_random_rules_read_other_frames_of_the_same_thing(store):
    # A crop rule that keeps everything is the evaluation crop.
    spec = Preprocessing(persons=2, sampling="centre_crop", centre="mean", scale="torso")
    everyone = torch.arange(len(store))
    frames = BodyFrames(store)
    assert torch.equal(ClipMaker(frames, spec, CentreCrop(64))(everyone), ClipMaker(frames, spec)(everyone))
    drawn = ClipMaker(frames, spec, RandomCrop())(everyone, torch.Generator().manual_seed(1))
    again = ClipMaker(frames, spec, RandomCrop())(everyone, torch.Generator().manual_seed(1))
    assert torch.equal(drawn, again)
    with pytest.raises(ValueError, match="Generator"):
        ClipMaker(frames, spec, RandomCrop())(everyone)


def test_nw_ucla_turns_the_sequence_then_spreads_it_then_picks_frames(kinect):
    # datasets.md, 4.4: min-max sees every frame of the turned sequence, not only those picked.
    spec = Preprocessing(layout="kinect20", frames=52, sampling="linspace", scale="minmax")
    turn = torch.linalg.qr(torch.randn((3, 3), generator=torch.Generator().manual_seed(0)))[0]
    rule = SortedCopies()
    maker = ClipMaker(BodyFrames(kinect), spec, rule, lambda clips, _: torch.einsum("ab,nbtvm->natvm", turn, clips))
    everyone = torch.arange(len(kinect))
    clips = maker(everyone, torch.Generator().manual_seed(2))
    chosen = rule(torch.from_numpy(kinect.length), torch.Generator().manual_seed(2)).long().numpy()
    for i, clip in enumerate(clips.numpy()):
        turned = kinect.sequence(i).xyz[:, :1] @ turn.numpy().T
        expected = normalise(turned, spec)[chosen[i]].transpose(3, 0, 2, 1)
        assert np.allclose(clip, expected, atol=1e-5)


def test_padding_is_counted(store):
    spec = Preprocessing(persons=2, frames=70, sampling="first", normalisation="gl_transformer")
    clips, lengths = ClipMaker(BodyFrames(store), spec).read(torch.arange(len(store)))
    assert lengths.tolist() == store.length.clip(max=70).tolist()
    assert not clips[2, :, 5:].any()
    assert ClipMaker(BodyFrames(store), Preprocessing()).read(torch.arange(2))[1].tolist() == [64, 64]


def test_reading_finished_clips_is_reading_the_store(store):
    rng = np.random.default_rng(0)
    frames, everyone = BodyFrames(store), torch.arange(len(store))
    grid = torch.arange(int(store.length.max()), dtype=torch.float64)
    whole = frames.gather(everyone, torch.where(grid < frames.lengths[:, None], grid, -1.0))
    positions = torch.from_numpy(rng.uniform(0, 1, (len(store), 15)) * (store.length - 1)[:, None])
    positions[:, 3] = positions[:, 3].floor()
    positions[:, 4] = -1
    for absent in ("blend", "hold"):
        assert torch.allclose(
            read_frames(whole, positions, absent), frames.gather(everyone, positions, 2, absent), atol=1e-6
        )


def test_window_at_another_rate_of_the_store(kinect):
    spec = Preprocessing(frames=30, window_s=1.0, centre="none")
    rule = Window(30, 1.0, kinect.fps)
    assert torch.equal(
        ClipMaker(BodyFrames(kinect), spec, rule)(torch.arange(8)), ClipMaker(BodyFrames(kinect), spec)(torch.arange(8))
    )


def test_cards_of_papers():
    spec = Preprocessing(sampling="resize", frames=50, persons=2, normalisation="hiclr")
    assert spec.centre == "none"
    assert Preprocessing.model_validate(spec.model_dump()) == spec
    # What does not name a paper's normalisation is written as before: hashes and cards stay.
    assert "normalisation" not in Preprocessing().model_dump()
    assert Preprocessing(normalisation="none") == Preprocessing()
    with pytest.raises(ValidationError, match="no normalisation 'nobody'"):
        Preprocessing(normalisation="nobody")
    with pytest.raises(ValidationError, match="replaces centre, facing and scale"):
        Preprocessing(normalisation="cmd", scale="torso")

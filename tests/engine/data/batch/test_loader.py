"""The loader: everything comes once, resume continues exactly, processes share, threads end."""

import threading
import time

import numpy as np
import pytest
import torch

from engine.data.augment import evaluation_clip
from engine.data.batch import BodyFrames, ClipLoader, ClipMaker
from engine.data.batch.loader import derived_seed
from engine.data.batch.sampling import RandomCrop
from engine.data.preprocess import Preprocessing
from tests.engine.data.batch.stores import make_store

SPEC = Preprocessing(persons=2, frames=8, sampling="centre_crop", centre="none")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "small", count=23)


def loader(store, batch=4, rule=None, indices=None, **options):
    maker = ClipMaker(BodyFrames(store), SPEC, rule)
    return ClipLoader(maker, np.arange(len(store)) if indices is None else indices, batch, **options)


def same(a, b):
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert torch.equal(one.clips, other.clips) and torch.equal(one.labels, other.labels)
        assert torch.equal(one.indices, other.indices) and torch.equal(one.items, other.items)
        assert one.seed == other.seed


@pytest.mark.parametrize("prefetch", [0, 2])
def test_evaluation_goes_through_the_split_in_order(store, prefetch):
    split = np.array([3, 5, 7, 11, 13, 17, 19])
    batches = list(loader(store, indices=split, batch=3, prefetch=prefetch))
    assert [len(b) for b in batches] == [3, 3, 1]
    assert torch.cat([b.indices for b in batches]).tolist() == split.tolist()
    assert torch.cat([b.items for b in batches]).tolist() == list(range(7))
    assert torch.cat([b.labels for b in batches]).tolist() == store.label[split].tolist()
    clips = torch.cat([b.clips for b in batches])
    for i, clip in zip(split, clips, strict=True):
        assert np.allclose(clip, evaluation_clip(store.sequence(int(i)), SPEC), atol=1e-5)


def test_an_epoch_has_everything_repeat_times_and_epochs_differ(store):
    subject = loader(store, shuffle=True, repeat=5, batch=7)
    assert len(subject) == 17
    first, second = (torch.cat([b.items for b in subject]) for _ in range(2))
    for order in (first, second):
        assert torch.bincount(order).tolist() == [5] * 23
    assert not torch.equal(first, second) and subject.epoch == 2
    assert len(loader(store, shuffle=True, repeat=5, batch=7, drop_last=True)) == 16
    assert sum(len(b) for b in loader(store, shuffle=True, repeat=5, batch=7, drop_last=True)) == 112


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("stop", [0, 1, 4, 6, 9])
def test_resume_gives_the_batches_that_would_have_come(store, prefetch, stop):
    def fresh():
        return loader(store, rule=RandomCrop(8, at_least=2), shuffle=True, seed=5, prefetch=prefetch)

    reference = fresh()
    wanted = [batch for _ in range(2) for batch in reference]
    interrupted, seen = fresh(), []
    while len(seen) < stop:
        for batch in interrupted:
            seen.append(batch)
            if len(seen) == stop:
                break
    state = interrupted.state_dict()
    interrupted.close()
    resumed = fresh()
    resumed.load_state_dict(state)
    while resumed.epoch < 2:
        seen.extend(resumed)
    same(seen, wanted)
    with pytest.raises(ValueError, match="seed"):
        loader(store, seed=6).load_state_dict(state)


def test_seed_decides_order_and_clips(store):
    def first(seed):
        return next(iter(loader(store, rule=RandomCrop(8, at_least=2), shuffle=True, seed=seed)))

    assert torch.equal(first(1).clips, first(1).clips)
    assert not torch.equal(first(1).indices, first(2).indices)
    a, b = first(1).generator(), first(1).generator()
    assert torch.equal(torch.rand(3, generator=a), torch.rand(3, generator=b))


def test_seeds_are_those_of_splitmix64():
    # First outputs of the generator started at 0 and at 1 (its published reference), without the lowest bit.
    assert derived_seed(0) == 0xE220A8397B1DCDAF >> 1
    assert derived_seed(1) == 0x910A2DEC89025CC1 >> 1
    seeds = {derived_seed(s, e, b, r) for s in range(4) for e in range(8) for b in range(40) for r in range(4)}
    assert len(seeds) == 4 * 8 * 40 * 4


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("shuffle", [False, True])
def test_ranks_share_the_split(store, world, shuffle):
    parts = [list(loader(store, batch=2, shuffle=shuffle, rank=r, world=world)) for r in range(world)]
    assert [len(p) for p in parts] == [len(loader(store, batch=2, rank=r, world=world)) for r in range(world)]
    items = torch.cat([b.items for part in parts for b in part])
    assert sorted(items.tolist()) == list(range(23))
    # One step of all ranks is one step of a single process with the whole batch.
    single = list(loader(store, batch=2 * world, shuffle=shuffle))
    for step, batch in enumerate(single):
        together = torch.cat([part[step].items for part in parts if step < len(part)])
        assert sorted(together.tolist()) == sorted(batch.items.tolist())
    equal = [len(loader(store, batch=2, rank=r, world=world, drop_last=True)) for r in range(world)]
    assert len(set(equal)) == 1
    drawn = [next(iter(loader(store, rule=RandomCrop(8), batch=2, rank=r, world=world))).seed for r in range(world)]
    assert len(set(drawn)) == world


def test_views_are_drawn_independently_from_the_same_sequences(store):
    frames = BodyFrames(store)
    crop = RandomCrop(8, 0.1, 1.0, at_least=2)
    subject = ClipLoader([ClipMaker(frames, SPEC, crop), ClipMaker(frames, SPEC, crop)], np.arange(16), 16)
    (batch,) = subject
    assert len(batch.views) == 2 and batch.clips is batch.views[0]
    assert not torch.equal(*batch.views)
    # Sequences of one frame have only one crop.
    assert torch.equal(batch.views[0][0], batch.views[1][0])


def test_augmentation_gets_the_batchs_generator(store):
    def noise(clips, generator):
        return clips + torch.randn(clips.shape, generator=generator)

    a, b = (list(loader(store, augment=noise, prefetch=p)) for p in (0, 2))
    same(a, b)
    plain = list(loader(store))
    assert not torch.equal(a[0].clips, plain[0].clips)


def test_threads_end_when_a_loop_is_left(store):
    before = threading.active_count()
    subject = loader(store, prefetch=2, batch=1)
    for _batch in subject:
        break
    subject.close()
    assert threading.active_count() == before
    iterator = iter(subject)
    next(iterator)
    del iterator
    assert threading.active_count() == before
    assert sum(len(b) for b in subject) == 21


def test_preparation_is_bounded(store):
    made = []

    def count(clips, _):
        made.append(len(clips))
        return clips

    iterator = iter(loader(store, prefetch=2, batch=1, augment=count))
    next(iterator)
    deadline = time.monotonic() + 5
    # One handed out, two waiting, one that finds no place.
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(made) == 4
    iterator.close()


@pytest.mark.parametrize("prefetch", [0, 2])
def test_errors_come_out_of_the_loop(store, prefetch):
    def broken(clips, _):
        raise RuntimeError("broken augmentation")

    with pytest.raises(RuntimeError, match="broken augmentation"):
        list(loader(store, augment=broken, prefetch=prefetch))


def test_bad_requests_are_refused(store):
    with pytest.raises(ValueError, match="outside the 23 sequences"):
        loader(store, indices=np.array([23]))
    with pytest.raises(ValueError, match="rank 2 of 2"):
        loader(store, rank=2, world=2)
    with pytest.raises(ValueError, match="1 labels for 23"):
        loader(store, labels=np.zeros(1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("resident", [False, True])
def test_batches_on_a_gpu(store, resident):
    frames = BodyFrames(store, "cuda" if resident else None)
    found = list(ClipLoader(ClipMaker(frames, SPEC), np.arange(len(store)), 4, device="cuda"))
    for batch, expected in zip(found, loader(store), strict=True):
        assert batch.clips.is_cuda and batch.labels.is_cuda
        assert torch.allclose(batch.clips.cpu(), expected.clips, atol=1e-5)

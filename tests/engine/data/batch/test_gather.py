"""Reading between frames for a whole batch, against reading one frame of one person at a time."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.data.batch.gather import BodyFrames
from engine.data.store import write_store
from engine.skeleton.sequence import SkeletonSequence
from tests.engine.data.batch.stores import make_store


@pytest.fixture(scope="module", params=["float32", "float16"])
def store(request, tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / request.param, half=request.param == "float16")


def slow_gather(store, indices, positions, persons, absent):
    """One clip, frame and person at a time."""
    joints = store.rows.shape[1]
    out = np.zeros((len(indices), 3, positions.shape[1], joints, persons), np.float32)
    for n, i in enumerate(indices):
        xyz = store.sequence(int(i)).xyz
        for w, p in enumerate(positions[n]):
            if p < 0:
                continue
            left = int(p)
            weight = p - left
            for m in range(min(persons, xyz.shape[1])):
                a = xyz[left, m]
                b = xyz[left + 1, m] if weight else a
                share = weight
                if absent == "hold" and a.any() != b.any():
                    share = 0.0 if a.any() else 1.0
                out[n, :, w, :, m] = (a * (1 - share) + b * share).T
    return out


@pytest.mark.parametrize("absent", ["blend", "hold"])
@pytest.mark.parametrize("persons", [1, 2, 3])
def test_between_frames(store, persons, absent):
    rng = np.random.default_rng(0)
    indices = rng.permutation(np.repeat(np.arange(len(store)), 2))
    positions = rng.uniform(0, 1, (len(indices), 20)) * (store.length[indices] - 1)[:, None]
    positions[:, 5:10] = np.floor(positions[:, 5:10])
    positions[:, 10] = -1
    wanted = slow_gather(store, indices, positions, persons, absent)
    # Rounding beside a frame changes nothing.
    positions[:, 8] += np.where(positions[:, 8] < store.length[indices] - 1, 1e-9, 0)
    positions[:, 9] -= np.where(positions[:, 9] > 0, 1e-9, 0)
    found = BodyFrames(store).gather(torch.from_numpy(indices), torch.from_numpy(positions), persons, absent)
    assert found.dtype == torch.float32 and found.is_contiguous()
    assert found.shape == (len(indices), 3, 20, 25, persons)
    assert np.allclose(found.numpy(), wanted, atol=2e-6)


@pytest.mark.parametrize("absent", ["blend", "hold"])
def test_whole_frames_come_back_exactly(store, absent):
    frames = BodyFrames(store)
    for i in range(len(store)):
        xyz = store.sequence(i).xyz[:, :2]
        positions = torch.arange(len(xyz), dtype=torch.float64)[None]
        clip = frames.gather(torch.tensor([i]), positions, 2, absent)[0].numpy()
        assert np.array_equal(clip.transpose(1, 3, 2, 0)[:, : xyz.shape[1]], xyz)
        assert not clip[..., xyz.shape[1] :].any()


def test_next_to_an_absence(tmp_path):
    xyz = np.zeros((3, 1, 25, 3), np.float32)
    xyz[1] = 2.0
    store = write_store(tmp_path / "a", "a", [SkeletonSequence.from_frames(xyz, 30.0)], ["x"], 30.0)
    at = torch.tensor([[0.0, 0.25, 1.0, 1.75, 2.0]], dtype=torch.float64)
    # The published resize goes linearly towards the zeros; a window never mixes a person with nobody.
    for absent, expected in (("blend", [0, 0.5, 2, 0.5, 0]), ("hold", [0, 2, 2, 2, 0])):
        clip = BodyFrames(store).gather(torch.zeros(1, dtype=torch.long), at, 1, absent)
        assert np.allclose(clip[0, 0, :, 0, 0], expected)
    # Rounding next to a frame in which nobody is there conjures nobody up.
    near = torch.tensor([[1e-9, 2 - 1e-9]], dtype=torch.float64)
    assert not BodyFrames(store).gather(torch.zeros(1, dtype=torch.long), near, 1, "hold").any()


def test_rows_held_on_a_device_give_the_same(store):
    rng = np.random.default_rng(1)
    indices = torch.from_numpy(rng.integers(0, len(store), 32))
    positions = torch.from_numpy(rng.uniform(0, 1, (32, 9)) * (store.length[indices.numpy()] - 1)[:, None])
    mapped = BodyFrames(store).gather(indices, positions, 2, "hold")
    assert torch.equal(mapped, BodyFrames(store, "cpu").gather(indices, positions, 2, "hold"))
    if torch.cuda.is_available():
        there = BodyFrames(store, "cuda").gather(indices, positions, 2, "hold")
        assert there.is_cuda and torch.allclose(mapped, there.cpu(), atol=1e-6)


def test_reading_maps_no_pages(store):
    # Mapped pages count as memory of the process; an epoch would map the whole store.
    smaps = Path("/proc/self/smaps")
    if not smaps.is_file():
        pytest.skip("this system does not list mapped pages")
    store.release()
    indices = torch.arange(len(store))
    BodyFrames(store).gather(indices, torch.zeros((len(store), 4), dtype=torch.float64))
    BodyFrames(store, "cpu")
    entries = smaps.read_text().split(str(store.folder / "rows.npy"))[1:]
    assert entries and all(int(re.search(r"Rss: +(\d+) kB", entry)[1]) == 0 for entry in entries)


def test_a_store_that_became_shorter_is_reported(tmp_path):
    store = make_store(tmp_path / "cut", count=4)
    frames = BodyFrames(store)
    os.truncate(store.folder / "rows.npy", 5000)
    with pytest.raises(OSError, match="prepare it again"):
        frames.gather(torch.arange(4), (frames.lengths - 1).double()[:, None])


def test_threads_do_not_share_scratch_memory(store):
    frames, rng = BodyFrames(store), np.random.default_rng(0)
    jobs = []
    for _ in range(24):
        indices = rng.integers(0, len(store), 30)
        jobs.append(
            (torch.from_numpy(indices), torch.from_numpy(rng.random((30, 16)) * (store.length[indices] - 1)[:, None]))
        )
    alone = [frames.gather(*job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: frames.gather(*job), jobs))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_an_index_outside_the_store_is_refused(store):
    with pytest.raises(IndexError):
        BodyFrames(store).gather(torch.tensor([len(store)]), torch.zeros((1, 2), dtype=torch.float64))

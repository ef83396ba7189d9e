"""What the loader is compared with makes the same clips as the loader."""

import numpy as np
import pytest
import torch

from engine.cli.benchmark_baseline import crop_resize_rotate, padded_arrays, through_torch
from engine.cli.benchmark_data import make_store, sequence_lengths
from engine.data.batch import BodyFrames, geometric
from engine.data.batch.sampling import RandomCrop
from engine.data.store import SequenceStore


@pytest.mark.parametrize("half", [False, True])
def test_clip_by_clip_makes_the_same_clips(tmp_path, half):
    make_store(tmp_path / "made_up", 40, half)
    store = SequenceStore(tmp_path / "made_up")
    assert len(store) == 40 and set(store.bodies.tolist()) == {1, 2}
    drawn = torch.rand((40, 2), dtype=torch.float64, generator=torch.Generator().manual_seed(1)).numpy()
    angles = np.random.default_rng(0).uniform(-0.3, 0.3, (40, 3)).astype(np.float32)
    everyone = torch.arange(40)
    positions = RandomCrop()(torch.from_numpy(store.length), torch.Generator().manual_seed(1))
    clips = BodyFrames(store).gather(everyone, positions)
    clips = geometric.transform(clips, geometric.rotation(torch.from_numpy(angles))).numpy()
    for i, data in enumerate(padded_arrays(store, np.arange(40))):
        how = (data, 0.5 + 0.5 * drawn[i, 0], drawn[i, 1], angles[i])
        assert np.allclose(clips[i], crop_resize_rotate(*how), atol=1e-5)
        assert np.allclose(clips[i], through_torch(*how), atol=1e-5)


def test_made_up_lengths_are_those_of_the_specification():
    # datasets.md, section 7: mean 84.4, median 76, p95 149, p99 194, 32 to 300.
    lengths = sequence_lengths(56_578, np.random.default_rng(0))
    assert lengths.min() >= 32 and lengths.max() <= 300 and abs(lengths.mean() - 84.4) < 2
    assert np.allclose(np.percentile(lengths, [50, 95, 99]), [76, 149, 194], atol=4)

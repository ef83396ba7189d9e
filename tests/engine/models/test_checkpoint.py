"""The files of a checkpoint: a wrong byte is found, a full disk is said and leaves what was there."""

import os

import pytest
import torch

from engine.cli import is_known
from engine.models.card import CheckpointError, read_card, write_card
from engine.models.checkpoint import file_digest, load_encoder, save_checkpoint
from tests.engine.training.comparable import write_encoder

WEIGHTS = "weights.safetensors"


def test_one_flipped_bit_in_the_weights_is_found(tmp_path):
    folder = write_encoder(tmp_path / "a", 0)
    file = folder / WEIGHTS
    assert read_card(folder).sha256 == {WEIGHTS: file_digest(file)}
    data = bytearray(file.read_bytes())
    data[-1000] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors can't be loaded: .*another sha256.*again"):
        load_encoder(folder)
    # A card from before there were digests says nothing about the file.
    write_card(read_card(folder).model_copy(update={"sha256": {}}), folder)
    load_encoder(folder)


def test_weights_of_another_checkpoint_are_not_taken(tmp_path):
    mine, other = (write_encoder(tmp_path / name, seed) for seed, name in enumerate("ab"))
    (mine / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())
    with pytest.raises(CheckpointError, match="another sha256"):
        load_encoder(mine)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX limits of file sizes")
def test_a_full_disk_is_said_and_the_old_checkpoint_kept(tmp_path):
    """The system itself refuses: no file may grow beyond a limit below the size of the weights."""
    import resource

    folder = write_encoder(tmp_path / "a", 0)
    old, card = load_encoder(folder)
    new, _ = load_encoder(write_encoder(tmp_path / "b", 1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(
            CheckpointError, match=r"a.weights\.safetensors can't be written \(File too large\)"
        ) as caught:
            save_checkpoint(folder, card, new)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert is_known(caught.value)
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", WEIGHTS]
    kept, _ = load_encoder(folder)
    assert all(torch.equal(value, kept.state_dict()[key]) for key, value in old.state_dict().items())
    save_checkpoint(folder, card, new)
    now, _ = load_encoder(folder)
    assert all(torch.equal(value, now.state_dict()[key]) for key, value in new.state_dict().items())

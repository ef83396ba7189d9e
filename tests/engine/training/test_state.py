"""The state of a run as a file: one wrong byte anywhere is found, and files from before there were digests are read."""

import json
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from engine.training.run_folder import RunError
from engine.training.state import load_state, save_state


def made(seed):
    torch.manual_seed(seed)
    module = nn.Linear(3, 2)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    module(torch.randn(4, 3)).sum().backward()
    optimiser.step()
    return module, optimiser


def test_one_flipped_bit_anywhere_is_found(tmp_path):
    path = tmp_path / "state.safetensors"
    module, optimiser = made(0)
    save_state(path, module, optimiser, {"step": 1, "text": '"sha256":"' + "0" * 64})
    good = path.read_bytes()
    (header,) = struct.unpack("<Q", good[:8])
    assert 8 + header < len(good) - 40, "numbers too are tried"
    fresh, restored = made(1)
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        path.write_bytes(bad)
        before = fresh.weight.clone()
        with pytest.raises(
            RunError, match=r"state\.safetensors is damaged .* delete it to train this run from its beg"
        ):
            load_state(path, fresh, restored)
        assert torch.equal(fresh.weight, before), place
    path.write_bytes(good)
    assert load_state(path, fresh, restored)["step"] == 1
    assert torch.equal(fresh.weight, module.weight)


def test_a_state_without_a_digest_is_read(tmp_path):
    """Runs begun with an earlier version go on."""
    path = tmp_path / "state.safetensors"
    module, optimiser = made(0)
    save_state(path, module, optimiser, {"step": 1})
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert len(metadata.pop("sha256")) == 64 and json.loads(metadata["state"])["format"] == 1
    save_file(load_file(path), path, metadata)
    fresh, restored = made(1)
    assert load_state(path, fresh, restored) == {"step": 1}
    assert torch.equal(fresh.weight, module.weight)
    momenta = [optimiser.state_dict()["state"][0]["momentum_buffer"] for optimiser in (optimiser, restored)]
    assert torch.equal(*momenta)

"""NW-UCLA and UTKinect for real: layouts and rates joined, a chain through every protocol, all and clean test parts."""

import numpy as np
import pytest

from engine.data import sets
from engine.data.prepare import prepare_dataset
from engine.data.store import SequenceStore
from engine.training.chain import run_chain
from engine.training.pretraining import open_parts, pretraining_loader
from engine.training.recipe import load_recipe
from engine.training.recipe_chain import ChainRecipe
from engine.training.run_folder import RunFolder
from tests.shared_data import shared

SMALL = {
    "epochs": "1", "batch": "128", "preprocessing.frames": "16", "backbone_args": "{base_channels: 4}",
    "method_args.queue_length": "256", "method_args.mining_epoch": "0", "also": "{utkinect: xsub}",
    "threads": "1", "accelerator": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    root = tmp_path_factory.mktemp("stores")
    for name in ("nw_ucla", "utkinect"):
        prepare_dataset(sets.DATASETS[name], shared(name), root, workers=1)
    return root


@pytest.mark.slow
def test_a_chain_on_real_sequences(stores, tmp_path):
    pretraining = load_recipe("nw_ucla_xview_hiclr_joint", SMALL)
    parts, test = open_parts(pretraining, stores)
    assert (len(parts[0].indices), len(test)) == (1020, 464)
    batch = next(iter(pretraining_loader(pretraining, parts)))
    assert batch.clips.shape == (128, 3, 16, 20, 1) and np.isfinite(batch.clips.numpy()).all()
    assert {part.store.layout for part in parts} == {SequenceStore(stores / n).layout for n in ("nw_ucla", "utkinect")}
    short = {"epochs": "3", "accelerator": "cpu"}
    steps = [
        {"name": "pretrain", "recipe": pretraining.model_dump(mode="json")},
        {"name": "knn", "recipe": load_recipe("hiclr_knn").model_dump(mode="json")},
        {"name": "linear", "recipe": load_recipe("hiclr_linear", short).model_dump(mode="json")},
        {
            "name": "few",
            "recipe": load_recipe("hiclr_semi_10", {"epochs": "1", "full_length": "false"}).model_dump(mode="json"),
        },
        {
            "name": "transfer",
            "recipe": load_recipe("cmd_transfer", {"epochs": "1", "dataset": "utkinect", "split": "xsub"}).model_dump(
                mode="json"
            ),
        },
    ]
    chain = ChainRecipe.model_validate({"name": "real", "steps": steps, "threads": 1, "accelerator": "cpu"})
    assert run_chain(chain, stores, tmp_path / "chain")
    # Even an encoder that was hardly trained knows more than chance about ten classes.
    probed = RunFolder(tmp_path / "chain" / "1_pretrain").results()["results"]
    assert max(result["top1"] for result in probed) > 0.15
    for step, title in (("2_knn", "nearest neighbours, k = 20"), ("3_linear", "linear evaluation")):
        found = {r["name"]: r for r in RunFolder(tmp_path / "chain" / step).results()["results"]}
        assert found[title]["count"] == 464 and found[f"{title}, xview_clean"]["count"] == 369
    assert RunFolder(tmp_path / "chain" / "4_few").results()["labelled"] in range(100, 104)
    moved = RunFolder(tmp_path / "chain" / "5_transfer").results()
    assert moved["results"][0]["dataset"] == "utkinect" and moved["parent"]["trained_on"] == ["nw_ucla", "utkinect"]

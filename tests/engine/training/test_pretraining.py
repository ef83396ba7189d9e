"""Pretraining runs: killed for real they end with the same weights and queue; labels stay out; probes are honest."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.cli import entry as command
from engine.data.batch import BodyFrames, ClipMaker
from engine.data.sets import DATASETS
from engine.data.store import SequenceStore, write_store
from engine.models.card import read_card
from engine.models.checkpoint import load_encoder
from engine.paths import PROJECT
from engine.training.joined import UNLABELLED
from engine.training.pretext import PRETEXTS, build_pretext, build_settings
from engine.training.pretraining import open_parts, pretrain, pretraining_loader, probe_encoders
from engine.training.recipe import RecipeError
from engine.training.recipe_protocols import Probe
from engine.training.run_folder import RunFolder
from tests.engine.training.pretext_of_tests import install, sequences, tiny, write_stores

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and POSIX signals")
JOINED = {"also": {"utkinect": "xsub"}}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return write_stores(tmp_path_factory.mktemp("stores"))


@pytest.fixture
def small(monkeypatch):
    install(monkeypatch)


def state(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "state.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_learns_and_leaves_an_encoder_without_classifier(stores, small, tmp_path):
    (card,) = pretrain(tiny(epochs=12), stores, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    # It rises while the queue fills with keys that are alike, then falls.
    losses = [event["loss"] for event in folder.events() if event["event"] == "epoch"]
    assert len(losses) == 12 and losses[-1] < max(losses) - 0.05
    encoder, loaded = load_encoder(folder.checkpoint)
    assert loaded == card and not card.classifier_trained and card.method == "moco"
    assert folder.status().state == "finished" and folder.recipe() == tiny(epochs=12)
    trained = {k.removeprefix("module.method.encoder."): v for k, v in state(tmp_path / "run").items()}
    assert all(torch.equal(value, trained[key]) for key, value in encoder.state_dict().items())


def test_probes_are_events_and_results_and_can_be_had_again(stores, small, tmp_path):
    (card,) = pretrain(tiny(), stores, tmp_path / "run")
    log = list(RunFolder(tmp_path / "run").events())
    probed = [e for e in log if e["event"] == "evaluation"]
    assert [e["epoch"] for e in probed] == [2, 3]
    epochs = [e for e in log if e["event"] == "epoch"]
    assert "probe_knn" not in epochs[0] and epochs[1]["probe_linear"] == probed[0]["probe_linear"]
    parts, test = open_parts(tiny(), stores)
    encoder, loaded = load_encoder(tmp_path / "run" / "checkpoint")
    main = parts[0]
    again = probe_encoders([(None, encoder, loaded.preprocessing)], main.store, main.indices, test, tiny().probe)
    assert [r.top1 for r in card.results] == [again["probe_knn"], again["probe_linear"]]
    assert [r.top1 for r in card.results] == [probed[-1]["probe_knn"], probed[-1]["probe_linear"]]
    assert all(r.name.startswith("probe, ") and r.count == 24 for r in card.results)
    off = probe_encoders([(None, encoder, loaded.preprocessing)], main.store, main.indices, test, Probe(most=9), 1)
    assert off.keys() == again.keys()
    none = Probe(neighbours=0, linear=False)
    assert probe_encoders([(None, encoder, loaded.preprocessing)], main.store, main.indices, test, none) == {}


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from engine.training import pretext, pretraining, run_folder, trainer
from engine.training.recipe_protocols import PretrainRecipe
from tests.engine.training.pretext_of_tests import entry

pretext.PRETEXTS["moco"] = entry(sys.argv[4])
recipe = PretrainRecipe.model_validate_json(sys.argv[1])
stores, run = Path(sys.argv[2]), Path(sys.argv[3])

def die_at(owner, name, call, after=False):
    real, count = getattr(owner, name), [0]
    def wrapped(*args, **kwargs):
        count[0] += 1
        if count[0] == call and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        out = real(*args, **kwargs)
        if count[0] == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return out
    setattr(owner, name, wrapped)

plan = [
    lambda: die_at(torch.optim.SGD, "step", 2),
    lambda: die_at(torch.optim.SGD, "step", 5, after=True),
    lambda: die_at(trainer.Trainer, "_end_epoch", 1),
    lambda: die_at(trainer.Trainer, "_save", 1, after=True),
    lambda: die_at(pretraining, "probe_encoders", 1, after=True),
    lambda: die_at(pretraining, "save_checkpoint", 1),
    lambda: die_at(pretraining, "save_checkpoint", 1, after=True),
]
for kill in plan:
    child = os.fork()
    if child == 0:
        kill()
        pretraining.pretrain(recipe, stores, run)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print("killed" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL else f"ended-{status}")
pretraining.pretrain(recipe, stores, run)
"""


@FORKS
@pytest.mark.slow
@pytest.mark.parametrize("reads", ["clip", "two_crops"])
def test_killed_anywhere_the_run_ends_with_the_same_weights_and_queue(stores, monkeypatch, tmp_path, reads):
    install(monkeypatch, reads)
    recipe = tiny(epochs=4, **JOINED, method_args={"several": reads == "two_crops"})
    pretrain(recipe, stores, tmp_path / "whole")
    words = [recipe.model_dump_json(), str(stores), str(tmp_path / "killed"), reads]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *words], capture_output=True, text=True, timeout=200, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["killed"] * 7
    a, b = state(tmp_path / "whole"), state(tmp_path / "killed")
    assert same(a, b) and any("queue" in key for key in a) and int(a["module.method.pointer"]) > 0
    files = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("weights.safetensors"))
    assert len(files) == (2 if reads == "two_crops" else 1)
    for file in files:
        assert same(load_file(tmp_path / "whole" / file), load_file(tmp_path / "killed" / file))


def test_a_stop_in_mid_epoch_and_a_resume_change_nothing(stores, small, tmp_path):
    pretrain(tiny(), stores, tmp_path / "whole")

    def ask(event):
        if event["event"] == "epoch" and event["epoch"] == 1:
            (tmp_path / "stopped" / "stop").touch()

    assert pretrain(tiny(), stores, tmp_path / "stopped", ask) is None
    folder = RunFolder(tmp_path / "stopped")
    assert folder.status().state == "stopped"
    assert pretrain(tiny(), stores, tmp_path / "stopped") is not None
    assert same(state(tmp_path / "whole"), state(tmp_path / "stopped"))


def test_every_stream_has_a_checkpoint_of_its_own(stores, small, tmp_path):
    cards = pretrain(tiny(method_args={"several": True}), stores, tmp_path / "run")
    assert [card.preprocessing.stream for card in cards] == ["joint", "joint_motion"]
    for card in cards:
        stream = card.preprocessing.stream
        assert read_card(tmp_path / "run" / "checkpoint" / stream) == card
        assert len(card.results) == 2 and all(r.name.endswith(stream) for r in card.results)
    results = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    assert len(results) == 6 and results[0]["name"] == "probe, nearest neighbours, k = 20"


def test_joined_stores_give_their_training_parts_and_no_labels(stores, small):
    recipe = tiny(**JOINED, repeat=2)
    parts, _ = open_parts(recipe, stores)
    loader = pretraining_loader(recipe, parts)
    makers = [ClipMaker(BodyFrames(part.store), recipe.preprocessing) for part in parts]
    wanted = [{part.store.names[int(i)] for i in part.indices} for part in parts]
    counts = np.zeros(sum(map(len, wanted)), int)
    for batch in loader:
        assert (batch.labels == UNLABELLED).all()
        for row, item in enumerate(batch.items.tolist()):
            counts[item] += 1
            which = int(item >= len(parts[0].indices))
            index = int(parts[which].indices[item - which * len(parts[0].indices)])
            assert int(batch.indices[row]) == index and parts[which].store.names[index] in wanted[which]
            # The clip of a batch from several stores is the one its own store gives.
            alone = makers[which](torch.tensor([index]))[0]
            assert torch.allclose(batch.clips[row], alone, atol=1e-6)
    assert counts.max() == 2 and counts.sum() == len(loader) * 8
    test_names = {SequenceStore(stores / "utd_mhad").names[int(i)] for i in open_parts(recipe, stores)[1]}
    assert not test_names & wanted[0]


def test_two_processes_share_a_batch(stores, small):
    recipe = tiny(**JOINED)
    parts, _ = open_parts(recipe, stores)
    whole = next(iter(pretraining_loader(recipe, parts)))
    halves = [next(iter(pretraining_loader(recipe, parts, rank, 2))) for rank in range(2)]
    assert sorted(torch.cat([half.items for half in halves]).tolist()) == sorted(whole.items.tolist())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 100}, "fewer than one batch"),
        ({"method": "cmd"}, "cmd is not built in"),
        ({"method_args": {"width": "wide"}}, r"method_args\.width"),
        ({"method": "hiclr", "method_args": {"views": {"stream": "bone"}}}, "leave the first out"),
        ({"method": "gl_transformer", "backbone": "stgcn"}, "gl_transformer with stgcn"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(stores, small, tmp_path, monkeypatch, changes, message):
    monkeypatch.delitem(PRETEXTS, "cmd", raising=False)
    with pytest.raises(RecipeError, match=message):
        pretrain(tiny(**changes), stores, tmp_path / "run")


@pytest.mark.slow
def test_every_published_method_trains_resumes_and_is_probed(stores, tmp_path):
    """Two epochs of each, small, against the same two epochs with a stop between them."""
    gl = {
        "method": "gl_transformer", "backbone": "gl_transformer", "batch": 4,
        "backbone_args": {"frames": 24, "channels": 4, "blocks": 1, "heads": 2},
        "method_args": {"views": {"frames": 24}},
        "preprocessing": {"frames": 24, "sampling": "first", "normalisation": "gl_transformer_clean"},
    }  # fmt: skip
    queue = {"queue_length": 16}
    cases = {
        "hiclr": {"method_args": queue | {"mining_epoch": 1}},
        "moco": {"method_args": queue},
        "cmd": {"method_args": queue | {"neighbours": 8, "views": {"frames": 12, "crop_least": 12}}},
        "i2md": {"method_args": queue | {"neighbours": 8, "views": {"frames": 12, "crop_least": 12}}},
        "gl_transformer": gl,
    }
    for method, changes in cases.items():
        recipe = tiny(**({"method": method, "epochs": 2} | changes))
        cards = pretrain(recipe, stores, tmp_path / method)
        assert all(card.method == method and not card.classifier_trained for card in cards)
        assert len(cards) == (3 if method in ("cmd", "i2md") else 1)

        if method in ("moco", "cmd"):
            # Parts of the others.
            continue

        def ask(event, run=tmp_path / f"{method}_again"):
            if event["event"] == "epoch" and event["epoch"] == 1:
                (run / "stop").touch()

        assert pretrain(recipe, stores, tmp_path / f"{method}_again", ask) is None
        assert pretrain(recipe, stores, tmp_path / f"{method}_again") is not None
        assert same(state(tmp_path / method), state(tmp_path / f"{method}_again")), method


def test_what_a_method_warns_of_stands_in_the_events(stores, tmp_path):
    args = {"queue_length": 64, "neighbours": 32, "views": {"frames": 12, "crop_least": 12}}
    pretrain(tiny(method="cmd", epochs=1, method_args=args), stores, tmp_path / "run")
    (warning,) = (e for e in RunFolder(tmp_path / "run").events() if e["event"] == "warning")
    assert "64 keys" in warning["text"]


@pytest.mark.parametrize("method", ["hiclr", "moco"])
def test_the_encoders_stream_is_the_methods(method):
    recipe = tiny(method=method)
    bone = recipe.model_copy(update={"preprocessing": recipe.preprocessing.model_copy(update={"stream": "bone"})})
    assert build_settings(recipe).views.stream == "joint" and build_settings(bone).views.stream == "bone"


def test_weights_follow_from_the_seed_alone(small):
    def built(seed):
        torch.manual_seed(seed)
        return build_pretext(tiny(), 6, 48).state_dict()

    assert same(built(1), built(1)) and not same(built(1), built(2))


def test_train_resume_and_list_from_the_command_line(stores, small, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "stores").symlink_to(stores)
    (tmp_path / "tiny.yaml").write_text(tiny().model_dump_json())
    assert command(["train", str(tmp_path / "tiny.yaml"), "--epochs", "1"]) == 0
    out = capsys.readouterr()
    assert "probe, nearest neighbours" in out.out and "--protocol linear" in out.out
    assert command(["runs", "list"]) == 0 and "finished" in capsys.readouterr().out
    assert command(["runs", "show", "tiny"]) == 0 and "probe" in capsys.readouterr().out


def test_joints_that_cannot_be_converted_are_refused_by_name(stores, small, tmp_path):
    joined = write_stores(tmp_path / "stores")
    shutil.rmtree(joined / "utkinect")
    coco = (replace(one, xyz=one.xyz[:, :, :17], layout="coco17") for one in sequences(16))
    write_store(joined / "utkinect", "utkinect", coco, DATASETS["utkinect"].classes, 20.0)
    with pytest.raises(RecipeError, match="utkinect has coco17 joints, which can't be converted to ntu25"):
        pretrain(tiny(**JOINED), joined, tmp_path / "run")

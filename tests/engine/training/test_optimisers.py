"""Optimisers, averaged weights, shared batch norms and compilation: what each does, and that runs with them resume."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch._inductor import config as inductor_config

from engine.training import trainer
from engine.training.compiling import compile_encoder
from engine.training.devices import share_batch_norms
from engine.training.ema import WeightAverage
from engine.training.optimisers import make_optimiser
from engine.training.recipe import Optimiser, RecipeError
from engine.training.run_folder import RunFolder
from engine.training.supervised import train
from tests.engine.training.test_trainer import events, same, stores, tiny, weights

__all__ = ["stores"]


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_a_step_against_the_formula(kind):
    """Two steps on a constant gradient, by hand; frozen parameters are left out."""
    weight, frozen = nn.Parameter(torch.tensor([2.0], dtype=torch.float64)), nn.Parameter(torch.ones(1), False)
    settings = Optimiser(kind=kind, lr=0.1, momentum=0.8, betas=(0.7, 0.9), weight_decay=0.05)
    optimiser = make_optimiser(settings, [weight, frozen])
    assert sum(len(group["params"]) for group in optimiser.param_groups) == 1
    x, velocity, mean, square = 2.0, 0.0, 0.0, 0.0
    for t in (1, 2):
        weight.grad = torch.tensor([3.0], dtype=torch.float64)
        optimiser.step()
        g = 3.0 if kind == "adamw" else 3.0 + 0.05 * x
        if kind == "sgd":
            velocity = 0.8 * velocity + g
            x -= 0.1 * (g + 0.8 * velocity)
            continue
        x -= 0.1 * 0.05 * x if kind == "adamw" else 0.0
        mean, square = 0.7 * mean + 0.3 * g, 0.9 * square + 0.1 * g * g
        x -= 0.1 * (mean / (1 - 0.7**t)) / ((square / (1 - 0.9**t)) ** 0.5 + 1e-8)
    assert weight.item() == pytest.approx(x, abs=1e-9)


def test_momentum_without_nesterov():
    weight = nn.Parameter(torch.tensor([2.0]))
    optimiser = make_optimiser(Optimiser(nesterov=False, momentum=0.8, weight_decay=0), [weight], "fp16")
    assert not optimiser.param_groups[0]["nesterov"] and not optimiser.param_groups[0]["fused"]


def test_the_average_against_a_loop():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = WeightAverage(model, 0.9)
    by_hand = {name: value.clone() for name, value in model.state_dict().items()}
    for n in range(1, 13):
        model(torch.randn(5, 3))
        with torch.no_grad():
            model[0].weight += torch.randn(2, 3)
        average.update()
        d = min(0.9, (1 + n) / (10 + n))
        for name, value in model.state_dict().items():
            by_hand[name] = d * by_hand[name] + (1 - d) * value if value.is_floating_point() else value.clone()
    assert all(torch.allclose(average.model.state_dict()[name], by_hand[name], atol=1e-6) for name in by_hand)
    assert int(average.steps) == 12 and not average.train().model.training
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert not any(name.startswith("_source") for name in average.state_dict())


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_run_with_averaged_weights_resumes_exactly_and_keeps_the_average(stores, tmp_path, monkeypatch, kind):
    recipe = tiny(ema=0.95, optimiser={"kind": kind, "lr": 0.01, "warmup_epochs": 1})
    plain = tiny(optimiser={"kind": kind, "lr": 0.01, "warmup_epochs": 1})
    assert recipe.digest() != plain.digest()
    card = train(recipe, stores, tmp_path / "whole")
    assert card.training["ema"] == 0.95
    real, steps = trainer.Trainer._step, []

    def step(self, *arguments):
        steps.append(1)
        if len(steps) == 6:
            self.folder.stop_file.touch()
        return real(self, *arguments)

    monkeypatch.setattr(trainer.Trainer, "_step", step)
    assert train(recipe, stores, tmp_path / "cut") is None
    train(recipe, stores, tmp_path / "cut")
    whole = weights(tmp_path / "whole")
    assert same(whole, weights(tmp_path / "cut"))
    state = load_file(tmp_path / "whole" / "state.safetensors")
    for name, value in whole.items():
        assert torch.equal(state[f"average.model.{name}"], value)
    # The weights under way are those of a run without an average.
    train(plain, stores, tmp_path / "plain")
    assert all(torch.equal(state[f"module.method.encoder.{n}"], v) for n, v in weights(tmp_path / "plain").items())
    assert not same(whole, weights(tmp_path / "plain"))


def test_a_run_goes_on_where_there_is_no_compiler(stores, tmp_path):
    said = []
    with inductor_config.patch({"cpp.cxx": (str(tmp_path / "no_compiler"),)}):
        train(tiny(epochs=1, compile="on"), stores, tmp_path / "run", said.append)
    (event,) = [event for event in said if event["event"] == "compile"]
    assert not event["compiled"] and "compiler" in event["reason"] and "\n" not in event["reason"]
    train(tiny(epochs=1), stores, tmp_path / "plain")
    assert same(weights(tmp_path / "run"), weights(tmp_path / "plain"))
    assert RunFolder(tmp_path / "run").status().state == "finished" and not events(tmp_path / "plain", "compile")


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.linear(x)) * x.mean()


@pytest.mark.slow
def test_a_compiled_encoder_keeps_its_weights_names_and_values():
    torch.manual_seed(0)
    encoder, x = Small(), torch.randn(5, 4)
    expected, names = encoder(x), list(encoder.state_dict())
    assert compile_encoder(encoder, "off", torch.device("cpu")) is None
    assert compile_encoder(encoder, "auto", torch.device("cpu")) is None
    reason = compile_encoder(encoder, "on", torch.device("cpu"))
    if reason:
        pytest.skip(f"no compiler on this machine: {reason}")
    assert torch.allclose(encoder(x), expected, atol=1e-6) and list(encoder.state_dict()) == names
    with torch.compiler.set_stance("force_eager"):
        assert torch.equal(encoder(x[:2]), torch.relu(encoder.linear(x[:2])) * x[:2].mean())


def test_batch_norms_of_several_processes():
    def fabric(processes, device):
        return SimpleNamespace(world_size=processes, device=torch.device(device))

    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    names = list(model.state_dict())
    share_batch_norms(model, fabric(1, "cpu"))
    assert type(model[1]) is nn.BatchNorm1d
    with pytest.raises(RecipeError, match="needs GPUs"):
        share_batch_norms(model, fabric(2, "cpu"))
    share_batch_norms(model, fabric(2, "cuda"))
    assert isinstance(model[1], nn.SyncBatchNorm) and list(model.state_dict()) == names


def test_the_new_fields_leave_old_digests_alone():
    assert tiny().digest() == tiny(ema=0.0, sync_batchnorm=False, compile="on", source="somewhere").digest()
    for changes in ({"ema": 0.9}, {"sync_batchnorm": True}, {"optimiser": {"kind": "adam"}}):
        assert tiny(**changes).digest() != tiny(**({"optimiser": {}} if "optimiser" in changes else {})).digest()


def test_the_run_folder_holds_curves(stores, tmp_path: Path):
    train(tiny(epochs=1), stores, tmp_path / "run")
    (file,) = (tmp_path / "run").glob("events.out.tfevents.*")
    assert b"test/top1" in file.read_bytes()

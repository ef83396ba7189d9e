"""What recipes of every task share: the fields of a run, the schedule of a training, digests and comparison."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

SMOOTHING = "Share of the right class given to all others."
EPOCHS = "Times through the training part."
BACKBONE_ARGS = "Settings of the encoder, such as {base_channels: 32}."
BackboneName = Literal[
    "ctrgcn", "agcn", "infogcn", "stgcn", "dstanet", "gru", "gru_bidirectional", "gl_transformer"
]  # fmt: skip
# Where and how fast a run is executed, which its digest leaves out.
EXECUTION = {"threads", "accelerator", "devices", "nodes", "compile"}
# How many times as fast as fp32 a processor must multiply in bf16, of which conversions take their part.
BF16_PAYS = 1.2


class RecipeError(Exception):
    """A recipe can't be read or doesn't validate; the message names the field."""


class Optimiser(BaseModel):
    """By default SGD with Nesterov momentum, linear warm-up and step decay (skeletongcl.md, section 4.1)."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["sgd", "adam", "adamw"] = Field("sgd", description="adamw: Adam with decoupled weight decay.")
    lr: float = Field(0.1, gt=0, description="Highest learning rate.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Of sgd: share of the last step in the next one.")
    nesterov: bool = Field(True, description="Of sgd: Nesterov's momentum.")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.999), description="Of adam and adamw: how much of the old means of gradient and square stays."
    )
    weight_decay: float = Field(1e-4, ge=0, description="How strongly weights are pulled to zero.")
    schedule: Literal["step", "cosine", "exponential"] = Field(
        "step",
        description="How the rate falls: step at the milestones, cosine to zero, exponential by decay after each epoch "
        "(GL-Transformer).",
    )
    decay: float = Field(0.99, gt=0, le=1, description="Of the exponential schedule.")
    milestones: list[int] = Field(default_factory=lambda: [50], description="Epochs at which the rate drops tenfold.")
    warmup_epochs: int = Field(5, ge=0, description="Epochs in which the rate rises to its highest.")


class BaseRecipe(BaseModel):
    """What determines a run of any task: data, batch, numbers, place of execution."""

    model_config = ConfigDict(extra="forbid")

    # Fields younger than published digests, nested ones dotted: left out while they have these values.
    YOUNGER: ClassVar[dict[str, Any]] = {}
    # Fields that are no part of the result, beside those of execution.
    APART: ClassVar[frozenset[str]] = frozenset()

    task: str = Field(description="What kind of run this is.")
    name: str = Field(description="Name of the run and of its checkpoint.")
    title: str = Field("", description="What the model is called where people choose one.")
    limits: str = Field("", description="What the model is not for; copied into its card.")
    source: str = Field("", description="Where the setting is published, and what of it is open.")
    dataset: str = Field(description="Prepared store to train and test on.")
    split: str = Field(description="Who trains and who is tested.")
    batch: int = Field(16, ge=1, description="Clips per pass, all processes together.")
    precision: Literal["fp32", "bf16", "fp16", "auto"] = Field(
        "fp32",
        description="bf16 and fp16 are mixed precision: weights and losses stay fp32. auto: bf16 where that is faster "
        "(most GPUs, some processors), else fp32; the run's own recipe says which.",
    )
    seed: int = Field(1, ge=0, description="The same seed gives the same weights on the same machine.")
    threads: int = Field(0, ge=0, description="Processor threads; 0 leaves the choice to torch.")
    accelerator: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a CUDA GPU where there is one.")
    devices: int = Field(1, ge=1, description="Processes per node, one per device.")
    nodes: int = Field(1, ge=1, description="Machines; start the same command on each with torchrun.")

    @model_validator(mode="after")
    def _batch_can_be_shared(self) -> BaseRecipe:
        world = self.devices * self.nodes
        if self.batch % world:
            raise ValueError(f"batch {self.batch} can't be shared evenly by {world} processes")
        return self

    def digest(self) -> str:
        """Hash of everything in the recipe except where it is executed and where it comes from."""
        values = self.model_dump(mode="json", exclude=EXECUTION | {"source"} | self.APART)
        for dotted, default in self.YOUNGER.items():
            *parents, last = dotted.split(".")
            inner = values
            for parent in parents:
                inner = inner[parent]
            if inner[last] == default:
                del inner[last]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def automatic_precision(device: str, processes: int, gpu_has_bf16: bool, bf16_gain: Callable[[], float]) -> str:
    """What ``precision: auto`` means on a device, ``cuda`` or ``cpu``.

    ``bf16_gain`` tells how many times as fast the processor multiplies in bf16. It is not asked where several processes
    train together, since each would measure for itself and they must not differ: those take fp32.
    """
    if device == "cuda":
        return "bf16" if gpu_has_bf16 else "fp32"
    return "bf16" if processes == 1 and bf16_gain() >= BF16_PAYS else "fp32"


class TrainedRecipe(BaseRecipe):
    """A run that goes through epochs: what :class:`engine.training.trainer.Trainer` wants to know."""

    YOUNGER: ClassVar[dict[str, Any]] = {
        "ema": 0.0, "sync_batchnorm": False,
        "optimiser.kind": "sgd", "optimiser.nesterov": True, "optimiser.betas": [0.9, 0.999],
        "optimiser.decay": 0.99,
    }  # fmt: skip

    optimiser: Optimiser = Field(default_factory=Optimiser)
    epochs: int = Field(65, ge=1, description=EPOCHS)
    repeat: int = Field(1, ge=1, description="Times every sequence is seen in an epoch.")
    accumulate: int = Field(1, ge=1, description="Batches whose gradients are averaged into one step.")
    clip_norm: float = Field(0.0, ge=0, description="Longest gradient, over all parameters; 0 leaves it as it is.")
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Part of the weights' running average that stays at every step; the average is what is tested and "
        "saved. 0: no average.",
    )
    sync_batchnorm: bool = Field(
        False, description="Batch norms see the batches of all devices (GPUs only); else each sees its own."
    )
    compile: Literal["off", "auto", "on"] = Field(
        "off",
        description="torch.compile: auto on a GPU, on everywhere; where there is no compiler the run goes on without.",
    )
    evaluate_every: int = Field(5, ge=1, description="Epochs between tests; the last epoch is always tested.")
    keep_best: bool = Field(
        False,
        description="Also keep the epoch that tests best. Chosen by looking at the test part, and labelled so.",
    )

    @field_validator("compile", mode="before")
    @classmethod
    def _unquoted(cls, value: Any) -> Any:
        # YAML reads a bare off or on as a truth value.
        return {False: "off", True: "on"}[value] if isinstance(value, bool) else value


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Fields in which two recipes differ, dotted, with both values (None where one does not have the field)."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found |= differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found[prefix + key] = (a, b)
    return found

"""Recipes of self-supervised learning: pretraining without labels, and the protocols that judge what was learnt.

A protocol takes a pretrained encoder as its parent. What it leaves open (backbone, preprocessing, dataset, split) is
taken from the parent's card when the run begins and stands in the run's own recipe from then on.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from engine.data.preprocess import Preprocessing, Stream
from engine.training.recipe_base import (
    BACKBONE_ARGS,
    EPOCHS,
    SMOOTHING,
    BackboneName,
    BaseRecipe,
    Optimiser,
    TrainedRecipe,
)

RANDOM = "random"
Fusion = Literal["concatenate", "mean", "mean_as_is"]
PretextName = Literal["hiclr", "moco", "cmd", "i2md", "gl_transformer"]
_THREE_STREAMS = ("joint", "joint_motion", "bone")


def own_streams(method: str, method_args: dict[str, Any]) -> tuple[str, ...]:
    """The streams a method makes itself, with an encoder of each; none where the recipe's own stream counts."""
    return tuple(method_args.get("streams", _THREE_STREAMS)) if method in ("cmd", "i2md") else ()


class Probe(BaseModel):
    """How far frozen features get with the labels, looked at now and then during pretraining."""

    model_config = ConfigDict(extra="forbid")

    neighbours: int = Field(20, ge=0, description="k of the nearest-neighbour probe; 0 leaves it out.")
    temperature: float = Field(0.1, ge=0, description="Neighbours weigh exp(cosine / this); 0: all weigh the same.")
    linear: bool = Field(True, description="Ridge regression of the classes on the features, in closed form.")
    most: int = Field(5000, ge=1, description="At most so many training and test clips are looked at.")


class PretrainRecipe(TrainedRecipe):
    """Pretraining of an encoder without labels."""

    task: Literal["pretrain"] = "pretrain"
    dataset: str = Field(description="Prepared store; its training part is learnt from, and the probe uses its labels.")
    also: dict[str, str] = Field(
        default_factory=dict, description="Further stores, each with its split; their training parts are joined."
    )
    method: PretextName = Field("hiclr", description="How the encoder is pretrained.")
    method_args: dict[str, Any] = Field(default_factory=dict, description="Settings of the method.")
    backbone: BackboneName = Field("stgcn", description="The encoder.")
    backbone_args: dict[str, Any] = Field(default_factory=dict, description=BACKBONE_ARGS)
    preprocessing: Preprocessing = Field(
        description="The clip; its stream is the encoder's (joint where a method makes several streams itself)."
    )
    evaluate_every: int = Field(10, ge=1, description="Epochs between probes; the last epoch is always probed.")
    keep_best: Literal[False] = Field(False, description="Pretraining has no test to choose by.")
    ema: float = Field(0.0, ge=0, le=0, description="Not used: momentum methods average for themselves.")
    probe: Probe = Field(default_factory=Probe)


class ProtocolRecipe(BaseRecipe):
    """What every protocol has: the encoders it judges."""

    APART: ClassVar[frozenset[str]] = frozenset({"parent", "further_parents"})

    parent: str = Field(
        "", description="Pretrained checkpoint or run (a folder or a name); 'random' is an encoder with fresh weights."
    )
    parent_stream: Stream | None = Field(None, description="Which encoder, where the parent has one per stream.")
    further_parents: list[str] = Field(
        default_factory=list, description="Encoders of other streams, RUN or RUN:STREAM; their features are joined."
    )
    fusion: Fusion = Field(
        "concatenate",
        description="How features of several encoders are joined, each of length 1 before; mean_as_is (CMD): however "
        "long they are.",
    )
    untrained: bool = Field(
        False, description="Fresh weights in an encoder otherwise like the parent: the baseline it must beat."
    )
    settled: bool = Field(
        True,
        description="Batch norms of fresh weights first see the training clips once, in knn and linear evaluation: "
        "without statistics a fresh encoder says next to nothing and is too easy to beat.",
    )
    name: str = Field("", description="Name of the run; by default the parent's with the protocol behind it.")
    dataset: str = Field("", description="Prepared store; by default the parent's, another one is a transfer.")
    split: str = Field("", description="By default the parent's.")
    backbone: BackboneName | None = Field(None, description="The parent's; to be given where the parent is 'random'.")
    backbone_args: dict[str, Any] | None = Field(None, description="The parent's.")
    backbone_changes: dict[str, Any] = Field(
        default_factory=dict, description="Arguments that differ from the parent's, such as dropout; weights must fit."
    )
    preprocessing: Preprocessing | None = Field(
        None, description="The parent's; to be given where the parent is 'random'."
    )
    parents: list[dict[str, Any]] = Field(
        default_factory=list, description="What the parents are; written when the run begins."
    )


class KnnRecipe(ProtocolRecipe):
    """Nearest neighbours: every test clip gets the class of the training clips whose features are most like its own."""

    task: Literal["knn"] = "knn"
    k: int = Field(20, ge=1, description="Neighbours of the reported number (hiclr.md: 20, i2md.md: 1).")
    also_k: list[int] = Field(default_factory=lambda: [1, 10, 40], description="Further numbers of neighbours.")
    temperature: float = Field(0.1, ge=0, description="Neighbours weigh exp(cosine / this); 0: all weigh the same.")
    batch: int = Field(64, ge=1, description="Clips per pass.")


ClipChange = Literal["none", "random_crop", "stretch", "basic"]


class TrainedProtocol(ProtocolRecipe, TrainedRecipe):
    """What protocols that train with labels have in common."""

    clips: ClipChange = Field(
        "none",
        description="Training clips: none = those of the test; random_crop = CMD's part of 0.5 to 1, resized; "
        "stretch = GL-Transformer's time, longer or shorter by 10 %; basic = HiCLR's crop and shear.",
    )
    classifier: Literal["backbone", "default", "normal", "xavier"] = Field(
        "normal", description="First weights of the classifier: the backbone's own rule, torch's, normal or Xavier's."
    )
    classifier_std: float = Field(0.01, gt=0, description="Standard deviation of normal first weights.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description=SMOOTHING)
    batch: int = Field(128, ge=1, description="Clips per pass, all processes together.")
    drop_last: bool = Field(False, description="Leave the last, smaller batch of an epoch out.")


class LinearRecipe(TrainedProtocol):
    """Linear evaluation: a classifier on the features of a frozen encoder."""

    YOUNGER: ClassVar[dict[str, Any]] = TrainedProtocol.YOUNGER | {"standardise": False}

    task: Literal["linear"] = "linear"
    frozen_mode: Literal["evaluation", "training"] = Field(
        "evaluation",
        description="training keeps dropout of the frozen encoder on while the classifier learns (GL-Transformer as "
        "released); its weights and statistics stay as they are.",
    )
    standardise: bool = Field(
        False,
        description="Learn from features of mean 0 and variance 1 on the training clips; the layer that comes out "
        "takes them as they are. Few steps suffice then, whatever the features' size. No method published it.",
    )
    optimiser: Optimiser = Field(
        default_factory=lambda: Optimiser(lr=3.0, weight_decay=0.0, milestones=[80], warmup_epochs=0)
    )
    epochs: int = Field(100, ge=1, description=EPOCHS)
    ema: float = Field(0.0, ge=0, le=0, description="Not used: one layer is trained.")


class FinetuneRecipe(TrainedProtocol):
    """Fine-tuning: encoder and classifier learn together, from the pretrained weights."""

    task: Literal["finetune"] = "finetune"
    further_parents: list[str] = Field(default_factory=list, max_length=0, description="One encoder is tuned.")
    freeze: list[str] = Field(
        default_factory=list, description="Beginnings of the names of parameters that stay (DSTA-Net's stem)."
    )
    optimiser: Optimiser = Field(default_factory=lambda: Optimiser(milestones=[29, 54]))
    epochs: int = Field(70, ge=1, description=EPOCHS)
    batch: int = Field(64, ge=1, description="Clips per pass, all processes together.")


class SemiRecipe(FinetuneRecipe):
    """Semi-supervised learning: fine-tuning with the labels of a part of the training sequences."""

    task: Literal["semi"] = "semi"  # type: ignore[assignment]
    fraction: float = Field(0.1, gt=0, le=1, description="Part of the training sequences whose labels are used.")
    subset_seed: int = Field(0, ge=0, description="Which sequences; results are means over several.")
    subset: Literal["balanced", "random"] = Field(
        "balanced", description="balanced: the fraction of every class; random: of all, as CMD draws them."
    )
    full_length: bool = Field(
        False, description="An epoch is as long as with all labels: the few sequences come round (HiCLR)."
    )
    optimiser: Optimiser = Field(default_factory=lambda: Optimiser(milestones=[14, 29]))
    epochs: int = Field(42, ge=1, description=EPOCHS)

    @model_validator(mode="after")
    def _only_one_way_to_repeat(self) -> SemiRecipe:
        if self.full_length and self.repeat > 1:
            raise ValueError("full_length repeats the sequences already; leave repeat at 1")
        return self

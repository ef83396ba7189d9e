"""Settings of CMD and I2MD. What the I2MD paper's public part leaves open is an option here, with the default of the
specification (i2md.md, sections 4.1 and 4.2: "inferred").
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from engine.data.batch.recipes_i2md import CmdViews
from engine.data.preprocess import Stream
from engine.methods.distillation import Temperatures
from engine.methods.neighbours import AggregationSettings


class CmdSettings(BaseModel):
    """Momentum contrast of several streams and what they teach each other; defaults are published (i2md.md, 3)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    streams: tuple[Stream, ...] = Field(
        ("joint", "joint_motion", "bone"), min_length=1, description="Each has an encoder of its own."
    )
    views: CmdViews = Field(CmdViews(), description="Crops and augmentations; made before the streams.")
    width: int = Field(128, ge=1, description="Numbers of an embedding.")
    queue_length: int = Field(16_384, ge=1, description="Keys of a stream that are remembered.")
    momentum: float = Field(0.999, ge=0, le=1, description="Share of the key encoders that stays in a step.")
    temperature: float = Field(0.07, gt=0, description="Divides similarities in the contrast.")
    cross_weight: float = Field(
        1.0, ge=0, description="Weight of what streams teach each other; 0 leaves plain momentum contrast per stream."
    )
    neighbours: int = Field(8192, ge=1, description="Nearest queue entries whose ranking a teacher passes on.")
    teacher_temperature: float = Field(0.05, gt=0, description="Divides the teacher's similarities.")
    student_temperature: float = Field(0.1, gt=0, description="Divides the student's similarities.")
    mask_same_clip: bool = Field(
        False,
        description="Queue entries of the clip itself are no negatives and no neighbours: for training sets smaller "
        "than the queue (not published).",
    )

    @model_validator(mode="after")
    def _fits(self) -> CmdSettings:
        if len(set(self.streams)) != len(self.streams):
            raise ValueError("streams repeat")
        if self.neighbours > self.queue_length:
            raise ValueError(
                f"neighbours = {self.neighbours}, but the queues hold {self.queue_length}; half of that is published"
            )
        return self

    def temperatures(self) -> Temperatures:
        """What the losses need to know."""
        return Temperatures(self.temperature, self.teacher_temperature, self.student_temperature, self.neighbours)


class I2mdSettings(CmdSettings):
    """CMD and, within each stream, clusters that are contrasted and learn from their instances and back (inferred)."""

    cluster_weight: float = Field(1.0, ge=0, description="Weight of the contrast between clusters.")
    cluster_temperature: float | None = Field(
        None, gt=0, description="Divides similarities in the contrast between clusters; none: temperature."
    )
    intra_weight: float = Field(1.0, ge=0, description="Weight of what instances and clusters teach each other.")
    from_clusters: float = Field(
        1.0, ge=0, description="Factor of intra_weight for what instances learn from clusters; 0: nothing."
    )
    from_instances: float = Field(
        1.0, ge=0, description="Factor of intra_weight for what clusters learn from instances; 0: nothing."
    )
    intra_neighbours: int | None = Field(
        None,
        ge=1,
        description="Nearest queue entries whose ranking instances and clusters pass to each other; none: neighbours.",
    )
    intra_teacher_temperature: float | None = Field(
        None, gt=0, description="Divides the teacher's similarities between the two; none: teacher_temperature."
    )
    intra_student_temperature: float | None = Field(
        None, gt=0, description="Divides the student's similarities between the two; none: student_temperature."
    )
    aggregation: AggregationSettings = Field(AggregationSettings(), description="How a cluster is made.")
    aggregated: Literal["both", "key"] = Field(
        "both", description="key: the query of the cluster branch is the plain vector, as in neighbour-target methods."
    )
    query_neighbours: Literal["own", "key"] = Field(
        "own", description="Whether a query's cluster is made of its own neighbours or of its key's."
    )
    mask_aggregated: bool = Field(
        False, description="Neighbours that are part of a clip's key cluster are none of its cluster negatives."
    )
    cross_clusters: bool = Field(False, description="Streams also teach each other with their clusters.")
    cross_clusters_weight: float | None = Field(
        None, ge=0, description="Weight of what streams teach each other with their clusters; none: cross_weight."
    )
    separate_head: bool = Field(
        False, description="The cluster branch has a head of its own, and a queue of that head's keys for neighbours."
    )
    start_epoch: float = Field(
        0.0, ge=0, description="Epochs before the cluster branch joins; never before the queues are full."
    )
    ramp_epochs: float = Field(0.0, ge=0, description="Epochs in which its weights rise from 0 after it has joined.")

    @model_validator(mode="after")
    def _intra_fits(self) -> I2mdSettings:
        if (self.intra_neighbours or 0) > self.queue_length:
            raise ValueError(f"intra_neighbours = {self.intra_neighbours}, but the queues hold {self.queue_length}")
        return self

    def intra_temperatures(self) -> Temperatures | None:
        """How instances and clusters pass rankings to each other; None where as streams do."""
        common = self.temperatures()
        own = Temperatures(
            common.contrast,
            self.intra_teacher_temperature or common.teacher,
            self.intra_student_temperature or common.student,
            self.intra_neighbours or common.neighbours,
        )
        return None if own == common else own

    @property
    def has_clusters(self) -> bool:
        """False where nothing would be left of the cluster branch: then this is CMD."""
        return self.cluster_weight > 0 or self.intra_weight * max(self.from_clusters, self.from_instances) > 0


def small_dataset_warning(settings: CmdSettings, training_clips: int) -> str | None:
    """What to tell the user when the queue holds every training clip more than once; None where it does not.

    Source: i2md.md, 4.4.
    """
    if settings.queue_length <= training_clips or settings.mask_same_clip:
        return None
    times = settings.queue_length / max(training_clips, 1)
    return (
        f"the queues hold {settings.queue_length} keys, the training set {training_clips} clips: every clip is in them "
        f"about {times:.1f} times, and its own old keys are its negatives and nearest neighbours. Set queue_length to "
        "less than the training set (and neighbours to half of that), or mask_same_clip to true"
    )

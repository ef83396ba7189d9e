"""SkeletonGCL: supervised training that also contrasts the graphs clips produce with those of the whole training set.

The objective wraps an encoder that hands out its last sample-dependent graph. Nothing of it is left in the encoder:
a checkpoint holds the plain backbone, and evaluation never comes here. Source: skeletongcl.md, section 3 (Huang et al.,
Graph Contrastive Learning for Skeleton-based Action Recognition, ICLR 2023).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from engine.methods.memory import Bank, ClassQueues, Prototypes, SampleBank
from engine.methods.mining import ABSENT, Entries, MiningSettings, contrast_rows
from engine.methods.objective import Gather, Outcome, alone, at_least_float32
from engine.methods.supervised import SupervisedSettings, class_priors, supervised_loss

SUBSETS = 3
_SHORTEST = 1e-12


class SkeletonGclSettings(BaseModel):
    """The objective's settings; defaults are the released code's, and for the paper's variant the best known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    variant: Literal["released", "paper"] = Field(
        "released", description="released: one bank row per training sample. paper: a queue and a prototype per class."
    )
    temperature: float = Field(0.8, gt=0, description="Divides similarities; published per stream, else 0.8.")
    instance_weight: float = Field(1.0, ge=0, description="Weight of the contrast with bank entries.")
    semantic_weight: float = Field(1.0, ge=0, description="Paper's variant: weight of the contrast with prototypes.")
    semantic_warmup: int = Field(100, ge=0, description="Paper's variant: first steps without prototype contrast.")
    queue_length: int = Field(684, ge=1, description="Paper's variant: bank entries per class.")
    momentum: float = Field(0.85, ge=0, lt=1, description="Paper's variant: share of the old prototype that stays.")
    width: int = Field(256, ge=1, description="Numbers a graph is projected to.")
    train_projection: bool = Field(
        False, description="Train the projection; the released code leaves it as it was drawn."
    )
    mining: MiningSettings = MiningSettings()
    supervised: SupervisedSettings = SupervisedSettings()


def _can_open(counts: Tensor, mining: MiningSettings) -> None:
    """Without this a small dataset would train for days with a contrast that is silently off."""
    if not bool(mining.rows_per_class(counts).any()):
        raise ValueError(
            f"no anchor can ever be contrasted: of {int(counts.sum())} bank entries, the largest class has "
            f"{int(counts.max())}, but {mining.fewest_positives} of its own and {mining.fewest_negatives} of other "
            "classes are needed. Number every repetition of a sample by itself, lengthen the queues, or set "
            "mining's least_positives and least_negatives"
        )


class SkeletonGCL(nn.Module):
    """Supervised loss plus graph contrast around an encoder.

    Parameters
    ----------
    encoder : nn.Module
        Called as ``encoder(clips, want_graph=True)``; gives an :class:`~engine.models.persons.EncoderOutput` whose
        ``graph`` is ``(N, 3, V, V)``.
    joints : int
        V.
    classes : int
        K.
    sample_labels : Tensor or None
        int64 ``(R,)``: label of every sample number the loader hands out. Needed by the released variant, whose bank
        has a row for each; a set that is read several times an epoch (NW-UCLA five times) has numbers for every time.
    settings : SkeletonGclSettings

    Raises
    ------
    ValueError
        The released variant without ``sample_labels``, or with labels outside the classes; a bank that, even when
        full, has too few entries for any anchor to be contrasted.
    """

    steps: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        joints: int,
        classes: int,
        sample_labels: Tensor | None = None,
        settings: SkeletonGclSettings | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.classes = classes
        self.settings = settings = settings or SkeletonGclSettings()
        self.projection = nn.Linear(SUBSETS * joints**2, settings.width)
        nn.init.normal_(self.projection.weight, 0.0, math.sqrt(2.0 / classes))
        nn.init.zeros_(self.projection.bias)
        self.projection.requires_grad_(settings.train_projection)
        self.bank: Bank
        self.prototypes: Prototypes | None = None
        if settings.variant == "paper":
            self.bank = ClassQueues(classes, settings.queue_length, settings.width)
            self.prototypes = Prototypes(classes, settings.width, settings.momentum)
        else:
            if sample_labels is None or len(sample_labels) == 0:
                raise ValueError("the released variant needs the labels of all training samples")
            if int(sample_labels.min()) < 0 or int(sample_labels.max()) >= classes:
                raise ValueError(f"sample labels go beyond the {classes} classes")
            self.bank = SampleBank(sample_labels, settings.width)
        if settings.instance_weight > 0:
            _can_open(self.bank.labels.bincount(minlength=classes), settings.mining)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(
        self, clips: Tensor, labels: Tensor, samples: Tensor, generator: torch.Generator, gather: Gather = alone
    ) -> Outcome:
        """One training step's loss; banks take in the batch first.

        Parameters
        ----------
        clips : Tensor
            ``(N, C, T, V, M)``.
        labels, samples : Tensor
            int64 ``(N,)``: classes and sample numbers.
        generator : torch.Generator
            Draws one seed per step; in the same state in every process.
        gather : callable
            Brings the batches of all processes together.

        Returns
        -------
        Outcome
            Parts: those of :func:`~engine.methods.supervised.supervised_loss`, ``instance``, ``valid_anchors`` and
            ``bank_filled`` (shares 0 to 1), and with the paper's variant ``semantic``; all without weights.

        Raises
        ------
        ValueError
            The encoder hands out no graph, or sample numbers and labels do not fit the bank.
        """
        output = self.encoder(clips, want_graph=True)
        if output.graph is None:
            raise ValueError(f"{type(self.encoder).__name__} hands out no graph; SkeletonGCL needs one")
        base = supervised_loss(output, labels, self.settings.supervised, class_priors(self.encoder), gather)
        contrast = self.contrast(output.graph, labels, samples, generator, gather)
        return Outcome(base.loss + contrast.loss, base.parts | contrast.parts, base.logits)

    def vectors(self, graph: Tensor) -> Tensor:
        """Graphs ``(N, 3, V, V)``, subset-major, to unit vectors ``(N, width)``.

        A graph projected to nothing has no direction: it gives zeros and no gradient.
        """
        flat = at_least_float32(graph).flatten(1).to(self.projection.weight.dtype)
        projected = self.projection(flat)
        length = torch.linalg.vector_norm(projected, dim=1, keepdim=True)
        # Not "length > shortest": NaN must stay NaN and be seen in the loss.
        nothing = length <= _SHORTEST
        return (projected / length.masked_fill(nothing, 1)).masked_fill(nothing, 0)

    def contrast(
        self, graph: Tensor, labels: Tensor, samples: Tensor, generator: torch.Generator, gather: Gather = alone
    ) -> Outcome:
        """The contrastive part of :meth:`forward`, weighted, from graphs ``(N, 3, V, V)``; no logits."""
        settings = self.settings
        with torch.autocast(graph.device.type, enabled=False):
            vectors = self.vectors(graph)
            all_vectors, all_labels, all_samples = gather(vectors.detach()), gather(labels), gather(samples)
            processes = len(all_labels) // len(labels)
            has_direction = (all_vectors != 0).any(1)
            # One bad step (an overflow in half precision that the trainer skips) must not stay in the banks.
            sound = has_direction & all_vectors.isfinite().all(1)
            self.bank.remember(all_vectors[sound], all_labels[sound], all_samples[sound])
            seed = torch.randint(2**32, (2,), generator=generator, device=generator.device).tolist()

            rows_per_class = settings.mining.rows_per_class(self.bank.per_class(self.classes))
            all_rows = rows_per_class[all_labels] * has_direction
            valid = (rows_per_class[labels] > 0) & (vectors.detach() != 0).any(1)
            entries = Entries(self.bank.vectors, self.bank.labels, self.bank.filled)
            rows = contrast_rows(
                vectors, labels, samples, entries, settings.mining, settings.temperature, (seed[0], seed[1])
            )
            # A vector that is not finite has no neighbours to choose; its zeroth part keeps it visible in the loss.
            local = rows.masked_fill(~valid, 0).sum() + 0 * vectors.sum()
            instance = processes * local / all_rows.sum().clamp(min=1)
            loss = settings.instance_weight * instance
            parts = {
                "instance": instance.detach(),
                "valid_anchors": (all_rows > 0).float().mean(),
                "bank_filled": self.bank.filled.float().mean(),
            }
            if self.prototypes is not None:
                self.prototypes.remember(all_vectors[sound], all_labels[sound])
                semantic = self._semantic(vectors, labels, self.prototypes)
                semantic = processes * semantic / has_direction.sum().clamp(min=1)
                loss = loss + settings.semantic_weight * semantic
                parts["semantic"] = semantic.detach()
        self.steps += 1
        return Outcome(loss, parts)

    def _semantic(self, vectors: Tensor, labels: Tensor, prototypes: Prototypes) -> Tensor:
        """Sum over anchors of the contrast of the own class's prototype with the others'.

        A class that has not been seen yet has no direction and is no negative; skeletongcl.md 3.3 starts prototypes at
        zero, where they would count as negatives of similarity 0 in the first steps.
        """
        logits = vectors @ prototypes.directions().T / self.settings.temperature
        logits = logits.masked_fill(~prototypes.seen, ABSENT)
        anchors = nn.functional.cross_entropy(logits, labels, reduction="none")
        running = (self.steps >= self.settings.semantic_warmup) & (prototypes.seen.sum() > 1)
        return anchors.masked_fill(~(running & (vectors.detach() != 0).any(1)), 0).sum()

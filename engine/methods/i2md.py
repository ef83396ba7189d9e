"""CMD and I2MD: streams of the same clips, each with its own momentum contrast, teach each other (and themselves).

CMD: every stream imitates how the key encoders of the others rank the same queue positions. I2MD adds, within each
stream, clusters of neighbours that are contrasted too and exchange rankings with the instances. Published with three
GRU encoders; with other backbones it is our own. Source: i2md.md, sections 3 and 4.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from engine.data.batch import recipes_i2md
from engine.data.batch.streams import make_stream
from engine.data.preprocess import Stream
from engine.methods.distillation import SameClips, Student, Teacher, contrast_and_distil
from engine.methods.i2md_settings import CmdSettings, I2mdSettings, small_dataset_warning
from engine.methods.momentum import MomentumEncoder, Queue, freeze_classifier, own_generator
from engine.methods.neighbours import Cluster, Neighbours, aggregate, mean_cosine, nearest
from engine.methods.objective import Gather, Outcome, alone
from engine.models.gru import ProjectionHead
from engine.skeleton.layout import NTU25, Layout

INSTANCE, CLUSTER, RAW = "instance", "cluster", "raw"


class Vectors(NamedTuple):
    """Embeddings of one stream: of the instance head and of the cluster head (the same where there is one)."""

    instance: Tensor
    cluster: Tensor


class I2MD(nn.Module):
    """Encoders, heads, key copies and queues of all streams; CMD where the settings have no cluster branch.

    Parameters
    ----------
    make_encoder : callable
        Makes a freshly initialised encoder for one stream; classifiers are not trained.
    feature_dim : int
        Width of the encoders' features.
    settings : CmdSettings or I2mdSettings
    layout : Layout
        Joints of the clips.
    seed : int
        Draws the queues' first contents; weights come from torch's own generator.
    training_clips : int, optional
        Size of the training set: to warn when the queues are larger.
    clips_per_epoch : int, optional
        Clips that all processes together see in an epoch, to count those of ``start_epoch`` and ``ramp_epochs``:
        without the last, smaller batch where that is left out.

    Attributes
    ----------
    encoders : nn.ModuleDict
        Query encoders by stream: what is kept after pretraining.
    clips : Tensor
        int64 ``(K,)``: number of the clip of every queue row, -1 where unknown.

    Raises
    ------
    ValueError
        Epochs are to be counted, but ``clips_per_epoch`` is not given.
    """

    clips: Tensor

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        feature_dim: int,
        settings: CmdSettings | None = None,
        layout: Layout = NTU25,
        *,
        seed: int = 0,
        training_clips: int | None = None,
        clips_per_epoch: int | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings = settings or I2mdSettings()
        self.layout, self.clips_per_epoch = layout, clips_per_epoch
        intra = settings if isinstance(settings, I2mdSettings) and settings.has_clusters else None
        self.intra = intra
        if intra is not None and clips_per_epoch is None and (intra.start_epoch or intra.ramp_epochs):
            raise ValueError("start_epoch and ramp_epochs count epochs: clips_per_epoch must be given")
        if training_clips is not None and (warning := small_dataset_warning(settings, training_clips)):
            warnings.warn(warning, stacklevel=2)
        separate = intra is not None and intra.separate_head
        self.encoders, self.heads, self.keys = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for stream in settings.streams:
            encoder = self.encoders[stream] = freeze_classifier(make_encoder())
            heads = [INSTANCE, CLUSTER] if separate else [INSTANCE]
            head = nn.ModuleDict({name: ProjectionHead(feature_dim, settings.width) for name in heads})
            self.heads[stream] = head
            self.keys[stream] = MomentumEncoder(encoder, head, settings.momentum)
        generator = torch.Generator().manual_seed(seed)
        kinds = [INSTANCE] + ([CLUSTER] if intra is not None else []) + ([RAW] if separate else [])
        self.queues = nn.ModuleDict(
            {
                kind: nn.ModuleDict(
                    {stream: Queue(settings.queue_length, settings.width, generator) for stream in settings.streams}
                )
                for kind in kinds
            }
        )
        self.register_buffer("clips", torch.full((settings.queue_length,), -1))
        # Whether the cluster branch has its full weight for good: spares a wait for the device in every step.
        self._settled = False
        self.register_load_state_dict_post_hook(_forget_settled)

    def forward(
        self,
        views: tuple[Tensor, ...],
        lengths: tuple[Tensor, ...],
        generator: torch.Generator,
        gather: Gather = alone,
        items: Tensor | None = None,
    ) -> Outcome:
        """One step's loss; see :class:`~engine.methods.objective.SelfSupervised`.

        In training the key encoders move and the queues take in the keys. Parts: ``contrast_STREAM``, ``cross_modal``
        (sum over ordered pairs of streams), and with a cluster branch ``cluster`` and ``intra_modal`` (sums over
        streams, 0 until it has joined), ``own_weight`` (what a key weighs in its own cluster) and ``cluster_cosine``
        (mean cosine between key clusters): below 0.1 or above 0.9, neighbourhoods are too large and smooth everything
        (i2md.md, 4.3).

        Parameters
        ----------
        views, lengths, generator, gather
            Two crops of ``frames`` frames, as the loader's ``random_crop`` reads them with ``low`` 0.1; or one view,
            the plain clips with their lengths, of which both are made here.
        items : Tensor, optional
            int64 ``(N,)``: numbers of the clips; needed with ``mask_same_clip``, else a ValueError.
        """
        if len(views) not in (1, 2):
            raise ValueError(f"{len(views)} views; wanted two crops of each clip, or one plain clip")
        own = own_generator(generator, views[0].device)
        with torch.no_grad():
            clips = (views[0], views[1]) if len(views) == 2 else views[0]
            pair = recipes_i2md.views(clips, own, self.settings.views, lengths[0] if lengths else None)
        return self.step(*pair, gather, items)

    def step(self, first: Tensor, second: Tensor, gather: Gather = alone, items: Tensor | None = None) -> Outcome:
        """The loss from the two augmented views of the joints, ``(N, 3, frames, V, M)`` each; see :meth:`forward`."""
        settings = self.settings
        if settings.mask_same_clip and items is None:
            raise ValueError("mask_same_clip needs the numbers of the clips (items)")
        items = None if items is None else items.to(self.clips.device)
        queries = {s: self._embed(self.encoders[s], self.heads[s], self._stream(first, s)) for s in settings.streams}
        keys: dict[Stream, Vectors] = {}
        with torch.no_grad():
            for s in settings.streams:
                key = self.keys[s]
                assert isinstance(key, MomentumEncoder)
                if self.training:
                    key.update(self.encoders[s], self.heads[s])
                keys[s] = self._embed(key.encoder, key.head, self._stream(second, s))
        outcome, clusters = self._losses(queries, keys, items)
        # Every stream's and branch's keys of all processes, (kinds, streams, all rows, width), in one exchange.
        kinds = {INSTANCE: [keys[s].instance for s in settings.streams]}
        kinds |= {CLUSTER: clusters, RAW: [keys[s].cluster for s in settings.streams]}
        mine = torch.stack([torch.stack(kinds[kind], 1) for kind in self.queues], 1)
        everyone = dict(zip(self.queues, gather(mine).permute(1, 2, 0, 3)))
        if CLUSTER in everyone:
            outcome.parts["cluster_cosine"] = mean_cosine(everyone[CLUSTER])
        if self.training:
            if items is not None:
                self._remember_clips(gather(items))
            for kind, of_streams in everyone.items():
                for s, rows in zip(settings.streams, of_streams):
                    self._queue(kind, s).enqueue(rows)
        return outcome

    def _stream(self, joints: Tensor, stream: Stream) -> Tensor:
        return make_stream(joints, stream, self.layout)

    @staticmethod
    def _embed(encoder: nn.Module, head: nn.Module, clips: Tensor) -> Vectors:
        features = encoder(clips).features
        assert isinstance(head, nn.ModuleDict)
        instance = head[INSTANCE](features)
        return Vectors(instance, head[CLUSTER](features) if CLUSTER in head else instance)

    # Losses ----------------------------------------------------------------------------------------------------------

    def _losses(
        self, queries: dict[Stream, Vectors], keys: dict[Stream, Vectors], items: Tensor | None
    ) -> tuple[Outcome, list[Tensor]]:
        """The step's outcome, and the key clusters of every stream (none without a cluster branch)."""
        settings, intra, streams = self.settings, self.intra, self.settings.streams
        same = SameClips(items, self.clips) if settings.mask_same_clip and items is not None else None
        count = len(streams)
        teachers = [Teacher(keys[s].instance, self._bank(INSTANCE, s)) for s in streams]
        found = [self._key_cluster(s, keys[s].cluster, same) for s in streams] if intra is not None else []
        share = self._cluster_share()
        way = intra.intra_temperatures() if intra is not None else None
        students = []
        for i, s in enumerate(streams):
            lessons = _weights((j, settings.cross_weight) for j in range(count) if j != i)
            if intra is not None:
                lessons |= _weights([(count + i, share * intra.intra_weight * intra.from_clusters)])
            ways = {} if way is None else {count + i: way}
            students.append(Student(queries[s].instance, keys[s].instance, teachers[i].bank, 1.0, lessons, ways=ways))
        if intra is not None and share > 0:
            teachers += [Teacher(cluster.vectors, self._bank(CLUSTER, s)) for s, (_, cluster) in zip(streams, found)]
            for i, (s, (neighbours, cluster)) in enumerate(zip(streams, found)):
                query = self._query_cluster(s, queries[s].cluster, neighbours, same)
                lessons = _weights([(i, share * intra.intra_weight * intra.from_instances)])
                if intra.cross_clusters:
                    weight = intra.cross_clusters_weight
                    weight = share * (settings.cross_weight if weight is None else weight)
                    lessons |= _weights((count + j, weight) for j in range(count) if j != i)
                left_out = cluster.members if intra.mask_aggregated else None
                students.append(
                    Student(
                        query,
                        cluster.vectors,
                        teachers[count + i].bank,
                        share * intra.cluster_weight,
                        lessons,
                        left_out,
                        intra.cluster_temperature,
                        {} if way is None else {i: way},
                    )
                )
        losses = contrast_and_distil(students, teachers, settings.temperatures(), same)

        parts = {f"contrast_{s}": losses.contrast[i] for i, s in enumerate(streams)}
        taught = losses.distilled
        parts["cross_modal"] = taught[:count, :count].sum()
        clusters = [cluster.vectors for _, cluster in found]
        if intra is not None:
            parts["cluster"] = losses.contrast[count:].sum()
            # Of a stream's instances by its clusters, and back; with cross_clusters also clusters by clusters.
            parts["intra_modal"] = taught[:count, count:].sum() + taught[count:, :count].sum()
            if intra.cross_clusters:
                parts["cross_clusters"] = taught[count:, count:].sum()
            parts["own_weight"] = torch.stack([cluster.own_weight.mean() for _, cluster in found]).mean()
        loss = losses.loss
        if RAW in self.queues and share == 0:
            # Nothing asks the cluster heads yet; data-parallel training wants a gradient, if only of zeros.
            loss = loss + 0 * torch.stack([vectors.cluster for vectors in queries.values()]).sum()
        return Outcome(loss, parts), clusters

    def _bank(self, kind: str, stream: str) -> Tensor:
        """A stream's queue as it is. No copy: what the losses keep for the backward pass holds nothing of it."""
        return self._queue(kind, stream).vectors

    def _queue(self, kind: str, stream: str) -> Queue:
        queue = self.queues[kind][stream]  # type: ignore[index]
        assert isinstance(queue, Queue)
        return queue

    def _key_cluster(self, stream: str, keys: Tensor, same: SameClips | None) -> tuple[Neighbours, Cluster]:
        """Neighbours of a stream's keys among the keys written so far, and their clusters."""
        assert self.intra is not None
        queue = self._queue(RAW if RAW in self.queues else INSTANCE, stream)
        neighbours = nearest(keys, queue.vectors, self.intra.aggregation.neighbours, queue.seen, same)
        return neighbours, aggregate(keys, queue.vectors, neighbours, self.intra.aggregation)

    def _query_cluster(self, stream: str, queries: Tensor, of_keys: Neighbours, same: SameClips | None) -> Tensor:
        """Vectors the cluster branch asks with: clusters around the queries, or the queries themselves."""
        assert self.intra is not None
        if self.intra.aggregated == "key":
            return queries
        bank = self._bank(RAW if RAW in self.queues else INSTANCE, stream)
        neighbours = of_keys
        if self.intra.query_neighbours == "own":
            neighbours = nearest(queries, bank, self.intra.aggregation.neighbours, same=same)
        return aggregate(queries, bank, neighbours, self.intra.aggregation).vectors

    def _cluster_share(self) -> float:
        """Part of its weights the cluster branch has in this step: 0 until the queues are full (i2md.md, 4.1)."""
        if self.intra is None or self._settled:
            return 0.0 if self.intra is None else 1.0
        seen = int(self._queue(INSTANCE, self.settings.streams[0]).seen)
        epoch = self.clips_per_epoch or 0
        opens = max(self.settings.queue_length, self.intra.start_epoch * epoch)
        if seen < opens:
            return 0.0
        ramp = self.intra.ramp_epochs * epoch
        share = min(1.0, (seen - opens) / ramp) if ramp else 1.0
        self._settled = share == 1.0
        return share

    def _remember_clips(self, numbers: Tensor) -> None:
        """Clip numbers ``(N,)`` of the rows that are written next, as the queues write them."""
        length = len(self.clips)
        pointer = self._queue(INSTANCE, self.settings.streams[0]).pointer
        rows = (pointer + torch.arange(len(numbers), device=pointer.device)) % length
        self.clips.index_copy_(0, rows[-length:], numbers[-length:])


def _weights(pairs: Iterable[tuple[int, float]]) -> dict[int, float]:
    """Teachers that count: what weighs nothing need not be computed."""
    return {number: weight for number, weight in pairs if weight > 0}


def _forget_settled(module: nn.Module, _: Any) -> None:
    assert isinstance(module, I2MD)
    module._settled = False

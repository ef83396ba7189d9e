"""Drop/add edges, HiCLR's strong augmentation inside an encoder: its graphs are changed for one forward pass.

An encoder takes part through modules with an attribute ``change_edges``: None, or a function that a training forward
applies to the module's adjacency ``(3, V, V)`` (graph convolution: one change for the batch) or to its attention maps
``(N, 3, V, V)``. Source: hiclr.md, section 4.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from engine.data.batch.joints import add_edges, drop_edges

ChangeEdges = Callable[[Tensor], Tensor]


def drop_and_add(highest_drop: float, highest_add: float, generator: torch.Generator) -> ChangeEdges:
    """Drop edges with p ~ U(0, highest_drop), then add some with r ~ U(0, highest_add); fresh draws at every call.

    A new edge is 1 in an adjacency that all clips share and the mean of the maps where every clip has its own.
    """

    def change(graph: Tensor) -> Tensor:
        if highest_drop > 0:
            graph = drop_edges(graph, highest_drop, generator)
        if highest_add > 0:
            graph = add_edges(graph, highest_add, generator, 1.0 if graph.dim() == 3 else graph.mean())
        return graph

    return change


@contextmanager
def changed_edges(encoder: nn.Module, change: ChangeEdges) -> Iterator[None]:
    """Within the block the encoder's graphs are changed.

    Raises
    ------
    ValueError
        The encoder has no graph that can be changed.
    """
    places = [module for module in encoder.modules() if hasattr(module, "change_edges")]
    if not places:
        raise ValueError(f"{type(encoder).__name__} has no edges to drop or add; use the joint mask or SkeleAdaIN")
    try:
        for place in places:
            place.change_edges = change  # type: ignore[assignment]
        yield
    finally:
        for place in places:
            place.change_edges = None  # type: ignore[assignment]

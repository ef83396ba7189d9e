"""What frozen features know about the classes, without training anything: nearest neighbours and ridge regression."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

# Test clips whose similarities to all training clips are held at once.
CHUNK = 1024


def nearest_neighbours(
    train: Tensor, labels: Tensor, test: Tensor, classes: int, ks: Sequence[int], temperature: float
) -> dict[int, Tensor]:
    """Votes of the k training clips with the highest cosine similarity, for several k at once.

    Parameters
    ----------
    train, test : Tensor
        Features ``(S, D)`` and ``(N, D)``; brought to length 1 here.
    labels : Tensor
        int64 ``(S,)``.
    classes : int
        K.
    ks : sequence of int
        Numbers of neighbours; of fewer training clips all vote.
    temperature : float
        A neighbour's vote weighs ``exp(cosine / temperature)`` (hiclr.md, section 7); 0: every vote weighs 1.

    Returns
    -------
    dict
        k to votes float32 ``(N, K)``; the highest is the prediction. Weights are relative to the nearest neighbour's.

    Raises
    ------
    ValueError
        No training clips.
    """
    if not len(train):
        raise ValueError("nearest neighbours need training clips")
    train, test = functional.normalize(train.float(), dim=1), functional.normalize(test.float(), dim=1)
    most = min(max(ks), len(train))
    found: dict[int, list[Tensor]] = {k: [] for k in ks}
    for begin in range(0, len(test), CHUNK):
        similarity = test[begin : begin + CHUNK] @ train.T
        nearest, index = similarity.topk(most, dim=1)
        weight = torch.exp((nearest - nearest[:, :1]) / temperature) if temperature else torch.ones_like(nearest)
        voted = labels.to(index.device)[index]
        for k in ks:
            votes = torch.zeros(len(index), classes, device=index.device)
            found[k].append(votes.scatter_add_(1, voted[:, :k], weight[:, :k]).cpu())
    return {k: torch.cat(parts) if parts else torch.zeros(0, classes) for k, parts in found.items()}


def ridge(train: Tensor, labels: Tensor, test: Tensor, classes: int, strength: float = 1e-3) -> Tensor:
    """Scores float32 ``(N, K)`` of a linear classifier fitted in closed form.

    One-hot classes are regressed on features standardised by the training clips, with a penalty of ``strength`` times
    the number of training clips on the squared weights. A quick relative of linear evaluation, not its replacement.
    """
    train, test = train.double(), test.double()
    mean, deviation = train.mean(0), train.std(0, correction=0).clamp(min=1e-9)
    x, y = (train - mean) / deviation, functional.one_hot(labels, classes).double().to(train.device)
    offset = y.mean(0)
    count, width = x.shape
    if width <= count:
        gram = x.T @ x + strength * count * torch.eye(width, dtype=x.dtype, device=x.device)
        weight = torch.linalg.solve(gram, x.T @ (y - offset))
    else:
        # The same solution through the smaller matrix.
        gram = x @ x.T + strength * count * torch.eye(count, dtype=x.dtype, device=x.device)
        weight = x.T @ torch.linalg.solve(gram, y - offset)
    return (((test - mean) / deviation) @ weight + offset).float().cpu()


def share_right(scores: Tensor, labels: Tensor, k: int = 1) -> float:
    """Share of rows whose class is among the k highest scores."""
    best = scores.topk(min(k, scores.shape[1]), dim=1).indices
    return float((best == labels[:, None]).any(1).double().mean())

"""The recurrent encoder of CMD and I2MD, published as "BiGRU", in the two forms the name can mean.

The reference feeds a bidirectional GRU one frame at a time, so both of its "directions" run forward in time and only
their weights differ: that is :class:`GRUEncoder`. :class:`BidirectionalGRUEncoder` is a really bidirectional network
of the same size. Written from the I2MD specification, sections 1.4 and 2.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.models.backbone_card import BackboneCard
from engine.models.persons import EncoderOutput
from engine.skeleton.layout import get_layout

CARD = BackboneCard(
    title="GRU encoder of CMD and I2MD",
    paper="Y. Mao, W. Zhou, Z. Lu, J. Deng, H. Li: CMD: Self-supervised 3D Action Representation Learning with "
    "Cross-modal Mutual Distillation. ECCV 2022; Y. Mao, J. Deng, W. Zhou, Z. Lu, W. Ouyang, H. Li: I2MD: 3D Action "
    "Representation Learning with Inter- and Intra-modal Mutual Distillation. IJCV 2025",
    year=2022,
    input="(3, 64, 25, 2): xyz, frames, joints, persons; both persons side by side in one sequence",
    streams=("joint", "joint_motion", "bone"),
    parameters=45_121_896,
    setting={"num_classes": 60, "layout": "ntu25", "persons": 2},
    gmac=2.876,
    notes="Called BiGRU in the papers; both GRUs of a layer run forward in time, as in the reference.",
)


class _Recurrence(torch.autograd.Function):
    """All steps of one GRU from the input's share of its gates: ``(T, N, 3H), (3H, H), (3H,) -> (T, N, H)``.

    The library's GRU on a CPU adds up the gradient of the recurrent weights step by step; here every step's gate
    gradients are kept and the weights' gradient is one product. State and gates are float32 when the gates come in
    half precision; the products run in the precision of the gates.
    """

    @staticmethod
    def forward(ctx, gates: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        steps, n, wide = gates.shape
        h = wide // 3
        low = gates.dtype
        full = torch.float32 if low in (torch.bfloat16, torch.float16) else low
        weight_t, bias = weight.to(low).t(), bias.to(low)
        states = gates.new_zeros((steps + 1, n, h), dtype=full)
        # Reset and update gate side by side, candidate, and the recurrent share of the candidate.
        both = gates.new_empty((steps, n, 2 * h), dtype=full)
        candidate = gates.new_empty((steps, n, h), dtype=full)
        inner = gates.new_empty((steps, n, h), dtype=full)
        with torch.autocast(gates.device.type, enabled=False):
            for t in range(steps):
                recurrent = torch.addmm(bias, states[t].to(low), weight_t)
                torch.sigmoid(gates[t, :, : 2 * h].to(full) + recurrent[:, : 2 * h], out=both[t])
                inner[t] = recurrent[:, 2 * h :]
                torch.tanh(torch.addcmul(gates[t, :, 2 * h :].to(full), both[t, :, :h], inner[t]), out=candidate[t])
                torch.lerp(candidate[t], states[t], both[t, :, h:], out=states[t + 1])
        ctx.save_for_backward(weight, states, both, candidate, inner)
        ctx.low = low
        return states[1:].to(low)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[no-untyped-def, override]
        weight, states, both, candidate, inner = ctx.saved_tensors
        low, full = ctx.low, states.dtype
        steps, n, h = candidate.shape
        reset, update = both[..., :h], both[..., h:]
        # What multiplies the state's gradient on its way into each gate is known for all steps at once.
        into_candidate = (1 - update) * (1 - candidate.square())
        into_update = (states[:-1] - candidate) * update * (1 - update)
        into_reset = inner * reset * (1 - reset)
        d_candidate = torch.empty_like(candidate)
        d_recurrent = candidate.new_empty((steps, n, 3 * h))
        weight_low = weight.to(low)
        carried = candidate.new_zeros((n, h))
        with torch.autocast(grad.device.type, enabled=False):
            for t in range(steps - 1, -1, -1):
                carried = carried + grad[t]
                torch.mul(carried, into_candidate[t], out=d_candidate[t])
                torch.mul(d_candidate[t], into_reset[t], out=d_recurrent[t, :, :h])
                torch.mul(carried, into_update[t], out=d_recurrent[t, :, h : 2 * h])
                torch.mul(d_candidate[t], reset[t], out=d_recurrent[t, :, 2 * h :])
                carried = torch.addcmul(torch.mm(d_recurrent[t].to(low), weight_low).to(full), carried, update[t])
            d_gates = torch.cat([d_recurrent[..., : 2 * h], d_candidate], 2).to(low)
            flat = d_recurrent.view(steps * n, 3 * h)
            d_weight = torch.mm(flat.to(low).t(), states[:-1].view(steps * n, h).to(low)).to(weight.dtype)
        return d_gates, d_weight, flat.sum(0).to(weight.dtype)


class GRUPair(nn.Module):
    """Two GRUs over one input, outputs side by side: ``(T, N, I) -> (T, N, 2H)``.

    With ``reverse`` the second one reads the sequence from its end (its outputs are put back into the order of time).
    """

    def __init__(self, inputs: int, hidden: int, reverse: bool) -> None:
        super().__init__()
        self.reverse = reverse
        self.first = nn.GRU(inputs, hidden)
        self.second = nn.GRU(inputs, hidden)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        backwards = self.run(self.second, x.flip(0)).flip(0) if self.reverse else self.run(self.second, x)
        return torch.cat([self.run(self.first, x), backwards], 2)

    def last(self, x: Tensor) -> Tensor:
        """Both GRUs' states after they have read the whole sequence, ``(N, 2H)``."""
        first = self.run(self.first, x)[-1]
        second = self.run(self.second, x.flip(0) if self.reverse else x)[-1]
        return torch.cat([first, second], 1)

    @staticmethod
    def run(gru: nn.GRU, x: Tensor) -> Tensor:
        """Outputs of one GRU with zero initial state, ``(T, N, H)``."""
        weight_in, weight_state, bias_in, bias_state = gru.all_weights[0]
        training_on_cpu = x.device.type == "cpu" and torch.is_grad_enabled() and weight_state.requires_grad
        if not training_on_cpu or torch.jit.is_tracing() or torch.compiler.is_compiling():
            return gru(x)[0]
        return _Recurrence.apply(functional.linear(x, weight_in, bias_in), weight_state, bias_state)


class GRUEncoder(nn.Module):
    """The published encoder: three layers of two GRUs that both run forward in time, read at the last frame.

    A frame is flattened to ``V * C * M`` numbers, joint first and person fastest (index ``6 * joint + 2 * coordinate +
    person`` for two persons), and batch-normalised over clips and frames. Both persons enter one sequence; an absent
    one is zeros in it. The feature is causal: the state after a frame depends on no later frame.

    Weights of public CMD checkpoints fit one to one: ``weight_ih_l2`` is ``layers.2.first.weight_ih_l0``,
    ``weight_ih_l2_reverse`` is ``layers.2.second.weight_ih_l0``, and so on.

    Parameters
    ----------
    num_classes : int
        Width of the classifier.
    layout : str
        Joint layout of the clips.
    persons : int
        Person slots M.
    in_channels, hidden, layers
        3, 1024 per GRU and 3 as published.
    """

    card = CARD
    reverse = False

    def __init__(
        self,
        num_classes: int,
        layout: str = "ntu25",
        persons: int = 2,
        in_channels: int = 3,
        hidden: int = 1024,
        layers: int = 3,
    ) -> None:
        super().__init__()
        inputs = get_layout(layout).num_joints * in_channels * persons
        self.feature_dim = 2 * hidden
        self.input_norm = nn.BatchNorm1d(inputs)
        sizes = [inputs] + [2 * hidden] * (layers - 1)
        self.layers = nn.ModuleList([GRUPair(size, hidden, self.reverse) for size in sizes])
        self.classifier = nn.Linear(self.feature_dim, num_classes)
        nn.init.normal_(self.classifier.weight, 0.0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def _frames(self, clips: Tensor) -> Tensor:
        """Flattened, normalised frames, time first: ``(T, N, V * C * M)``."""
        c, t, v, m = (int(size) for size in clips.shape[1:])
        x = clips.permute(2, 0, 3, 1, 4).reshape(-1, v * c * m)
        return self.input_norm(x).view(t, -1, v * c * m)

    def states(self, clips: Tensor) -> Tensor:
        """Outputs of the top layer at every frame, ``(N, T, 2 * hidden)``."""
        x = self._frames(clips)
        for layer in self.layers:
            x = layer(x)
        return x.transpose(0, 1)

    def forward(self, clips: Tensor, want_graph: bool = False) -> EncoderOutput:
        """Clips float32 ``(N, C, T, V, M)`` to logits ``(N, K)`` and features ``(N, 2 * hidden)``; no graph."""
        x = self._frames(clips)
        for layer in self.layers[:-1]:
            x = layer(x)
        top = self.layers[-1]
        assert isinstance(top, GRUPair)
        features = top.last(x)
        return EncoderOutput(self.classifier(features), features)


class BidirectionalGRUEncoder(GRUEncoder):
    """The encoder its name promises: in every layer the second GRU reads the clip from its end.

    Not what CMD and I2MD published numbers for. The feature joins the final states of both directions: the first
    GRU's at the last frame and the second's at the first frame (at the last frame it has read one frame only).
    """

    card = replace(
        CARD,
        title="Bidirectional GRU encoder",
        notes="Really bidirectional, as the papers' name says and their reference is not; no published numbers.",
    )
    reverse = True


class ProjectionHead(nn.Module):
    """CMD's embedding head ``Linear - ReLU - Linear`` with unit vectors as output, ``(N, D) -> (N, 128)``.

    Dropped after pretraining. The last layer is Xavier-uniform, the hidden one keeps the library's initialisation.
    """

    def __init__(self, features: int = 2048, embedding: int = 128) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, features)
        self.out = nn.Linear(features, embedding)
        nn.init.xavier_uniform_(self.out.weight)

    def forward(self, features: Tensor) -> Tensor:
        embedded = self.out(torch.relu(self.hidden(features)))
        # Norms of half-precision vectors overflow or round: unit vectors are made in float32.
        full = embedded if embedded.dtype == torch.float64 else embedded.float()
        return functional.normalize(full, dim=1)

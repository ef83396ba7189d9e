"""The GRU encoder frame by frame, gate by gate (I2MD specification, sections 1.4 and 2); names as in the encoder."""

import torch
from torch import nn

from engine.models.persons import EncoderOutput


class PlainPair(nn.Module):
    def __init__(self, inputs, hidden):
        super().__init__()
        # Parameter holders only: their forward is never called.
        self.first = nn.GRU(inputs, hidden)
        self.second = nn.GRU(inputs, hidden)


def step(gru, x, state):
    """One frame: r, z, n, new state."""
    from_input = x @ gru.weight_ih_l0.T + gru.bias_ih_l0
    from_state = state @ gru.weight_hh_l0.T + gru.bias_hh_l0
    reset_in, update_in, new_in = from_input.chunk(3, 1)
    reset_state, update_state, new_state = from_state.chunk(3, 1)
    reset = torch.sigmoid(reset_in + reset_state)
    update = torch.sigmoid(update_in + update_state)
    new = torch.tanh(new_in + reset * new_state)
    return (1 - update) * new + update * state


class PlainGRU(nn.Module):
    """Both GRUs of a layer run forward, their states are carried from frame to frame, all layers in every frame."""

    def __init__(self, num_classes, joints=25, persons=2, hidden=1024, layers=3):
        super().__init__()
        self.input_norm = nn.BatchNorm1d(joints * 3 * persons)
        sizes = [joints * 3 * persons] + [2 * hidden] * (layers - 1)
        self.layers = nn.ModuleList([PlainPair(size, hidden) for size in sizes])
        self.classifier = nn.Linear(2 * hidden, num_classes)
        self.hidden = hidden

    def forward(self, clips):
        n, c, t, v, m = clips.shape
        frames = torch.stack(
            [clips[:, k, :, j, p] for j in range(v) for k in range(c) for p in range(m)], dim=1
        )  # (N, 150, T): joint, coordinate, person
        frames = self.input_norm(frames)
        zero = clips.new_zeros((n, self.hidden))
        states = [(zero, zero) for _ in self.layers]
        for i in range(t):
            y = frames[:, :, i]
            for k, layer in enumerate(self.layers):
                states[k] = (step(layer.first, y, states[k][0]), step(layer.second, y, states[k][1]))
                y = torch.cat(states[k], 1)
        return EncoderOutput(self.classifier(y), y)

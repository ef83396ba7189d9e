"""2s-AGCN, the equations of skeletongcl.md, sections 2.1 and 2.2, line by line; parameters named as in the encoder."""

import torch
from torch import nn
from torch.nn import functional

from tests.engine.models.plain.shared import data_norm, down, part, person_mean


class Convolution(nn.Module):
    def __init__(self, c_in, c_out, adjacency):
        super().__init__()
        self.theta = nn.Conv2d(c_in, 3 * c_out // 4, 1)
        self.phi = nn.Conv2d(c_in, 3 * c_out // 4, 1)
        self.value = nn.Conv2d(c_in, 3 * c_out, 1)
        self.learned = nn.Parameter(torch.zeros_like(adjacency))
        self.adjacency = adjacency

    def forward(self, x):
        n, c, t, v = x.shape
        out, scores = 0, []
        for k in range(3):
            theta = functional.conv2d(x, *part(self.theta, k)).permute(0, 3, 1, 2).reshape(n, v, -1)
            phi = functional.conv2d(x, *part(self.phi, k)).reshape(n, -1, v)
            s = torch.matmul(theta, phi)
            g = self.adjacency[k] + self.learned[k] + torch.softmax(s / phi.shape[1], 1)
            mixed = torch.matmul(x.reshape(n, c * t, v), g).view(n, c, t, v)
            out = out + functional.conv2d(mixed, *part(self.value, k))
            scores.append(s)
        return out, torch.stack(scores, 1)


class GraphUnit(nn.Module):
    def __init__(self, c_in, c_out, adjacency):
        super().__init__()
        self.convolution = Convolution(c_in, c_out, adjacency)
        self.norm = nn.BatchNorm2d(c_out)
        self.down = down(c_in, c_out)

    def forward(self, x):
        out, graph = self.convolution(x)
        return torch.relu(self.norm(out) + self.down(x)), graph


class Block(nn.Module):
    def __init__(self, c_in, c_out, adjacency, stride, residual):
        super().__init__()
        self.graph = GraphUnit(c_in, c_out, adjacency)
        self.temporal = nn.Sequential(
            nn.Conv2d(c_out, c_out, (9, 1), stride=(stride, 1), padding=(4, 0)), nn.BatchNorm2d(c_out)
        )
        self.residual = down(c_in, c_out, stride) if residual else None

    def forward(self, x):
        y, graph = self.graph(x)
        y = self.temporal(y)
        return torch.relu(y if self.residual is None else y + self.residual(x)), graph


class Plain(nn.Module):
    def __init__(self, num_classes, adjacency, persons=2):
        super().__init__()
        self.persons = persons
        self.input_norm = nn.BatchNorm1d(persons * adjacency.shape[1] * 3)
        sizes = [3] + [64] * 4 + [128] * 3 + [256] * 3
        strides = [1, 1, 1, 1, 2, 1, 1, 2, 1, 1]
        self.blocks = nn.ModuleList([Block(sizes[i], sizes[i + 1], adjacency, strides[i], i > 0) for i in range(10)])
        self.classifier = nn.Linear(256, num_classes)

    def forward(self, clips):
        x = data_norm(clips, self.input_norm)
        for block in self.blocks:
            x, graph = block(x)
        features = person_mean(x, self.persons)
        return self.classifier(features), features, graph.view(-1, self.persons, *graph.shape[1:]).mean(1)

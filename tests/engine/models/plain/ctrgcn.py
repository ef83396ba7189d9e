"""CTR-GCN, the equations of skeletongcl.md, sections 2.1 and 2.3, line by line; parameters named as in the encoder."""

import torch
from torch import nn
from torch.nn import functional

from tests.engine.models.plain.shared import MultiScaleTemporal, data_norm, down, part, person_mean


class Refinement(nn.Module):
    def __init__(self, c_in, c_out, joints):
        super().__init__()
        r = 8 if c_in in (3, 9) else c_in // 8
        self.query = nn.Conv2d(c_in, 3 * r, 1)
        self.key = nn.Conv2d(c_in, 3 * r, 1)
        self.value = nn.Conv2d(c_in, 3 * c_out, 1)
        self.expand = nn.Conv2d(3 * r, 3 * c_out, 1, groups=3)
        self.adjacency = nn.Parameter(torch.zeros(3, joints, joints))
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        out, graphs = 0, []
        for k in range(3):
            x1 = functional.conv2d(x, *part(self.query, k)).mean(2)
            x2 = functional.conv2d(x, *part(self.key, k)).mean(2)
            m = torch.tanh(x1.unsqueeze(3) - x2.unsqueeze(2))
            q = functional.conv2d(m, *part(self.expand, k))
            r = self.alpha * q + self.adjacency[k]
            out = out + torch.einsum("ncuv,nctv->nctu", r, functional.conv2d(x, *part(self.value, k)))
            graphs.append(q)
        return out, torch.stack(graphs, 1)


class GraphUnit(nn.Module):
    def __init__(self, c_in, c_out, joints):
        super().__init__()
        self.refinement = Refinement(c_in, c_out, joints)
        self.norm = nn.BatchNorm2d(c_out)
        self.down = down(c_in, c_out)

    def forward(self, x):
        out, graph = self.refinement(x)
        return torch.relu(self.norm(out) + self.down(x)), graph


class Block(nn.Module):
    def __init__(self, c_in, c_out, joints, stride, residual):
        super().__init__()
        self.graph = GraphUnit(c_in, c_out, joints)
        self.temporal = MultiScaleTemporal(c_out, stride)
        self.residual = down(c_in, c_out, stride) if residual else None

    def forward(self, x):
        y, graph = self.graph(x)
        y = self.temporal(y)
        return torch.relu(y if self.residual is None else y + self.residual(x)), graph


class Plain(nn.Module):
    def __init__(self, num_classes, joints=25, persons=2):
        super().__init__()
        self.persons = persons
        self.input_norm = nn.BatchNorm1d(persons * joints * 3)
        sizes = [3] + [64] * 4 + [128] * 3 + [256] * 3
        strides = [1, 1, 1, 1, 2, 1, 1, 2, 1, 1]
        self.blocks = nn.ModuleList([Block(sizes[i], sizes[i + 1], joints, strides[i], i > 0) for i in range(10)])
        self.classifier = nn.Linear(256, num_classes)

    def forward(self, clips):
        x = data_norm(clips, self.input_norm)
        for block in self.blocks:
            x, graph = block(x)
        features = person_mean(x, self.persons)
        graph = graph.view(-1, self.persons, *graph.shape[1:]).mean(1).mean(2)
        return self.classifier(features), features, graph

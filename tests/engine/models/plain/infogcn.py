"""InfoGCN, the equations of skeletongcl.md, sections 2.1, 2.3, 2.4, line by line; parameters as in the encoder."""

import torch
from torch import nn
from torch.nn import functional

from tests.engine.models.plain.shared import MultiScaleTemporal, data_norm, down, part, person_mean


class Convolution(nn.Module):
    def __init__(self, c_in, c_out, joints):
        super().__init__()
        self.norm = nn.LayerNorm(c_in)
        self.query_key = nn.Linear(c_in, 6 * (c_in // 8))
        self.learned = nn.Parameter(torch.zeros(3, joints, joints))
        self.value = nn.Linear(c_in, 3 * c_out)

    def forward(self, x):
        n, c, t, v = x.shape
        d = c // 8
        y = self.query_key(self.norm(x.permute(0, 2, 3, 1).contiguous().view(n * t, v, c)))
        y = y.view(n * t, v, 2, 3, d).permute(2, 0, 3, 1, 4)
        q, k = y[0], y[1]
        attention = torch.softmax(torch.einsum("nhid,nhjd->nhij", q, k) / d**0.5, 3)
        graphs = (attention * self.learned).view(n, t, 3, v, v)
        out = 0
        for h in range(3):
            mixed = torch.einsum("ntij,nctj->ncti", graphs[:, :, h], x)
            weight, bias = part(self.value, h)
            out = out + functional.conv2d(mixed, weight[:, :, None, None], bias)
        return out, attention.view(n, t, 3, v, v)


class GraphUnit(nn.Module):
    def __init__(self, c_in, c_out, joints):
        super().__init__()
        self.convolution = Convolution(c_in, c_out, joints)
        self.norm = nn.BatchNorm2d(c_out)
        self.down = down(c_in, c_out)

    def forward(self, x):
        out, graph = self.convolution(x)
        return torch.relu(self.norm(out) + self.down(x)), graph


class Block(nn.Module):
    def __init__(self, c_in, c_out, joints, stride):
        super().__init__()
        self.graph = GraphUnit(c_in, c_out, joints)
        self.temporal = MultiScaleTemporal(c_out, stride)
        self.residual = down(c_in, c_out, stride)

    def forward(self, x):
        y, graph = self.graph(x)
        return torch.relu(torch.relu(self.temporal(y)) + self.residual(x)), graph


class Plain(nn.Module):
    def __init__(self, num_classes, joints=25, persons=2):
        super().__init__()
        self.persons = persons
        self.embedding = nn.Linear(3, 64)
        self.positions = nn.Parameter(torch.zeros(1, joints, 64))
        self.input_norm = nn.BatchNorm1d(persons * joints * 64)
        sizes = [64] * 4 + [128] * 3 + [256] * 3
        strides = [1, 1, 1, 2, 1, 1, 2, 1, 1]
        self.blocks = nn.ModuleList([Block(sizes[i], sizes[i + 1], joints, strides[i]) for i in range(9)])
        self.hidden = nn.Linear(256, 256)
        self.mean = nn.Linear(256, 256)
        self.log_variance = nn.Linear(256, 256)
        self.classifier = nn.Linear(256, num_classes)
        self.register_buffer("priors", torch.zeros(num_classes, 256))

    def forward(self, clips):
        n, c, t, v, m = clips.shape
        x = clips.permute(0, 4, 2, 3, 1).contiguous().view(n * m * t, v, c)
        x = self.embedding(x) + self.positions
        x = data_norm(x.view(n, m, t, v, 64).permute(0, 4, 2, 3, 1), self.input_norm)
        for block in self.blocks:
            x, graph = block(x)
        hidden = torch.relu(self.hidden(person_mean(x, m)))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean
        if self.training:
            z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance).clamp(max=100)
        graph = graph.mean(1).view(n, m, 3, v, v).mean(1)
        return self.classifier(z), z, graph

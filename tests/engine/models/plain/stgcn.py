"""HiCLR's ST-GCN, the equations of hiclr.md, section 2.1, line by line; parameters named as in the encoder."""

import torch
from torch import nn

from tests.engine.models.plain.shared import down, person_mean


class Block(nn.Module):
    def __init__(self, c_in, c_out, adjacency, stride, residual, dropout):
        super().__init__()
        self.value = nn.Conv2d(c_in, 3 * c_out, 1)
        self.importance = nn.Parameter(torch.ones_like(adjacency))
        self.adjacency = adjacency
        self.norm = nn.BatchNorm2d(c_out)
        self.temporal = nn.Sequential(
            nn.Conv2d(c_out, c_out, (9, 1), stride=(stride, 1), padding=(4, 0)), nn.BatchNorm2d(c_out)
        )
        self.dropout = nn.Dropout(dropout)
        self.residual = down(c_in, c_out, stride) if residual else None

    def forward(self, x):
        h = self.value(x)
        n, kc, t, v = h.shape
        y = torch.einsum("nkctv,kvw->nctw", h.view(n, 3, kc // 3, t, v), self.adjacency * self.importance)
        y = self.dropout(self.temporal(torch.relu(self.norm(y))))
        return torch.relu(y if self.residual is None else y + self.residual(x))


class Plain(nn.Module):
    def __init__(self, num_classes, adjacency, persons=2, dropout=0.5):
        super().__init__()
        self.persons = persons
        self.input_norm = nn.BatchNorm1d(adjacency.shape[1] * 3)
        sizes = [3] + [16] * 4 + [32] * 3 + [64] * 2 + [256]
        strides = [1, 1, 1, 1, 2, 1, 1, 2, 1, 1]
        self.blocks = nn.ModuleList(
            [Block(sizes[i], sizes[i + 1], adjacency, strides[i], i > 0, dropout if i else 0.0) for i in range(10)]
        )
        self.classifier = nn.Linear(256, num_classes)

    def forward(self, clips):
        n, c, t, v, m = clips.shape
        x = clips.permute(0, 4, 3, 1, 2).contiguous().view(n * m, v * c, t)
        x = self.input_norm(x).view(n * m, v, c, t).permute(0, 2, 3, 1).contiguous()
        for block in self.blocks:
            x = block(x)
        features = person_mean(x, self.persons)
        return self.classifier(features), features, None

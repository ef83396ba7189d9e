"""The backbones once more, layer by layer under the parameter names of their public code, to test imports with.

Written from the equations of the specifications (skeletongcl.md 2, hiclr.md 2, i2md.md 1.4); only names are theirs.
"""

import math

import torch
from torch import nn

from engine.models.dstanet import BLOCKS as DSTANET_BLOCKS
from engine.models.dstanet import joint_code
from engine.models.stgcn import one_hop_partition
from engine.skeleton.layout import get_layout, spatial_partition


def point(i, o, stride=1):
    return nn.Conv2d(i, o, 1, stride=(stride, 1))


def optional(i, o):
    """The shortcut of a graph unit; without parameters where the width stays."""
    return nn.Identity() if i == o else nn.Sequential(point(i, o), nn.BatchNorm2d(o))


class ConvBN(nn.Module):
    def __init__(self, i, o, kernel=1, stride=1, dilation=1):
        super().__init__()
        pad = (kernel - 1) * dilation // 2
        self.conv = nn.Conv2d(i, o, (kernel, 1), (stride, 1), (pad, 0), (dilation, 1))
        self.bn = nn.BatchNorm2d(o)

    def forward(self, x):
        return self.bn(self.conv(x))


class Branches(nn.Module):
    def __init__(self, c, stride):
        super().__init__()
        w = c // 4
        opened = lambda: [point(c, w), nn.BatchNorm2d(w), nn.ReLU()]  # noqa: E731
        pool = nn.MaxPool2d((3, 1), (stride, 1), (1, 0))
        self.branches = nn.ModuleList([
            nn.Sequential(*opened(), ConvBN(w, w, 5, stride, 1)),
            nn.Sequential(*opened(), ConvBN(w, w, 5, stride, 2)),
            nn.Sequential(*opened(), pool, nn.BatchNorm2d(w)),
            nn.Sequential(point(c, w, stride), nn.BatchNorm2d(w)),
        ])  # fmt: skip

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


class Relation(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        r = 8 if i == 3 else i // 8
        self.conv1, self.conv2, self.conv3, self.conv4 = point(i, r), point(i, r), point(i, o), point(r, o)

    def forward(self, x, graph, alpha):
        m = torch.tanh(self.conv1(x).mean(2)[..., :, None] - self.conv2(x).mean(2)[..., None, :])
        return torch.einsum("ncuv,nctv->nctu", alpha * self.conv4(m) + graph, self.conv3(x))


class RefinedUnit(nn.Module):
    def __init__(self, i, o, graph):
        super().__init__()
        self.convs = nn.ModuleList([Relation(i, o) for _ in range(3)])
        self.PA, self.alpha = nn.Parameter(graph.clone()), nn.Parameter(torch.zeros(1))
        self.bn, self.down = nn.BatchNorm2d(o), optional(i, o)

    def forward(self, x):
        y = sum(conv(x, self.PA[k], self.alpha) for k, conv in enumerate(self.convs))
        return torch.relu(self.bn(y) + self.down(x))


class AdaptiveUnit(nn.Module):
    def __init__(self, i, o, graph):
        super().__init__()
        self.graph = graph
        self.PA = nn.Parameter(torch.full_like(graph, 1e-6))
        self.conv_a, self.conv_b, self.conv_d = (
            nn.ModuleList([point(i, w) for _ in range(3)]) for w in (o // 4, o // 4, o)
        )
        self.bn, self.down = nn.BatchNorm2d(o), optional(i, o)

    def forward(self, x):
        n, c, t, v = x.shape
        y = 0
        for k in range(3):
            scores = torch.einsum("netu,netw->nuw", self.conv_a[k](x), self.conv_b[k](x))
            g = torch.softmax(scores / (self.conv_a[k].out_channels * t), 1) + self.graph[k] + self.PA[k]
            y = y + self.conv_d[k](torch.einsum("nctu,nuw->nctw", x, g))
        return torch.relu(self.bn(y) + self.down(x))


class Unit(nn.Module):
    def __init__(self, i, o, graph, stride, residual, adaptive):
        super().__init__()
        self.gcn1 = AdaptiveUnit(i, o, graph) if adaptive else RefinedUnit(i, o, graph)
        self.tcn1 = ConvBN(o, o, 9, stride) if adaptive else Branches(o, stride)
        self.plain = residual and i == o and stride == 1
        if residual and not self.plain:
            self.residual = ConvBN(i, o, 1, stride)

    def forward(self, x):
        shortcut = x if self.plain else self.residual(x) if hasattr(self, "residual") else 0
        return torch.relu(self.tcn1(self.gcn1(x)) + shortcut)


def data_norm(x, norm):
    n, c, t, v, m = x.shape
    x = norm(x.permute(0, 4, 3, 1, 2).reshape(n, m * v * c, t))
    return x.view(n, m, v, c, t).permute(0, 1, 3, 4, 2).reshape(n * m, c, t, v)


class TenLayers(nn.Module):
    """CTR-GCN and 2s-AGCN."""

    def __init__(self, classes, layout="ntu25", persons=2, adaptive=False, width=64):
        super().__init__()
        graph = torch.from_numpy(spatial_partition(get_layout(layout)))
        self.persons = persons
        self.data_bn = nn.BatchNorm1d(persons * 3 * graph.shape[1])
        sizes = [3] + [width] * 4 + [2 * width] * 3 + [4 * width] * 3
        for k in range(10):
            setattr(self, f"l{k + 1}", Unit(sizes[k], sizes[k + 1], graph, 2 if k in (4, 7) else 1, k > 0, adaptive))
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, clips):
        x = data_norm(clips, self.data_bn)
        for k in range(10):
            x = getattr(self, f"l{k + 1}")(x)
        return self.fc(x.mean((2, 3)).view(-1, self.persons, x.shape[1]).mean(1))


class Attention(nn.Module):
    def __init__(self, i):
        super().__init__()
        self.d = i // 8
        self.to_qk, self.ln = nn.Linear(i, 6 * self.d), nn.LayerNorm(i)

    def forward(self, x):
        n, c, t, v = x.shape
        q, k = self.to_qk(self.ln(x.permute(0, 2, 3, 1).reshape(n * t, v, c))).chunk(2, -1)
        q, k = (z.view(n * t, v, 3, self.d).transpose(1, 2) for z in (q, k))
        return torch.softmax(q @ k.transpose(2, 3) / math.sqrt(self.d), 3)


class AttentionUnit(nn.Module):
    def __init__(self, i, o, joints):
        super().__init__()
        self.shared_topology = nn.Parameter(torch.eye(joints).repeat(3, 1, 1))
        self.conv_d = nn.ModuleList([point(i, o) for _ in range(3)])
        self.down, self.bn, self.attn = optional(i, o), nn.BatchNorm2d(o), Attention(i)

    def forward(self, x):
        n, c, t, v = x.shape
        graphs = (self.attn(x) * self.shared_topology).view(n, t, 3, v, v)
        y = sum(conv(torch.einsum("ntuv,nctv->nctu", graphs[:, :, h], x)) for h, conv in enumerate(self.conv_d))
        return torch.relu(self.bn(y) + self.down(x))


class EncodingBlock(nn.Module):
    def __init__(self, i, o, joints, stride):
        super().__init__()
        self.agcn, self.tcn = AttentionUnit(i, o, joints), Branches(o, stride)
        if i != o or stride != 1:
            self.residual = ConvBN(i, o, 1, stride)

    def forward(self, x):
        shortcut = self.residual(x) if hasattr(self, "residual") else x
        return torch.relu(torch.relu(self.tcn(self.agcn(x))) + shortcut)


class InfoGCN(nn.Module):
    def __init__(self, classes, layout="ntu25", persons=2, width=64, first=1):
        super().__init__()
        v = get_layout(layout).num_joints
        self.persons, self.first = persons, first
        self.to_joint_embedding = nn.Linear(3, width)
        self.pos_embedding = nn.Parameter(torch.randn(1, v, width))
        self.data_bn = nn.BatchNorm1d(persons * width * v)
        sizes = [width] * 4 + [2 * width] * 3 + [4 * width] * 3
        for k in range(9):
            block = EncodingBlock(sizes[k], sizes[k + 1], v, 2 if k in (3, 6) else 1)
            setattr(self, f"l{k + first}", block)
        self.fc, self.fc_mu, self.fc_logvar = (nn.Linear(4 * width, 4 * width) for _ in range(3))
        self.decoder = nn.Linear(4 * width, classes)

    def forward(self, clips):
        x = self.to_joint_embedding(clips.permute(0, 4, 2, 3, 1)) + self.pos_embedding
        x = data_norm(x.permute(0, 4, 2, 3, 1), self.data_bn)
        for k in range(9):
            x = getattr(self, f"l{k + self.first}")(x)
        pooled = x.mean((2, 3)).view(-1, self.persons, x.shape[1]).mean(1)
        return self.decoder(self.fc_mu(torch.relu(self.fc(pooled))))


class STBlock(nn.Module):
    def __init__(self, i, o, stride, residual):
        super().__init__()
        self.gcn = nn.ModuleDict({"conv": point(i, 3 * o)})
        conv = nn.Conv2d(o, o, (9, 1), (stride, 1), (4, 0))
        self.tcn = nn.Sequential(nn.BatchNorm2d(o), nn.ReLU(), conv, nn.BatchNorm2d(o), nn.Dropout(0.5))
        self.plain = residual and i == o and stride == 1
        if residual and not self.plain:
            self.residual = nn.Sequential(point(i, o, stride), nn.BatchNorm2d(o))

    def forward(self, x, graph):
        h = self.gcn["conv"](x)
        y = torch.einsum("nkctv,kvw->nctw", h.view(h.shape[0], 3, -1, *h.shape[2:]), graph)
        shortcut = x if self.plain else self.residual(x) if hasattr(self, "residual") else 0
        return torch.relu(self.tcn(y) + shortcut)


class STGCN(nn.Module):
    def __init__(self, classes, layout="ntu25", persons=2, width=16, listed=False):
        super().__init__()
        self.persons, self.listed = persons, listed
        self.register_buffer("A", torch.from_numpy(one_hop_partition(get_layout(layout))))
        self.data_bn = nn.BatchNorm1d(3 * self.A.shape[1])
        sizes = [3] + [width] * 4 + [2 * width] * 3 + [4 * width] * 2 + [16 * width]
        self.st_gcn_networks = nn.ModuleList(
            [STBlock(sizes[k], sizes[k + 1], 2 if k in (4, 7) else 1, k > 0) for k in range(10)]
        )
        ones = [nn.Parameter(torch.ones_like(self.A)) for _ in range(10)]
        if listed:
            self.edge_importance = nn.ParameterList(ones)
        else:
            for k, one in enumerate(ones):
                self.register_parameter(f"edge_importance{k + 1}", one)
        self.fc = nn.Linear(16 * width, classes)

    def forward(self, clips):
        n, c, t, v, m = clips.shape
        x = self.data_bn(clips.permute(0, 4, 3, 1, 2).reshape(n * m, v * c, t))
        x = x.view(n * m, v, c, t).permute(0, 2, 3, 1)
        for k, block in enumerate(self.st_gcn_networks):
            weight = self.edge_importance[k] if self.listed else getattr(self, f"edge_importance{k + 1}")
            x = block(x, self.A * weight)
        return self.fc(x.mean((2, 3)).view(n, m, -1).mean(1))


def pair(i, o, kernel=1, stride=1):
    return nn.Sequential(nn.Conv2d(i, o, (kernel, 1), (stride, 1), (kernel // 2, 0)), nn.BatchNorm2d(o))


class Code(nn.Module):
    def __init__(self, joints, channels, frames):
        super().__init__()
        self.register_buffer("pe", joint_code(joints, channels)[None, :, None, :].repeat(1, 1, frames, 1))


class DSTABlock(nn.Module):
    def __init__(self, i, o, inter, stride, joints, frames):
        super().__init__()
        self.inter = inter
        self.register_buffer("atts", torch.zeros(1, 3, joints, joints))
        self.pes = Code(joints, i, frames)
        self.ff_nets, self.in_nets = pair(o, o), nn.Conv2d(i, 6 * inter, 1)
        self.alphas = nn.Parameter(torch.ones(1, 3, 1, 1))
        self.attention0s = nn.Parameter(torch.full((1, 3, joints, joints), 1 / joints))
        self.out_nets, self.out_nett = pair(3 * i, o), pair(o, o, 7, stride)
        same = i == o and stride == 1
        if not same:
            self.downs1, self.downs2, self.downt2 = pair(i, o), pair(i, o), pair(o, o, 1, stride)

    def down(self, name, x):
        return getattr(self, name)(x) if hasattr(self, name) else x

    def forward(self, x):
        b, c, t, v = x.shape
        q, k = self.in_nets(x + self.pes.pe[:, :, :t]).view(b, 6, self.inter, t, v).chunk(2, 1)
        maps = torch.tanh(torch.einsum("bsctu,bsctv->bsuv", q, k) / (self.inter * t)) * self.alphas + self.attention0s
        act = nn.functional.leaky_relu
        y = self.out_nets(torch.einsum("bctu,bsuv->bsctv", x, maps).reshape(b, 3 * c, t, v))
        y = act(self.down("downs1", x) + y, 0.1)
        y = act(self.down("downs2", x) + self.ff_nets(y), 0.1)
        return act(self.down("downt2", y) + self.out_nett(y), 0.1)


class DSTANet(nn.Module):
    def __init__(self, classes, layout="ntu25", persons=2, frames=50):
        super().__init__()
        joints = get_layout(layout).num_joints
        self.persons = persons
        self.proj, self.input_map = nn.Conv2d(3, 32, 1), nn.Sequential(nn.BatchNorm2d(32), nn.LeakyReLU(0.1))
        blocks = []
        for i, o, inter, stride in DSTANET_BLOCKS:
            blocks.append(DSTABlock(i, o, inter, stride, joints, frames))
            frames = math.ceil(frames / stride)
        self.graph_layers = nn.ModuleList(blocks)
        self.fc = nn.Linear(256, classes)

    def forward(self, clips):
        n, c, t, v, m = clips.shape
        x = self.input_map(self.proj(clips.permute(0, 4, 1, 2, 3).reshape(n * m, c, t, v)))
        for block in self.graph_layers:
            x = block(x)
        return self.fc(x.mean((2, 3)).view(n, m, -1).mean(1))


class Recurrent(nn.Module):
    def __init__(self, inputs, hidden, layers):
        super().__init__()
        self.gru = nn.GRU(inputs, hidden, layers, bidirectional=True, batch_first=True)


class BiGRU(nn.Module):
    """Fed one frame at a time, so both "directions" run forward."""

    def __init__(self, classes, layout="ntu25", persons=2, hidden=1024, layers=3):
        super().__init__()
        inputs = get_layout(layout).num_joints * 3 * persons
        self.encoder, self.input_norm = Recurrent(inputs, hidden, layers), nn.BatchNorm1d(inputs)
        self.fc = nn.Linear(2 * hidden, classes)

    def forward(self, clips):
        x = clips.permute(0, 3, 1, 4, 2).flatten(1, 3)
        x, state, out = self.input_norm(x).transpose(1, 2), None, None
        for t in range(x.shape[1]):
            out, state = self.encoder.gru(x[:, t : t + 1], state)
        return self.fc(out[:, 0])

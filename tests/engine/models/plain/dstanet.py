"""DSTA-Net equation by equation (HiCLR specification, section 2.2); names as in the encoder."""

import math

import torch
from torch import nn

from engine.models.persons import EncoderOutput

BLOCKS = [
    (32, 32, 16, 1), (32, 32, 16, 1), (32, 64, 16, 2), (64, 64, 16, 1),
    (64, 128, 32, 2), (128, 128, 32, 1), (128, 128, 32, 1), (128, 256, 32, 1),
]  # fmt: skip


def conv_norm(i, o, kernel=1, stride=1):
    conv = nn.Conv2d(i, o, (kernel, 1), stride=(stride, 1), padding=(kernel // 2, 0))
    return nn.Sequential(conv, nn.BatchNorm2d(o))


def joint_code(channels, joints):
    code = torch.zeros(channels, joints)
    for channel in range(channels):
        for joint in range(joints):
            angle = joint / 10000 ** (channel // 2 * 2 / channels)
            code[channel, joint] = math.cos(angle) if channel % 2 else math.sin(angle)
    return code


class PlainAttention(nn.Module):
    def __init__(self, i, o, inter, joints):
        super().__init__()
        self.inter = inter
        self.query_key = nn.Conv2d(i, 2 * 3 * inter, 1)
        self.alpha = nn.Parameter(torch.ones(1, 3, 1, 1))
        self.shared = nn.Parameter(torch.ones(1, 3, joints, joints) / joints)
        self.mix = conv_norm(3 * i, o)
        self.register_buffer("code", joint_code(i, joints), persistent=False)

    def forward(self, x):
        b, c, t, v = x.shape
        p = x + self.code[None, :, None, :]
        q, k = self.query_key(p).view(b, 6, self.inter, t, v).chunk(2, 1)
        scores = torch.einsum("bsctu,bsctv->bsuv", q, k) / (self.inter * t)
        att = torch.tanh(scores) * self.alpha + self.shared
        y = torch.einsum("bctu,bsuv->bsctv", x, att).contiguous().view(b, 3 * c, t, v)
        return self.mix(y), att


class PlainBlock(nn.Module):
    def __init__(self, i, o, inter, stride, joints, drop):
        super().__init__()
        self.attention = PlainAttention(i, o, inter, joints)
        self.feed = conv_norm(o, o)
        self.temporal = conv_norm(o, o, 7, stride)
        same = i == o and stride == 1
        self.down_attention = nn.Identity() if same else conv_norm(i, o)
        self.down_feed = nn.Identity() if same else conv_norm(i, o)
        self.down_temporal = nn.Identity() if same else conv_norm(o, o, 1, stride)
        self.act = nn.LeakyReLU(0.1)
        self.drop = nn.Dropout(drop)

    def forward(self, x):
        y, att = self.attention(x)
        y = self.act(self.down_attention(x) + y)
        y = self.act(self.down_feed(x) + self.feed(y))
        z = self.temporal(y)
        return self.act(self.drop(self.down_temporal(y)) + z), att


class PlainDSTANet(nn.Module):
    def __init__(self, num_classes, joints=25, drop=0.0):
        super().__init__()
        self.stem = conv_norm(3, 32)
        self.blocks = nn.ModuleList([PlainBlock(*sizes, joints, drop) for sizes in BLOCKS])
        self.classifier = nn.Linear(256, num_classes)

    def forward(self, clips):
        n, c, t, v, m = clips.shape
        x = torch.cat([clips[..., p] for p in range(m)])  # persons one after the other
        x = nn.functional.leaky_relu(self.stem(x), 0.1)
        for block in self.blocks:
            x, att = block(x)
        features = sum(x.view(m, n, *x.shape[1:])).mean((2, 3)) / m
        return EncoderOutput(self.classifier(features), features, att.view(m, n, 3, v, v).mean(0))

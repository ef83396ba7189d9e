"""What several transcriptions share: data batch norm, person mean, temporal unit (skeletongcl.md, 2.1 and 2.3)."""

import torch
from torch import nn
from torch.nn import functional


def part(conv, k, parts=3):
    """Weight and bias of the k-th of several layers that the encoder stores as one."""
    size = conv.weight.shape[0] // parts
    return conv.weight[k * size : (k + 1) * size], conv.bias[k * size : (k + 1) * size]


def data_norm(x, norm):
    """(N, C, T, V, M) to (N * M, C, T, V), normalised over (M, V, C): person outermost, then joint, then channel."""
    n, c, t, v, m = x.shape
    x = x.permute(0, 4, 3, 1, 2).contiguous().view(n, m * v * c, t)
    x = norm(x)
    return x.view(n, m, v, c, t).permute(0, 1, 3, 4, 2).contiguous().view(n * m, c, t, v)


def person_mean(x, persons):
    """(N * M, C, T, V): mean over frames and joints, then over persons."""
    return x.mean(3).mean(2).view(-1, persons, x.shape[1]).mean(1)


def down(c_in, c_out, stride=1):
    """Identity, or 1x1 convolution with temporal stride and batch norm where the shape changes."""
    if c_in == c_out and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride=(stride, 1)), nn.BatchNorm2d(c_out))


class MultiScaleTemporal(nn.Module):
    """Branches (a) 1x1, BN, ReLU, 5x1; (b) the same at dilation 2; (c) 1x1, BN, ReLU, max pool; (d) 1x1."""

    def __init__(self, channels, stride):
        super().__init__()
        width = channels // 4
        self.squeeze = nn.Conv2d(channels, 3 * width, 1)
        self.squeeze_norm = nn.BatchNorm2d(3 * width)
        self.near = nn.Sequential(
            nn.Conv2d(width, width, (5, 1), stride=(stride, 1), padding=(2, 0)), nn.BatchNorm2d(width)
        )
        self.far = nn.Sequential(
            nn.Conv2d(width, width, (5, 1), stride=(stride, 1), padding=(4, 0), dilation=(2, 1)), nn.BatchNorm2d(width)
        )
        self.pool = nn.Sequential(nn.MaxPool2d((3, 1), stride=(stride, 1), padding=(1, 0)), nn.BatchNorm2d(width))
        self.skip = nn.Sequential(nn.Conv2d(channels, width, 1, stride=(stride, 1)), nn.BatchNorm2d(width))

    def opened(self, x, k):
        """1x1 convolution, batch norm and ReLU of branch k, a slice of the encoder's joint ones."""
        norm, width = self.squeeze_norm, self.squeeze.weight.shape[0] // 3
        cut = slice(k * width, (k + 1) * width)
        x = functional.conv2d(x, *part(self.squeeze, k))
        mean, variance = norm.running_mean[cut], norm.running_var[cut]
        return torch.relu(
            functional.batch_norm(x, mean, variance, norm.weight[cut], norm.bias[cut], self.training, norm.momentum)
        )

    def forward(self, x):
        branches = [self.near(self.opened(x, 0)), self.far(self.opened(x, 1)), self.pool(self.opened(x, 2))]
        return torch.cat([*branches, self.skip(x)], 1)

"""GL-Transformer equation by equation (its specification, sections 2.2 and 2.3); names as in the encoder."""

import torch
from torch import nn

from engine.models.persons import EncoderOutput


class PlainAttention(nn.Module):
    def __init__(self, width, heads, drop):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.drop = nn.Dropout(drop)

    def forward(self, x, valid=None):
        b, n, w = x.shape
        q, k, v = self.qkv(x).chunk(3, -1)
        size = w // self.heads
        outs = []
        for h in range(self.heads):
            part = slice(h * size, (h + 1) * size)
            scores = q[..., part] @ k[..., part].transpose(1, 2) * size**-0.5
            if valid is not None:
                scores = scores.masked_fill(~valid[:, None, :], -1e9)
            outs.append(self.drop(scores.softmax(-1)) @ v[..., part])
        return self.drop(self.proj(torch.cat(outs, -1)))


class PlainFeedForward(nn.Module):
    def __init__(self, width, hidden, drop):
        super().__init__()
        self.fc1, self.fc2, self.drop = nn.Linear(width, hidden), nn.Linear(hidden, width), nn.Dropout(drop)

    def forward(self, x):
        return self.drop(self.fc2(self.drop(nn.functional.gelu(self.fc1(x)))))


class PlainBlock(nn.Module):
    def __init__(self, frames, tokens, channels, heads, drop):
        super().__init__()
        width = tokens * channels
        self.positional_emb = nn.Parameter(torch.zeros(1, frames, tokens, channels))
        self.norm1_sp = nn.LayerNorm(channels)
        self.attention_sp = PlainAttention(channels, heads, drop)
        self.norm1_tm = nn.LayerNorm(width)
        self.attention_tm = PlainAttention(width, heads, drop)
        self.norm2 = nn.LayerNorm(width)
        self.feedforward = PlainFeedForward(width, 2 * width, drop)

    def forward(self, x, valid):
        b, t, j, d = x.shape
        table = self.positional_emb[:, :t].repeat(b, 1, 1, 1)
        z = x + table
        z = z + self.attention_sp(self.norm1_sp(z).view(b * t, j, d)).view(b, t, j, d)
        z = z.reshape(b, t, j * d) + table.view(b, t, j * d)
        z = z + self.attention_tm(self.norm1_tm(z), valid)
        z = z + self.feedforward(self.norm2(z))
        return z.view(b, t, j, d)


class PlainGLTransformer(nn.Module):
    """All frames are computed, padding too; drop-path is left out."""

    def __init__(
        self, num_classes, joints=25, root=20, persons=2, frames=300, channels=48, blocks=4, heads=8, drop=0.0
    ):
        super().__init__()
        self.root, self.persons = root, persons
        tokens, width = joints * persons, joints * persons * channels
        self.emb, self.emb_global = nn.Linear(3, channels), nn.Linear(3, channels)
        self.drop = nn.Dropout(drop)
        self.encoder_blocks = nn.ModuleList([PlainBlock(frames, tokens, channels, heads, drop) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, width),
            nn.GELU(),
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.GELU(),
            nn.LayerNorm(width),
        )
        self.classifier = nn.Linear(width, num_classes)

    def frames(self, clips):
        n, c, t, v, m = clips.shape
        valid = clips[:, 0, :, 0, 0] != 99.9
        tokens = []
        for joint in range(v):
            for person in range(m):
                embed = self.emb_global if joint == self.root else self.emb
                tokens.append(embed(clips[:, :, :, joint, person].transpose(1, 2)))
        x = self.drop(torch.stack(tokens, 2))
        for block in self.encoder_blocks:
            x = block(x, valid)
        return self.mlp(self.norm(x.flatten(2))), valid

    def forward(self, clips):
        frames, valid = self.frames(clips)
        features = []
        for clip, ok in zip(frames, valid):
            features.append(clip[ok].mean(0) if ok.sum() > 1 else clip[0])
        features = torch.stack(features)
        return EncoderOutput(self.classifier(features), features)

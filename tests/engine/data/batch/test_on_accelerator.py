"""Everything random and everything read also where the clips live elsewhere, with the generator there or here.

Without a GPU the meta device stands in: it computes nothing, but refuses most mixtures of devices.
"""

from __future__ import annotations

import pytest
import torch

from engine.data.batch import recipes_gl_transformer as gl
from engine.data.batch import recipes_hiclr as hiclr
from engine.data.batch import recipes_i2md as cmd
from engine.data.batch import recipes_skeletongcl as gcl
from engine.skeleton.layout import KINECT20

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def all_views(x: torch.Tensor, small: torch.Tensor, lengths: torch.Tensor, g: torch.Generator) -> list[torch.Tensor]:
    return [
        *hiclr.views(x, g),
        *hiclr.views(x, g, hiclr.HiclrViews.clean(stream="bone_motion", reverse=0.5)),
        *hiclr.views(x, g, hiclr.HiclrViews(strong="adain")),
        *cmd.views(x, g, lengths=lengths),
        *gl.views(x, g, gl.GlTransformerViews(frames=50), lengths),
        *gcl.views(x, g, gcl.SkeletonGclViews(stream="bone", infogcn_order=2), lengths),
        *gcl.nw_ucla_views(small, g, lengths=lengths, layout=KINECT20),
        gcl.nw_ucla_evaluation_view(small, lengths=lengths),
    ]


def test_no_mixture_of_devices():
    x, small = torch.empty(8, 3, 50, 25, 2, device="meta"), torch.empty(8, 3, 50, 20, 1, device="meta")
    lengths = torch.tensor([50, 50, 40, 30, 20, 10, 5, 1])
    made = all_views(x, small, lengths, torch.Generator().manual_seed(1))
    assert {view.device.type for view in made} == {"meta"}
    assert [tuple(view.shape) for view in made[12:14]] == [(8, 3, 64, 25, 2)] * 2


@cuda
@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_views_on_cuda(where: str):
    x = torch.randn(8, 3, 50, 25, 2, generator=torch.Generator().manual_seed(0))
    small = torch.randn(8, 3, 50, 20, 1, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([50, 50, 40, 30, 20, 10, 5, 1])
    x, small, lengths = x.cuda(), small.cuda(), lengths.cuda()
    runs = [all_views(x, small, lengths, torch.Generator(where).manual_seed(1)) for _ in range(2)]
    for first, second in zip(*runs, strict=True):
        assert first.device.type == "cuda"
        assert torch.equal(first, second)


@cuda
def test_drawn_here_or_there_what_is_applied_is_the_same():
    # CMD draws nothing that depends on where the clips are: a CPU generator gives equal views on both devices.
    x = torch.randn(8, 3, 50, 25, 2, generator=torch.Generator().manual_seed(0))
    here = cmd.views(x, torch.Generator().manual_seed(1))
    there = cmd.views(x.cuda(), torch.Generator().manual_seed(1))
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-5, atol=1e-6)

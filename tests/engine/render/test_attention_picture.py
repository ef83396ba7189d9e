"""The attention page: what stands where, and that every input it may get can be drawn."""

import numpy as np
import pytest

from engine.opencv import cv2
from engine.render.attention_picture import _LABELS, _ROW, MARGIN, WIDTH, AttentionPage, draw_attention
from engine.render.motions import motion
from engine.render.picture import write_png
from engine.skeleton.layout import NTU25


def page(frames=40, persons=1, blocks=2, **changes):
    acted = motion("two persons" if persons == 2 else "wave", 2.0)
    rng = np.random.default_rng(0)
    slots = acted.xyz.shape[1]
    parts = {
        "title": "wave", "subtitle": "a test", "times": acted.times[:frames], "joints": acted.xyz[:frames],
        "body": np.ones((frames, slots, slots, 25)), "frames": rng.random((blocks, frames, frames)) * 2,
        "layout": NTU25,
    }  # fmt: skip
    return AttentionPage(**parts | changes)


def viridis(value, top):
    level = np.uint8([[round(min(value / top, 1) * 255)]])
    return cv2.applyColorMap(level, cv2.COLORMAP_VIRIDIS)[0, 0, ::-1]


def test_a_joint_that_is_read_stands_in_its_row_at_its_time():
    plain, changed = page(), page()
    head = NTU25.index("Head")
    changed.body[10:20, 0, 0, head] = 1.5
    pictures = [draw_attention(p) for p in (plain, changed)]
    assert pictures[0].shape == pictures[1].shape and pictures[0].dtype == np.uint8
    # Bodies are drawn above; the map begins below them.
    below = 400
    rows, columns = np.nonzero((pictures[0] != pictures[1]).any(2)[below:])
    x, width = MARGIN + _LABELS, WIDTH - 2 * MARGIN - _LABELS - 110
    assert abs(columns.min() - (x + 10 * width / 40)) <= 1 and abs(columns.max() - (x + 20 * width / 40)) <= 1
    # Head is the fifth joint of the trunk, the first limb.
    assert rows.max() - rows.min() == _ROW - 1
    np.testing.assert_array_equal(pictures[1][below + rows.min() + 5, columns.min() + 5], viridis(1.5, 2.0))
    np.testing.assert_array_equal(pictures[0][below + rows.min() + 5, columns.min() + 5], viridis(1.0, 2.0))


def test_bodies_show_it_too():
    plain, changed = page(), page()
    changed.body[..., NTU25.index("HandLeft")] = 1.9
    different = (draw_attention(plain) != draw_attention(changed)).any(2)
    assert different[110:360].sum() > 8 * 30


@pytest.mark.parametrize(
    ("frames", "persons", "blocks"), [(1, 1, 1), (2, 2, 4), (40, 2, 5), (40, 1, 2)]
)  # fmt: skip
def test_every_size(frames, persons, blocks, tmp_path):
    picture = draw_attention(page(frames, persons, blocks))
    assert picture.shape[1] == WIDTH and 700 < picture.shape[0] < 4000
    # Nothing is cut off below: the last lines are white.
    assert (picture[-8:] == 255).all()
    write_png(tmp_path / "page.png", picture)
    assert np.array_equal(cv2.imread(str(tmp_path / "page.png"))[..., ::-1], picture)


def test_absent_persons():
    empty = page(joints=np.zeros((40, 1, 25, 3)))
    assert empty.present == [0] and draw_attention(empty).shape[1] == WIDTH
    two = page(persons=2)
    assert two.present == [0, 1]
    two.joints[:, 0] = 0
    assert two.present == [1]
    taller = draw_attention(page(persons=2)).shape[0]
    assert draw_attention(two).shape[0] < taller

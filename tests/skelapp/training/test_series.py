"""Curves drawn from a pyramid keep every extreme; cutting and growing leave what a plain list would hold."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skelapp.training.progress import Piece, apply, curve_title, describe, digest, duration, group_of, number
from skelapp.training.series import Series


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 700), st.floats(0, 1)), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_drawn_points_hold_the_extremes_of_every_part(pieces, seed):
    rng = np.random.default_rng(seed)
    series, xs, ys = Series(), np.empty(0), np.empty(0)
    for count, cut in pieces:
        begin = xs[-1] if len(xs) else 0.0
        x, y = begin + np.cumsum(rng.random(count)), rng.standard_normal(count)
        series.extend(x, y)
        xs, ys = np.concatenate([xs, x]), np.concatenate([ys, y])
        if cut > 0.7:
            at = float(xs[int(cut * (len(xs) - 1))])
            series.cut(at)
            keep = xs <= at + 1e-9
            xs, ys = xs[keep], ys[keep]
    assert np.array_equal(series.x, xs) and np.array_equal(series.y, ys)
    assert series.low == ys.min() and series.high == ys.max()
    for left, right in ((xs[0], xs[-1]), tuple(sorted(rng.uniform(xs[0], xs[-1], 2)))):
        x, y = series.drawn(left, right, 16)
        assert len(x) <= max(8 * 16, 2 * 16 * 8 + 64) and (np.diff(x) >= 0).all()
        inside = (xs >= left) & (xs <= right)
        if inside.any():
            assert y.min() <= ys[inside].min() and y.max() >= ys[inside].max()
            assert set(y) <= set(ys)
    middle = float(rng.uniform(xs[0], xs[-1]))
    assert series.value_at(middle) == ys[xs <= middle + 1e-9][-1]
    assert series.value_at(float(xs[0]) - 1) is None


def test_what_is_not_finite_is_left_out_and_the_axis_never_goes_back():
    series = Series()
    series.extend(np.array([1.0, 2.0, np.nan]), np.array([1.0, np.inf, 3.0]))
    series.extend(np.array([0.5, 2.0]), np.array([7.0, 8.0]))
    assert series.x.tolist() == [1.0, 1.0, 2.0] and series.y.tolist() == [1.0, 7.0, 8.0]
    series.extend(np.array([np.nan]), np.array([1.0]))
    assert len(series) == 3


def test_a_million_points_are_drawn_from_few():
    series = Series()
    values = np.random.default_rng(0).standard_normal(1_000_000)
    values[543_210] = 99.0
    series.extend(np.arange(1_000_000.0), values)
    x, y = series.drawn(0, 1e6, 600)
    assert len(x) < 6000 and y.max() == 99.0
    x, y = series.drawn(543_000, 543_400, 600)
    assert np.array_equal(x, np.arange(542_999.0, 543_402.0)) and y.max() == 99.0


def event(kind, epoch, **values):
    return {"event": kind, "at": 0.0, "epoch": epoch, **values}


FIRST = [
    event("run", 0, step=0, epochs=4, steps=10, resumed=False, device="cpu", threads=1),
    event("step", 1, step=5, steps=10, lr=0.1, loss=2.0, clips_per_s=50.0, eta_s=3.0),
    event("evaluation", 1, top1=0.25, top5=0.5),
    event("epoch", 1, loss=1.5, train_top1=0.3, clips_per_s=60.0, seconds=1.0, test_top1=0.25, test_top5=0.5),
    event("probe", 1, knn_top1=0.4),
    event("step", 2, step=5, steps=10, lr=0.2, loss=1.4, clips_per_s=50.0, eta_s=3.0),
    event("step", 2, step=9, steps=10, lr=0.2, loss=1.3, clips_per_s=50.0, eta_s=3.0),
]
RESUMED = [
    event("run", 1, step=5, epochs=4, steps=10, resumed=True),
    event("step", 2, step=7, steps=10, lr=0.2, loss=1.2, clips_per_s=50.0, eta_s=3.0),
    {"event": "end", "at": 0.0, "epoch": 4, "top1": 0.5, "seconds": 75.0},
]


def test_events_become_curves_and_a_resumed_run_takes_its_lost_part_back():
    for cut in (0, 3, len(FIRST)):
        curves = {}
        for part in (FIRST[:cut], FIRST[cut:]):
            apply(digest(part), curves)
        assert curves["loss"].x.tolist() == [0.5, 1.0, 1.5, 1.9] and curves["loss"].y.tolist() == [2.0, 1.5, 1.4, 1.3]
        assert curves["test_top1"].x.tolist() == [1.0] and curves["test_top5"].y.tolist() == [0.5]
        assert curves["probe_knn_top1"].y.tolist() == [0.4]
        apply(digest(RESUMED), curves)
        assert curves["loss"].x.tolist() == [0.5, 1.0, 1.5, 1.7] and curves["loss"].y.tolist() == [2.0, 1.5, 1.4, 1.2]
        assert not {"eta_s", "seconds", "step", "top1"} & curves.keys()
    apply(Piece(restarted=True), curves)
    assert not curves


def test_lines_of_the_log():
    lines = digest(FIRST + RESUMED).lines
    assert len(lines) == 4
    assert "begins, 4 epochs of 10 steps on cpu, 1 threads" in lines[0]
    assert "epoch 1: loss 1.5, training 30.0 %, clips/s 60, test 25.0 %, test, top 5 50.0 %" in lines[1]
    assert "goes on in epoch 2" in lines[2] and "finished after 1 min 15 s, top 1 50.00 %" in lines[3]
    assert "failed: RecipeError: no" in describe({"event": "failed", "at": 0, "reason": "RecipeError: no"})
    assert "child: child 1_pretrain" in describe({"event": "child", "at": 0, "child": "1_pretrain"})


def test_numbers_in_words():
    groups = {
        "loss": "loss", "graph_contrast": "parts", "cross_modal": "parts", "train_top1": "accuracy",
        "probe_knn": "accuracy", "own_key_first": "accuracy", "positives": "measures", "own_weight": "measures",
        "cluster_cosine": "measures", "lr": "lr", "clips_per_s": "speed", "memory_mib": "memory",
    }  # fmt: skip
    assert {name: group_of(name) for name in groups} == groups
    assert number("train_top1", 0.5) == "50.0 %" and number("memory_mib", 512.0) == "0.50 GiB"
    assert number("lr", 1e-5) == "1.00e-05" and number("lr", 0.05) == "0.05"
    assert [duration(s) for s in (5, 65, 3700, 90_000)] == ["5 s", "1 min 05 s", "1 h 01 min", "1 d 1 h"]
    assert curve_title("test_top1_xview_clean") == "test top 1 xview clean"

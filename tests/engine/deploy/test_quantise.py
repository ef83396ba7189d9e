"""int8: ranges from real clips, only where it pays, and the price reported."""

import json

import numpy as np
import onnx
import pytest

from engine.cli import entry
from engine.data.store import write_store
from engine.deploy.export import export_onnx, trace
from engine.deploy.quantise import quantise
from engine.deploy.runtime import load_runtime
from engine.models.card import CheckpointError, read_card
from engine.models.checkpoint import load_encoder
from engine.paths import stores
from engine.skeleton.sequence import SkeletonSequence
from tests.engine.deploy.conftest import small_checkpoint


def some(count=24, seed=3, frames=13):
    return np.random.default_rng(seed).standard_normal((count, 3, frames, 25, 1)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    return small_checkpoint(tmp_path / "c", "stgcn")


@pytest.fixture
def with_attention(tmp_path):
    """Convolutions and products of what is computed from the clip."""
    return small_checkpoint(tmp_path / "c", "infogcn")


def test_int8_is_near_and_small(with_attention):
    export_onnx(with_attention)
    report = export_onnx(with_attention, some(8, 4), "int8", some())
    assert report.path.name == "model.int8.onnx" and report.clips == 8
    runtime = load_runtime(with_attention, "onnx-int8")
    assert runtime.name == "ONNX CPU int8" and load_runtime(with_attention).name == "ONNX CPU"
    clips = some(16, 5)
    expected, found = load_runtime(with_attention, "torch").predict(clips).logits, runtime.predict(clips).logits
    difference = np.abs(found - expected)
    assert 0 < difference.mean() < 0.1 * np.abs(expected).mean()
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.8
    assert runtime.predict(clips[:1]).features.shape == (1, read_card(with_attention).feature_dim)


def test_features_keep_their_mean(folder):
    clips = some(24, 6)
    export_onnx(folder)
    export_onnx(folder, None, "int8", clips)
    exact, found = (load_runtime(folder, runtime).predict(clips) for runtime in ("onnx", "onnx-int8"))
    error = found.features - exact.features
    assert np.abs(error).mean() > 1e-4 and np.abs(error.mean(0)).max() < 1e-5
    # The classifier sees the shifted features.
    assert np.abs((found.logits - exact.logits).mean(0)).max() < 1e-4


@pytest.mark.parametrize("symmetric", [False, True])
def test_only_convolutions_and_per_channel(with_attention, tmp_path, symmetric):
    encoder, card = load_encoder(with_attention)
    trace(encoder, card.preprocessing.shape, tmp_path / "a.onnx")
    count = quantise(tmp_path / "a.onnx", tmp_path / "b.onnx", some(), symmetric)
    graph = onnx.load(str(tmp_path / "b.onnx")).graph
    assert count == sum(node.op_type == "Conv" for node in graph.node) > 10
    made = {output for node in graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    assert not any(set(node.input) & made for node in graph.node if node.op_type == "MatMul")
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in values]
    weights = [n for n in weights if values[n.input[0]].ndim == 4]
    # One scale per output channel, so that each channel reaches the ends of the range.
    for node in weights:
        quantised = values[node.input[0]].astype(int)
        assert values[node.input[1]].shape == quantised.shape[:1]
        assert (np.abs(quantised.reshape(len(quantised), -1)).max(1) >= 126).all()
    zero_points = [values[n.input[2]] for n in graph.node if n.op_type == "QuantizeLinear"]
    assert all(z.dtype == (np.int8 if symmetric else np.uint8) for z in zero_points)
    if symmetric:
        assert all((z == 0).all() for z in zero_points)
        assert not any(value.dtype == np.int32 for value in values.values())


def test_bad_calibration_is_refused(folder, tmp_path):
    with pytest.raises(CheckpointError, match="--calibrate-on"):
        export_onnx(folder, precision="int8")
    with pytest.raises(CheckpointError, match=r"calibration clips are \(4, 3, 12, 25, 1\)"):
        export_onnx(folder, precision="int8", calibration=some(4, frames=12))
    with pytest.raises(CheckpointError, match=r"\(0, 3, 13"):
        export_onnx(folder, precision="int8", calibration=some(0))
    broken = some()
    broken[3, 0, 0, 0, 0] = np.inf
    with pytest.raises(CheckpointError, match="not finite"):
        export_onnx(folder, precision="int8", calibration=broken)
    recurrent = small_checkpoint(tmp_path / "gru", "gru")
    with pytest.raises(CheckpointError, match="recurrent"):
        export_onnx(recurrent, precision="int8", calibration=some())
    assert not list(folder.glob("*.onnx")) and not list(recurrent.glob("*.onnx"))


def test_command_calibrates_and_reports_the_price(folder, capsys):
    random = np.random.default_rng(0)
    sequences = [
        SkeletonSequence(
            random.standard_normal((20, 1, 25, 3)).astype(np.float32),
            np.arange(20) / 20,
            name=f"s{i}",
            label=i % 5,
            meta={"subject": 1 + i % 2, "trial": i},
        )
        for i in range(20)
    ]
    write_store(stores() / "utd_mhad", "utd_mhad", sequences, list("abcde"), 20.0)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"dataset": "utd_mhad", "split": "xsub"}))
    command = ["export", str(folder), "--precision", "int8", "--calibrate-on"]
    assert entry([*command, "utd_mhad"]) == 0
    out = capsys.readouterr().out
    assert "top 1 on 10 test sequences of utd_mhad: fp32 " in out and "points); same answer on" in out
    assert load_runtime(folder, "onnx-int8").name == "ONNX CPU int8"
    (folder / "card.json").write_text(json.dumps(card | {"dataset": "utd_mhad", "split": "nobody"}))
    assert entry([*command, "utd_mhad"]) == 0
    assert "has no test part 'nobody'" in capsys.readouterr().out
    assert entry(command[:-1]) == 2
    assert "--calibrate-on" in capsys.readouterr().err
    assert entry([*command, "nowhere"]) == 1
    assert "nowhere" in capsys.readouterr().err

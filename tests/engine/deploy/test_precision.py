"""Half precision in a graph: the same numbers as rounding by hand, and nothing lost in batch norms."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from engine.deploy.export import trace
from engine.deploy.precision import rounded, to_half
from engine.models.card import CheckpointError
from tests.engine.models.test_all_backbones import FRAMES, clips, trained


def run(model, x):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})


def graph(nodes, constants, shape=("N", 2)):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    tensors = [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in constants.items()]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("graphs") / "infogcn.onnx"
    trace(trained("infogcn").eval(), (3, FRAMES, 25, 2), path, skip_empty=False)
    return onnx.load(str(path))


def to_bf16(x):
    """Nearest bfloat16, ties to even, by its definition: the upper 16 bits of a float32."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize(("kind", "narrow"), [("fp16", lambda x: np.float32(np.float16(x))), ("bf16", to_bf16)])
def test_every_value_is_rounded(kind, narrow):
    scale = np.float32([1.2345678, -0.1])
    model = graph([helper.make_node("Mul", ["x", "s"], ["z"]), helper.make_node("Sqrt", ["z"], ["y"])], {"s": scale})
    x = np.float32([[3.3333333, -7.77], [0.1, -1e-3]])
    expected = narrow(np.sqrt(narrow(narrow(x) * narrow(scale))))
    assert np.array_equal(run(rounded(model, kind), x)[0], expected)


def test_float16_graph_agrees_with_its_roundings(exported):
    x = clips(4).numpy()
    exact = run(exported, x)[0]
    half, simulated = to_half(exported, "fp16"), rounded(exported, "fp16")
    assert {t.data_type for t in half.graph.initializer} <= {TensorProto.FLOAT16, TensorProto.INT64}
    assert half.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    largest = np.abs(exact).max()
    for model in (half, simulated):
        found = run(model, x)[0]
        assert found.dtype == np.float32 and not np.array_equal(found, exact)
        assert np.abs(found - exact).max() < 0.01 * largest
    # bfloat16 keeps 8 bits instead of 11.
    assert np.abs(run(rounded(exported, "bf16"), x)[0] - exact).max() > np.abs(run(simulated, x)[0] - exact).max()


def test_bfloat16_graph_has_no_float_inside(exported):
    half = to_half(exported, "bf16")
    types = {t.data_type for t in half.graph.initializer}
    assert TensorProto.BFLOAT16 in types and TensorProto.FLOAT not in types
    assert half.opset_import[0].version >= 22
    casts = [node for node in half.graph.node if node.op_type == "Cast"]
    to_float = [n.output[0] for n in casts if n.attribute[0].i == TensorProto.FLOAT]
    assert sorted(to_float) == ["features", "logits"]


def test_batch_norm_with_a_tiny_variance_survives():
    numbers = {"w": [1.0, 2.0], "b": [0.5, 0.0], "m": [0.001, 3.0], "v": [1e-9, 4.0]}
    model = graph([helper.make_node("BatchNormalization", ["x", *numbers], ["y"], epsilon=1e-5)], numbers)
    x = np.float32([[0.001, 3.0], [0.003, 5.0]])
    exact = run(model, x)[0]
    # The variance itself is 0 in float16, and 1e-5 has five bits there.
    for found in (run(to_half(model, "fp16"), x)[0], run(rounded(model, "fp16"), x)[0]):
        assert np.allclose(found, exact, atol=2e-3)


def test_what_cannot_be_converted_is_named(tmp_path):
    resize = graph([helper.make_node("Resize", ["x", "", "s"], ["y"])], {"s": [1.0, 1.0]})
    with pytest.raises(CheckpointError, match="Resize"):
        to_half(resize, "fp16")
    torch.manual_seed(0)
    trace(trained("gru").eval(), (3, FRAMES, 25, 2), tmp_path / "gru.onnx", skip_empty=False)
    recurrent = onnx.load(str(tmp_path / "gru.onnx"))
    with pytest.raises(CheckpointError, match=r"GRU.*use fp16"):
        to_half(recurrent, "bf16")
    to_half(recurrent, "fp16")

"""Half precision written into an ONNX graph: TensorRT computes in the types it finds there and offers no switch.

Own and small, because bfloat16 is wanted beside float16 and because batch norms need care: a variance or an epsilon of
1e-5 has hardly any digits in float16.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, version_converter

from engine.models.card import CheckpointError

HalfPrecision = Literal["fp16", "bf16"]

# Sub-graphs and inputs that must stay float32 would need a conversion of their own; no encoder has them.
_REFUSED = {"If", "Loop", "Scan", "Resize", "QuantizeLinear", "DequantizeLinear", "RandomNormalLike", "Range"}
# TensorRT's own recurrent layers mix float32 with bfloat16 and refuse themselves (seen with TensorRT-RTX 1.7).
_REFUSED_BF16 = {"GRU", "LSTM", "RNN"}
# The first operator set in which convolutions, poolings and recurrent layers take bfloat16.
_BF16_OPSET = 22


def to_half(model: ModelProto, kind: HalfPrecision) -> ModelProto:
    """A copy of a float32 graph that computes in ``kind``; its input and outputs stay float32.

    Parameters
    ----------
    model : onnx.ModelProto
        Graph whose floating-point tensors are all float32.
    kind : {"fp16", "bf16"}
        Type of weights and of everything between the first cast and the last.

    Raises
    ------
    CheckpointError
        The graph has an operator this conversion does not know how to treat.
    """
    result = ModelProto()
    result.CopyFrom(model)
    operators = {node.op_type for node in model.graph.node}
    if unknown := sorted(operators & _REFUSED):
        raise CheckpointError(f"the graph has {', '.join(unknown)}, which can't be turned into {kind}; use fp32")
    if kind == "bf16":
        if recurrent := sorted(operators & _REFUSED_BF16):
            raise CheckpointError(f"the graph has {', '.join(recurrent)}, which TensorRT can't build in bf16; use fp16")
        result = version_converter.convert_version(result, _BF16_OPSET)
    graph = result.graph
    _settle_batch_norms(result)
    half = TensorProto.FLOAT16 if kind == "fp16" else TensorProto.BFLOAT16
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(_cast(tensor, half, tensor.name))
    for node in graph.node:
        _cast_constants(node, half)
    _cast_ends(graph, half)
    # Recorded types are those of the float32 graph.
    del graph.value_info[:]
    onnx.checker.check_model(result, full_check=True)
    return result


def _settle_batch_norms(model: ModelProto) -> None:
    """Batch norms as scale and shift, computed in float64, with mean 0 and variance 1 left in the node."""
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        # The exporter keeps equal tensors once and gives their other names through identities.
        if node.op_type == "Identity" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]]
        elif node.op_type == "Constant" and node.attribute[0].name == "value":
            values[node.output[0]] = node.attribute[0].t
    for i, node in enumerate(model.graph.node):
        if node.op_type != "BatchNormalization":
            continue
        if any(name not in values for name in node.input[1:]):
            raise CheckpointError(f"batch norm {node.name} has statistics that are not constants; use fp32")
        weight, bias, mean, variance = (
            numpy_helper.to_array(values[name]).astype(np.float64) for name in node.input[1:5]
        )
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        scale = weight / np.sqrt(variance + epsilon)
        settled = (scale, bias - mean * scale, np.zeros_like(scale), np.ones_like(scale))
        for k, array in enumerate(settled, start=1):
            name = f"batch_norm_{i}_{k}"
            model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
            node.input[k] = name
        for attribute in [a for a in node.attribute if a.name == "epsilon"]:
            node.attribute.remove(attribute)
        node.attribute.append(helper.make_attribute("epsilon", 0.0))
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [t for t in model.graph.initializer if t.name not in used]:
        model.graph.initializer.remove(tensor)


def _cast(tensor: TensorProto, half: int, name: str) -> TensorProto:
    array = numpy_helper.to_array(tensor)
    return numpy_helper.from_array(array.astype(helper.tensor_dtype_to_np_dtype(half)), name)


def _cast_constants(node: NodeProto, half: int) -> None:
    """Turn the float32 a node carries in its attributes into ``half``."""
    if node.op_type == "ConstantOfShape" and not node.attribute:
        zero = numpy_helper.from_array(np.zeros(1, np.float32))
        node.attribute.append(helper.make_attribute("value", zero))
    for attribute in node.attribute:
        if node.op_type in ("Constant", "ConstantOfShape") and attribute.name == "value":
            if attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(_cast(attribute.t, half, attribute.t.name))
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            array = np.asarray(attribute.f if attribute.name == "value_float" else list(attribute.floats), np.float32)
            tensor = _cast(numpy_helper.from_array(array), half, "")
            attribute.CopyFrom(helper.make_attribute("value", tensor))
        elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = half


def _cast_ends(graph: onnx.GraphProto, half: int) -> None:
    """Casts behind the input and before the outputs, which keep their names and float32."""
    inner = {value.name: f"{value.name}_half" for value in (*graph.input, *graph.output)}
    for node in graph.node:
        for names in (node.input, node.output):
            for k, name in enumerate(names):
                names[k] = inner.get(name, name)
    first = [helper.make_node("Cast", [v.name], [inner[v.name]], to=half) for v in graph.input]
    last = [helper.make_node("Cast", [inner[v.name]], [v.name], to=TensorProto.FLOAT) for v in graph.output]
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)


def _copy(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    return copy


def rounded(model: ModelProto, kind: HalfPrecision) -> ModelProto:
    """The float32 graph with every weight and every intermediate result rounded to ``kind`` and back.

    What a GPU computes that keeps tensors in ``kind`` and sums in float32. It runs on a processor too, where ONNX
    Runtime has no bfloat16 of its own, and so tells what the precision will cost.
    """
    result = onnx.shape_inference.infer_shapes(model)
    graph = result.graph
    half = TensorProto.FLOAT16 if kind == "fp16" else TensorProto.BFLOAT16
    _settle_batch_norms(result)
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            narrow = numpy_helper.to_array(_cast(tensor, half, tensor.name))
            tensor.CopyFrom(numpy_helper.from_array(narrow.astype(np.float32), tensor.name))
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output, *graph.input)}
    nodes: list[NodeProto] = []
    outputs = {value.name for value in graph.output}
    for value in graph.input:
        nodes += _round(value.name, f"{value.name}_rounded", half)
    renamed = {value.name: f"{value.name}_rounded" for value in graph.input}
    for node in graph.node:
        for k, name in enumerate(node.input):
            node.input[k] = renamed.get(name, name)
        behind = []
        for k, name in enumerate(node.output):
            if types.get(name) == TensorProto.FLOAT and node.op_type != "Constant":
                # Outputs keep their name for the rounded value, everything else for the exact one.
                node.output[k] = f"{name}_exact" if name in outputs else name
                renamed[name] = name if name in outputs else f"{name}_rounded"
                behind += _round(node.output[k], renamed[name], half)
        nodes += [_copy(node), *behind]
    del graph.node[:]
    graph.node.extend(nodes)
    return result


def _round(name: str, to: str, half: int) -> list[NodeProto]:
    middle = f"{to}_half"
    return [
        helper.make_node("Cast", [name], [middle], to=half),
        helper.make_node("Cast", [middle], [to], to=TensorProto.FLOAT),
    ]

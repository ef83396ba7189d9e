"""int8 for an ONNX graph: convolutions get 8-bit weights and inputs, with ranges measured on real clips.

Only convolutions where there are any: with its many small matrix products quantised too CTR-GCN is slower again, for
each is paid for with a conversion there and back (benchmarks/int8.md).
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from engine.models.card import CheckpointError

_BATCH = 8
FEATURES = "features"


class _Clips:
    """Calibration clips, a batch at a time, as ONNX Runtime asks for them."""

    def __init__(self, clips: np.ndarray) -> None:
        self._batches = iter([{"clips": clips[i : i + _BATCH]} for i in range(0, len(clips), _BATCH)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def quantise(
    graph: Path, to: Path, clips: np.ndarray, symmetric: bool = False, operators: tuple[str, ...] | None = None
) -> int:
    """Write an int8 version of a float32 graph, with quantisation written out as nodes (QDQ), weights per channel.

    Parameters
    ----------
    clips : numpy.ndarray
        Real clips ``(N, 3, T, V, M)`` as the encoder will meet them; a range is the mean of the smallest and of the
        largest values over batches of 8, so that no single clip stretches it. What quantisation adds to the mean of
        each feature over these clips is taken off again by one addition, which costs nothing and brings back most of
        the accuracy that quantisation takes (benchmarks/int8.md).
    symmetric : bool
        Signed inputs around zero, the only kind TensorRT takes. Processors are faster with unsigned ones.
    operators : tuple of str, optional
        Kinds of node to quantise; default convolutions, or matrix products where there are no convolutions.

    Returns
    -------
    int
        Number of quantised nodes.

    Raises
    ------
    CheckpointError
        Clips have another shape than the graph's input or are not finite; or the encoder is recurrent, and no 8-bit
        kernel of it exists.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    exact = onnx.load(str(graph)).graph
    present = {node.op_type for node in exact.node}
    if present & {"GRU", "LSTM", "RNN"}:
        raise CheckpointError("recurrent layers have no int8 kernels; use fp32 or fp16")
    kinds = list(operators or (("Conv",) if "Conv" in present else ("MatMul", "Gemm")))
    wanted = [d.dim_value for d in exact.input[0].type.tensor_type.shape.dim[1:]]
    if clips.ndim != 5 or len(clips) == 0 or list(clips.shape[1:]) != wanted:
        raise CheckpointError(
            f"calibration clips are {clips.shape}, the encoder wants (N, {', '.join(map(str, wanted))})"
        )
    if not np.isfinite(clips).all():
        raise CheckpointError("calibration clips hold values that are not finite")
    CalibrationDataReader.register(_Clips)
    # TensorRT adds biases in floating point and knows no 32-bit ones.
    extra: dict[str, Any] = {"ActivationSymmetric": True, "QuantizeBias": False} if symmetric else {}
    extra |= {"CalibMovingAverage": True}
    disabled = logging.root.manager.disable
    # The library advises to do what has just been done.
    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(to),
                _Clips(clips),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=kinds,
                per_channel=True,
                activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options=extra,
            )
    finally:
        logging.disable(disabled)
    _take_off_bias(to, graph, clips)
    nodes = onnx.load(str(to)).graph.node
    made = {output for node in nodes if node.op_type == "DequantizeLinear" for output in node.output}
    return sum(node.op_type in kinds and set(node.input[:2]) <= made for node in nodes)


def _take_off_bias(quantised: Path, exact: Path, clips: np.ndarray) -> None:
    """Shift the features of a quantised graph so that their mean over the clips is the exact graph's."""
    import onnx

    shift = _mean_features(exact, clips) - _mean_features(quantised, clips)
    model = onnx.load(str(quantised))
    graph = model.graph
    producer, node = next((i, node) for i, node in enumerate(graph.node) if FEATURES in node.output)
    unshifted = f"{FEATURES}_unshifted"
    node.output[list(node.output).index(FEATURES)] = unshifted
    graph.initializer.append(onnx.numpy_helper.from_array(shift.astype(np.float32), f"{FEATURES}_shift"))
    graph.node.insert(producer + 1, onnx.helper.make_node("Add", [unshifted, f"{FEATURES}_shift"], [FEATURES]))
    onnx.save(model, str(quantised))


def _mean_features(graph: Path, clips: np.ndarray) -> np.ndarray:
    """Float64 ``(D,)``."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    parts = [session.run([FEATURES], {"clips": clips[i : i + _BATCH]})[0] for i in range(0, len(clips), _BATCH)]
    mean: np.ndarray = np.concatenate(parts).mean(0, dtype=np.float64)
    return mean

"""Which runtime is taken, and what is said about those that were not."""

import numpy as np
import pytest

from engine.deploy import runtime as module
from engine.deploy.export import export_onnx
from engine.deploy.runtime import Refusal, load_runtime, surprises
from engine.live.recogniser import Recogniser
from engine.models.card import CheckpointError
from tests.engine.deploy.conftest import small_checkpoint


@pytest.fixture
def folder(tmp_path):
    return small_checkpoint(tmp_path / "c", "stgcn")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A checkpoint with its graph; not to be changed."""
    folder = small_checkpoint(tmp_path_factory.mktemp("exported") / "c", "stgcn")
    export_onnx(folder)
    return folder


def test_order_and_reasons(exported):
    runtime = load_runtime(exported)
    assert runtime.name == "ONNX CPU"
    tensorrt, cuda = runtime.refused
    assert tensorrt.runtime == "tensorrt" and "python main.py export" in tensorrt.reason
    assert cuda.runtime == "onnx-cuda" and "onnxruntime-gpu" in cuda.reason
    # A machine that was never set up for a GPU is not worth a word.
    assert surprises(runtime) == [] and all(refusal.expected for refusal in runtime.refused)


def test_damaged_graph_falls_to_pytorch_and_says_so(folder):
    (folder / "model.onnx").write_bytes(b"nothing")
    runtime = load_runtime(folder)
    assert runtime.name == "PyTorch CPU"
    (said,) = surprises(runtime)
    assert "model.onnx can't be loaded" in said and said.endswith("using PyTorch CPU")
    recogniser = Recogniser(folder)
    assert recogniser.notes == (said,) and recogniser.runtime == "PyTorch CPU"
    recogniser.close()


def test_a_wish_that_fails_is_an_error_or_a_fallback(exported):
    with pytest.raises(CheckpointError, match="no TensorRT engine of small_stgcn yet"):
        load_runtime(exported, "tensorrt")
    runtime = load_runtime(exported, "tensorrt", fall_back=True)
    assert runtime.name == "ONNX CPU"
    (said,) = surprises(runtime)
    assert said.startswith("tensorrt can't be used (no TensorRT engine") and said.endswith("using ONNX CPU")
    with pytest.raises(CheckpointError, match=r"model\.int8\.onnx is missing.*--precision int8"):
        load_runtime(exported, "onnx-int8")
    with pytest.raises(CheckpointError, match="unknown runtime 'abacus'"):
        load_runtime(exported, "abacus")


def test_a_library_that_is_missing_is_passed_over(exported, monkeypatch):
    opened = module._open

    def without_onnx(candidate, *rest):
        if candidate.startswith("onnx"):
            raise ImportError("No module named 'onnxruntime'")
        return opened(candidate, *rest)

    monkeypatch.setattr(module, "_open", without_onnx)
    runtime = load_runtime(exported)
    assert runtime.name == "PyTorch CPU"
    assert Refusal("onnx-cpu", "not installed (No module named 'onnxruntime')", True) in runtime.refused


def test_nothing_works(folder, tmp_path):
    (folder / "weights.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError) as error:
        load_runtime(folder)
    assert "onnx-cpu: " in str(error.value) and "torch: " in str(error.value) and "tensorrt" not in str(error.value)
    with pytest.raises(CheckpointError, match="not a checkpoint folder"):
        load_runtime(tmp_path / "nowhere")
    (folder / "card.json").write_text("{", "utf-8")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_runtime(folder)


def test_every_runtime_refuses_other_clips(exported):
    for kind in ("onnx", "torch"):
        runtime = load_runtime(exported, kind)
        for shape in ((1, 3, 13, 20, 1), (1, 3, 12, 25, 1), (1, 3, 13, 25, 2), (3, 13, 25, 1)):
            with pytest.raises(ValueError, match=r"wants \(N, 3, 13, 25, 1\)"):
                runtime.predict(np.zeros(shape, np.float32))

"""TensorRT: engines of every backbone are really built; running them needs a GPU, choosing among them does not."""

import ctypes
import json

import numpy as np
import onnxruntime as ort
import pytest

from engine.cli import entry
from engine.deploy import tensorrt_build, tensorrt_runtime
from engine.deploy.cuda import CudaBuffers, CudaError, Gpu, first_gpu
from engine.deploy.export import export_onnx, export_tensorrt, trace
from engine.deploy.runtime import load_runtime
from engine.deploy.runtime_base import NotHere
from engine.deploy.tensorrt_build import EngineCard, Library, build_engine, engine_files, find_library
from engine.deploy.tensorrt_runtime import TensorRTRuntime, find_engine
from engine.models.card import CheckpointError, read_card
from engine.models.checkpoint import BACKBONES, file_digest, load_encoder
from engine.paths import engines
from tests.engine.deploy.conftest import small_checkpoint


def rtx():
    try:
        return find_library("tensorrt-rtx")
    except CheckpointError as error:
        pytest.skip(str(error))


def gpu():
    try:
        return first_gpu()
    except CudaError as error:
        pytest.skip(f"running an engine needs a GPU: {error}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_checkpoint(tmp_path_factory.mktemp("small"), "stgcn", "ntu25", 2)


@pytest.fixture
def no_gpu(monkeypatch):
    def missing():
        raise CudaError("no NVIDIA driver found")

    for module in (tensorrt_build, tensorrt_runtime):
        monkeypatch.setattr(module, "first_gpu", missing)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "layout", "persons", "capability"),
    [("fp32", "ntu25", 2, "SM86"), ("fp16", "kinect20", 1, "SM120")],
)
@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone_builds(name, precision, layout, persons, capability, tmp_path):
    rtx()
    folder = small_checkpoint(tmp_path / "c", name, layout, persons)
    report = export_tensorrt(folder, "tensorrt-rtx", tmp_path / "e", precision, capability=capability)
    assert report.path.stat().st_size == report.bytes > 10_000
    assert (report.engine.capability, report.engine.precision, report.engine.gpu) == (capability, precision, "any")
    assert report.engine.engine_sha256 == file_digest(report.path)
    assert np.isfinite(report.max_difference)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "capability"),
    [("fp16", "SM75"), ("bf16", "SM80"), ("bf16", "SM121"), ("int8", "SM80"), ("int8", "SM89"), ("int8", "SM120")],
)
def test_other_precisions_build_for_other_gpus(folder, precision, capability, tmp_path):
    rtx()
    clips = np.random.default_rng(1).standard_normal((8, *read_card(folder).preprocessing.shape)).astype(np.float32)
    report = export_tensorrt(folder, "tensorrt-rtx", tmp_path, precision, None, clips, capability)
    assert report.engine.precision == precision and report.bytes > 10_000


def test_an_engine_is_built_once(folder, tmp_path, monkeypatch):
    rtx()
    first = export_tensorrt(folder, "tensorrt-rtx", tmp_path, capability="SM86")

    def never(*_):
        raise AssertionError("built twice")

    built = tensorrt_build._build
    monkeypatch.setattr(tensorrt_build, "_build", never)
    assert export_tensorrt(folder, "tensorrt-rtx", tmp_path, capability="SM86").engine == first.engine
    with pytest.raises(AssertionError):
        export_tensorrt(folder, "tensorrt-rtx", tmp_path, capability="SM89")
    # A damaged file is not believed.
    first.path.write_bytes(first.path.read_bytes()[:-1])
    monkeypatch.setattr(tensorrt_build, "_build", built)
    again = export_tensorrt(folder, "tensorrt-rtx", tmp_path, capability="SM86")
    assert again.path == first.path and again.engine.engine_sha256 == file_digest(again.path)


CARD = EngineCard(
    checkpoint="a", weights_sha256="w", onnx_sha256="o", flavour="tensorrt-rtx", version="1.7", gpu="any",
    capability="SM86", precision="fp16", shape=(3, 13, 25, 2), batches=(1, 1, 16),
)  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"onnx_sha256": "p"}, {"flavour": "tensorrt"}, {"version": "1.8"}, {"gpu": "NVIDIA A10"},
        {"capability": "SM89"}, {"precision": "fp32"}, {"shape": (3, 13, 25, 1)}, {"batches": (1, 2, 16)},
    ],
)  # fmt: skip
def test_key_tells_engines_apart(change):
    assert CARD.model_copy(update=change).key() != CARD.key()
    assert CARD.model_copy(update={"seconds": 3.0, "engine_sha256": "x"}).key() == CARD.key()


def test_what_cannot_be_built_says_why(folder, tmp_path, no_gpu, monkeypatch, capsys):
    rtx()
    with pytest.raises(CheckpointError, match=r"no NVIDIA driver found; name one .*--capability SM75.*SM120"):
        export_tensorrt(folder, "tensorrt-rtx", tmp_path)
    with pytest.raises(CheckpointError, match=r"can't build for SM42; it builds for SM75"):
        export_tensorrt(folder, "tensorrt-rtx", tmp_path, capability="SM42")
    with pytest.raises(CheckpointError, match="use --precision fp16"):
        export_tensorrt(folder, "tensorrt-rtx", tmp_path, capability="SM75")
    graph = tmp_path / "rows.onnx"
    encoder, card = load_encoder(folder)
    trace(encoder, card.preprocessing.shape, graph, skip_empty=True)
    with pytest.raises(CheckpointError, match=r"can't read .*NonZero"):
        build_engine(graph, card, "tensorrt-rtx", tmp_path, capability="SM86")
    graph.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="can't read"):
        build_engine(graph, card, "tensorrt-rtx", tmp_path, capability="SM86")
    assert engine_files(tmp_path) == []
    monkeypatch.setattr(tensorrt_build, "_MODULES", {"tensorrt-rtx": ("no_such_tensorrt",)})
    assert entry(["export", str(folder), "--to", "tensorrt-rtx"]) == 1
    assert "pip install -e '.[tensorrt-rtx]'" in capsys.readouterr().err
    assert entry(["export", str(folder), "--to", "onnx", "--capability", "SM86"]) == 2
    assert entry(["export", str(folder), "--to", "tensorrt-rtx", "--precision", "int8"]) == 2


def test_export_command_builds_where_the_live_path_looks(folder, capsys):
    rtx()
    assert entry(["export", str(folder), "--to", "tensorrt-rtx", "--precision", "fp16", "--capability", "SM86"]) == 0
    assert "for SM86" in capsys.readouterr().out
    ((path, card),) = engine_files(engines())
    assert path.parent == engines() and card.checkpoint == read_card(folder).name and card.precision == "fp16"


def put_engine(folder, kept, content=b"engine", **change):
    """An engine file with its card, without building one."""
    card = read_card(folder)
    made = CARD.model_copy(
        update={"weights_sha256": card.sha256["weights.safetensors"], "shape": card.preprocessing.shape} | change
    )
    path = kept / f"{made.key()}.engine"
    path.write_bytes(content)
    made = made.model_copy(update={"engine_sha256": file_digest(path)})
    path.with_suffix(".json").write_text(made.model_dump_json())
    return path


@pytest.fixture
def fitting(monkeypatch):
    """A GPU and a library that are not there."""
    monkeypatch.setattr(tensorrt_runtime, "first_gpu", lambda: Gpu("NVIDIA RTX Test", (8, 6)))
    module = type("FakeModule", (), {"__version__": "1.7"})
    monkeypatch.setattr(tensorrt_runtime, "find_library", lambda flavour: Library(flavour, module))


def test_only_a_fitting_engine_is_chosen(folder, tmp_path, fitting, monkeypatch):
    card = read_card(folder)
    with pytest.raises(NotHere, match=r"no TensorRT engine of small_stgcn yet; make one: python main\.py export"):
        find_engine(folder, card, tmp_path)
    put_engine(folder, tmp_path, capability="SM89")
    put_engine(folder, tmp_path, version="1.6")
    put_engine(folder, tmp_path, gpu="NVIDIA Other")
    put_engine(folder, tmp_path, weights_sha256="another model")
    damaged = put_engine(folder, tmp_path, precision="fp32")
    damaged.write_bytes(b"engin")
    with pytest.raises(CheckpointError) as error:
        find_engine(folder, card, tmp_path)
    for part in (
        "was built for SM89, this GPU is NVIDIA RTX Test (SM86)",
        "was built by tensorrt-rtx 1.6, installed is 1.7",
        "was built for NVIDIA Other (SM86)",
        "is damaged",
        "--to tensorrt-rtx",
    ):
        assert part in str(error.value)
    assert "another model" not in str(error.value)
    good = put_engine(folder, tmp_path)
    assert find_engine(folder, card, tmp_path)[0] == good
    other = card.model_copy(update={"preprocessing": card.preprocessing.model_copy(update={"frames": 16})})
    with pytest.raises(CheckpointError, match="the card says"):
        find_engine(folder, other, tmp_path)
    good.with_suffix(".json").write_text(json.dumps({"format": 7}))
    with pytest.raises(CheckpointError):
        find_engine(folder, card, tmp_path)


def test_without_a_gpu_the_driver_is_named(folder, tmp_path, no_gpu):
    put_engine(folder, tmp_path)
    with pytest.raises(CheckpointError, match="no NVIDIA driver found"):
        TensorRTRuntime(folder, tmp_path)


class HostBuffers(CudaBuffers):
    """Buffers in the processor's memory."""

    def __init__(self):
        self.arrays, self.closed = {}, False

    stream = 1

    def enter(self):
        assert not self.closed

    def reserve(self, name, size):
        if name not in self.arrays or self.arrays[name].nbytes < size:
            self.arrays[name] = np.zeros(size, np.uint8)
        return self.arrays[name].ctypes.data

    def upload(self, address, data, size):
        ctypes.memmove(address, data, size)

    def download(self, data, address, size):
        ctypes.memmove(data, address, size)

    def wait(self):
        pass

    def close(self):
        self.closed = True


def fake_tensorrt(graph, classes, width):
    """A module with TensorRT's interface that runs the ONNX graph; engines are the words ``good`` or anything else."""

    class Context:
        def __init__(self):
            self.at, self.batches = {}, []

        def set_input_shape(self, name, shape):
            self.shape = shape

        def set_tensor_address(self, name, address):
            self.at[name] = address

        def execute_async_v3(self, stream):
            x = np.zeros(self.shape, np.float32)
            ctypes.memmove(x.ctypes.data, self.at["clips"], x.nbytes)
            self.batches.append(len(x))
            for name, value in zip(("logits", "features"), ort.InferenceSession(str(graph)).run(None, {"clips": x})):
                ctypes.memmove(self.at[name], np.ascontiguousarray(value).ctypes.data, value.nbytes)
            return True

    class Engine:
        num_io_tensors = 3
        context = Context()

        def get_tensor_name(self, i):
            return ("clips", "logits", "features")[i]

        def get_tensor_shape(self, name):
            return (-1, classes if name == "logits" else width)

        def create_execution_context(self):
            return self.context

    class Runtime:
        def __init__(self, logger):
            self.logger = logger

        def deserialize_cuda_engine(self, content):
            if content != b"good":
                self.logger.log("ERROR", "magic tag\n does not match")
                return None
            return Engine()

    logger = type("ILogger", (), {"ERROR": "ERROR", "INTERNAL_ERROR": "INTERNAL", "__init__": lambda self: None})
    return type("FakeTrt", (), {"__version__": "1.7", "Runtime": Runtime, "ILogger": logger, "Engine": Engine})


def test_runtime_moves_clips_through_an_engine(tmp_path, fitting, monkeypatch):
    folder = small_checkpoint(tmp_path / "c", "stgcn")
    export_onnx(folder)
    card = read_card(folder)
    trt = fake_tensorrt(folder / "model.onnx", 5, card.feature_dim)
    monkeypatch.setattr(tensorrt_runtime, "find_library", lambda flavour: Library(flavour, trt))
    monkeypatch.setattr(tensorrt_runtime, "CudaBuffers", HostBuffers)
    engines().mkdir(parents=True)
    put_engine(folder, engines(), b"good", batches=(1, 1, 4))
    runtime = load_runtime(folder)
    assert runtime.name == "TensorRT-RTX fp16" and runtime.refused == ()
    clips = np.random.default_rng(0).standard_normal((9, *card.preprocessing.shape)).astype(np.float32)
    expected = load_runtime(folder, "onnx").predict(clips)
    found = runtime.predict(clips[:, :, ::-1][:, :, ::-1])
    assert np.allclose(found.logits, expected.logits, atol=1e-5)
    assert np.allclose(found.features, expected.features, atol=1e-5)
    assert trt.Engine.context.batches == [1, 4, 4, 1]
    assert runtime.predict(clips[:0]).logits.shape == (0, 5)
    with pytest.raises(ValueError, match="wants"):
        runtime.predict(clips[:, :, :5])
    runtime.close()
    put_engine(folder, engines(), b"bad!", batches=(1, 1, 4))
    fallen = load_runtime(folder)
    assert fallen.name == "ONNX CPU"
    assert "magic tag does not match" in str(fallen.refused[0]) and not fallen.refused[0].expected


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_engine_on_a_gpu_equals_onnx(name, tmp_path):
    rtx()
    gpu()
    folder = small_checkpoint(tmp_path / "c", name, "ntu25", 2)
    export_onnx(folder)
    export_tensorrt(folder, "tensorrt-rtx", engines())
    runtime, reference = load_runtime(folder, "tensorrt"), load_runtime(folder, "torch")
    clips = np.random.default_rng(0).standard_normal((17, *runtime.card.preprocessing.shape)).astype(np.float32)
    expected = reference.predict(clips).logits
    assert np.allclose(runtime.predict(clips).logits, expected, atol=1e-3 * max(1, np.abs(expected).max()))
    runtime.close()

"""Building TensorRT engines from ONNX graphs, for ``tensorrt`` and ``tensorrt_rtx`` alike, and keeping them.

Both libraries have one Python interface. The full one builds for the GPU it runs on; TensorRT-RTX also builds ahead of
time, for a named compute capability, on a machine without any GPU.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from engine.deploy.cuda import CudaError, first_gpu
from engine.models.card import WEIGHTS_FILE, CheckpointCard, CheckpointError

Flavour = Literal["tensorrt", "tensorrt-rtx"]
# The bindings' wheel can be installed without the package that only gives it its short name.
_MODULES: dict[str, tuple[str, ...]] = {
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
# Smallest, usual and largest batch an engine is built for: 1 and 2 live persons, 16 when files are worked through.
BATCHES = (1, 1, 16)


@dataclass(frozen=True)
class Library:
    """An installed TensorRT: the imported module and which of the two it is."""

    flavour: Flavour
    module: Any

    @property
    def version(self) -> str:
        return str(self.module.__version__)

    def capabilities(self) -> list[str]:
        """Compute capabilities it builds for without a GPU, e.g. ``["SM75", ...]``; empty for the full library."""
        known = getattr(self.module, "ComputeCapability", None)
        return [name for name in known.__members__ if name.startswith("SM")] if known is not None else []

    def logger(self) -> Any:
        """A logger that keeps complaints in ``.messages`` instead of printing them."""
        trt = self.module

        class Logger(trt.ILogger):  # type: ignore[name-defined,misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self.messages: list[str] = []

            def log(self, severity: Any, message: str) -> None:
                if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                    self.messages.append(" ".join(message.split()))

        return Logger()


def find_library(flavour: Flavour) -> Library:
    """Import TensorRT; raises :class:`CheckpointError` saying how to install it."""
    for name in _MODULES[flavour]:
        try:
            return Library(flavour, importlib.import_module(name))
        except ModuleNotFoundError as error:
            if error.name != name:
                raise CheckpointError(f"{flavour} is installed but incomplete: {error}") from error
        except (ImportError, OSError, RuntimeError) as error:
            raise CheckpointError(f"{flavour} is installed but can't be loaded: {error}") from error
    raise CheckpointError(f"{flavour} is not installed; in the project's folder: pip install -e '.[{flavour}]'")


class EngineCard(BaseModel):
    """What a built engine is and where it runs; the ``.json`` beside it."""

    model_config = ConfigDict(extra="forbid")

    format: int = 1
    checkpoint: str
    weights_sha256: str
    onnx_sha256: str
    flavour: Flavour
    version: str
    gpu: str
    capability: str
    precision: str
    shape: tuple[int, int, int, int]
    batches: tuple[int, int, int]
    engine_sha256: str = ""
    seconds: float = 0.0

    def key(self) -> str:
        """Digest of everything that makes one engine differ from another."""
        facts = self.model_dump(exclude={"checkpoint", "weights_sha256", "engine_sha256", "seconds", "format"})
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]


def engine_files(folder: Path) -> list[tuple[Path, EngineCard]]:
    """Engines in a folder with their cards, newest first; files without a readable card are left out."""
    found = []
    for path in folder.glob("*.engine") if folder.is_dir() else []:
        try:
            card = EngineCard.model_validate_json(path.with_suffix(".json").read_text("utf-8"))
            found.append((path.stat().st_mtime_ns, path, card))
        except (OSError, ValidationError, UnicodeDecodeError):
            continue
    return [(path, card) for _, path, card in sorted(found, key=lambda item: -item[0])]


def build_engine(
    graph: Path,
    card: CheckpointCard,
    flavour: Flavour,
    folder: Path,
    precision: str = "fp32",
    capability: str | None = None,
    batches: tuple[int, int, int] = BATCHES,
) -> tuple[Path, EngineCard]:
    """Build an engine, or find the one already built for the same graph, library, GPU, precision and shapes.

    Parameters
    ----------
    graph : Path
        ONNX graph without data-dependent shapes; its own types are the engine's (``precision`` only names them).
    folder : Path
        Where engines and timing caches are kept.
    capability : str, optional
        Build for this compute capability, e.g. ``SM89``; default the GPU of this machine.
    batches : tuple of int
        Smallest, usual and largest batch.

    Raises
    ------
    CheckpointError
        The library or a GPU is missing, the capability is unknown, or TensorRT refuses the graph.
    """
    library = find_library(flavour)
    gpu = "any"
    if capability is None:
        try:
            here = first_gpu()
        except CudaError as error:
            known = library.capabilities()
            hint = f"; name one to build for: --capability {' '.join(known)}" if known else ""
            raise CheckpointError(f"{error}{hint}") from error
        gpu, capability = here.name, here.code
        ahead = False
    elif capability not in library.capabilities():
        others = ", ".join(library.capabilities()) or "only the GPU it runs on"
        raise CheckpointError(f"{flavour} {library.version} can't build for {capability}; it builds for {others}")
    else:
        ahead = True
    if (flavour, capability) == ("tensorrt-rtx", "SM75") and precision != "fp16":
        raise CheckpointError(f"{flavour} multiplies in half precision only on SM75 (Turing): use --precision fp16")
    content = graph.read_bytes()
    engine_card = EngineCard(
        checkpoint=card.name,
        weights_sha256=card.sha256.get(WEIGHTS_FILE, ""),
        onnx_sha256=hashlib.sha256(content).hexdigest(),
        flavour=flavour,
        version=library.version,
        gpu=gpu,
        capability=capability,
        precision=precision,
        shape=card.preprocessing.shape,
        batches=batches,
    )
    path = folder / f"{card.name}-{engine_card.key()}.engine"
    for found, its_card in engine_files(folder):
        if found == path and hashlib.sha256(path.read_bytes()).hexdigest() == its_card.engine_sha256:
            os.utime(path)
            return path, its_card
    folder.mkdir(parents=True, exist_ok=True)
    timing = None if ahead else folder / f"timing-{flavour}-{library.version}-{capability}.cache"
    began = time.perf_counter()
    engine = _build(
        library,
        content,
        f"the graph of {card.name}",
        (batches, card.preprocessing.shape),
        capability if ahead else None,
        timing,
    )
    engine_card = engine_card.model_copy(
        update={
            "engine_sha256": hashlib.sha256(engine).hexdigest(),
            "seconds": round(time.perf_counter() - began, 2),
        }
    )
    _write(path, engine)
    _write(path.with_suffix(".json"), (engine_card.model_dump_json(indent=1) + "\n").encode())
    return path, engine_card


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _build(
    library: Library,
    content: bytes,
    graph: str,
    sizes: tuple[tuple[int, int, int], tuple[int, int, int, int]],
    capability: str | None,
    timing: Path | None,
) -> bytes:
    trt, logger = library.module, library.logger()

    def refused(what: str, reasons: list[str]) -> CheckpointError:
        why = "; ".join(dict.fromkeys(reasons)) or "no reason given"
        return CheckpointError(f"{library.flavour} {library.version} {what} {graph}: {why[:600]}")

    builder = trt.Builder(logger)
    if builder is None:
        raise refused("can't make a builder for", logger.messages)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(content):
        raise refused("can't read", [parser.get_error(i).desc() for i in range(parser.num_errors)])
    config = builder.create_builder_config()
    # Otherwise float32 graphs would be multiplied with ten bits of mantissa.
    config.clear_flag(trt.BuilderFlag.TF32)
    if capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    cache = None
    if timing is not None:
        # Measured kernel times of earlier builds on this GPU: the next engine of a backbone builds faster.
        cache = config.create_timing_cache(timing.read_bytes() if timing.is_file() else b"")
        if cache is not None:
            config.set_timing_cache(cache, ignore_mismatch=False)
    profile = builder.create_optimization_profile()
    batches, shape = sizes
    profile.set_shape(network.get_input(0).name, *((batch, *shape) for batch in batches))
    config.add_optimization_profile(profile)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise refused("can't build an engine from", logger.messages)
    if cache is not None and timing is not None and (measured := config.get_timing_cache()) is not None:
        _write(timing, bytes(measured.serialize()))
    return bytes(serialized)

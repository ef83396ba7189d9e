"""What a path that was dropped on the window is meant as; what none of these wants is a source for Live."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

# Of weights of other projects.
WEIGHT_ENDINGS = (".pt", ".pth", ".tar", ".ckpt", ".bin")


def looks_like_checkpoint(path: Path) -> bool:
    """Whether a dropped path is meant as a checkpoint: a folder (or file of one) with a card, weights or ONNX file."""
    from engine.files import is_there
    from engine.models.card import CARD_FILE, ONNX_FILE, WEIGHTS_FILE

    names = (CARD_FILE, ONNX_FILE, WEIGHTS_FILE)
    return path.name in names if path.is_file() else any(is_there(path / name) for name in names)


def looks_like_weights(path: Path) -> bool:
    """Whether a dropped file is meant as weights of another project."""
    return path.is_file() and path.suffix.lower() in WEIGHT_ENDINGS


def looks_like_pack(path: Path) -> bool:
    """Whether a dropped path is a pack of actions: its folder, or the .zip somebody shared."""
    import zipfile

    from engine.files import is_there

    if path.is_dir():
        return is_there(path / "pack.json")
    if not path.is_file() or path.suffix.lower() != ".zip":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return "pack.json" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def looks_like_dataset(path: Path) -> bool:
    """Whether a dropped path is a dataset: an archive, arrays, or a folder that is no source of pictures."""
    from engine.data.readers.traces import TRACE_FILE
    from engine.data.safe_load import RawDataError, find_npz
    from engine.live.source_files import IMAGE_ENDINGS

    if path.is_file() and path.suffix.lower() == ".npz":
        # A landmark trace may be one too; only the table of contents is read.
        try:
            return bool({"xyz", "x_train"} & find_npz(path).keys())
        except RawDataError:
            return False
    if path.is_file():
        return path.suffix.lower() in (".zip", ".7z", ".npy", ".pkl", ".pickle", ".skeleton")
    if not path.is_dir():
        return False
    try:
        entries = list(islice(path.iterdir(), 202))
    except OSError:
        return False
    for entry in entries:
        if entry.name == TRACE_FILE or entry.suffix.lower() in IMAGE_ENDINGS:
            return False
    return True

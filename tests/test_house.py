"""Rules of the house that only a fresh interpreter can prove: what the live path and the window's start import."""

import subprocess
import sys

import pytest

CHECK = """
import sys
{imports}
loaded = sorted(name for name in {forbidden!r} if name in sys.modules)
assert not loaded, loaded
"""


@pytest.mark.parametrize(
    ("imports", "forbidden"),
    [
        ("import engine.live.pipeline, engine.live.tracking, engine.live.recogniser", ["torch", "PySide6"]),
        ("import engine.cli.live, engine.cli.doctor", ["torch", "PySide6"]),
        ("import engine.cli", ["torch", "mediapipe", "onnxruntime", "cv2", "numpy"]),
        ("import skelapp.app, skelapp.main_window", ["torch", "mediapipe", "onnxruntime"]),
    ],
)
def test_imports_stay_light(imports, forbidden):
    code = CHECK.format(imports=imports, forbidden=forbidden)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_nothing_is_unpickled_and_no_path_leaves_the_project():
    from engine.paths import PROJECT

    for folder in ("engine", "skelapp"):
        for path in (PROJECT / folder).rglob("*.py"):
            text = path.read_text("utf-8")
            for word in ("import pickle", "allow_pickle=True", "torch.load(", "../shared"):
                assert word not in text, f"{path}: {word}"

"""Pose model files: the shipped one, and fetching the others from a server of our own."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import paths
from engine.live import bundle
from engine.live.bundle import BundleError, pose_bundle
from engine.live.errors import LiveError
from tests.shared_data import shared

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if "gone" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if "half" in self.path else CONTENT)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join(5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path))
    monkeypatch.setitem(bundle.SHA256, "lite", (hashlib.sha256(CONTENT).hexdigest(),))
    return tmp_path / "pose_models"


def test_full_ships_and_is_what_the_script_builds() -> None:
    path = pose_bundle("full")
    assert path == paths.POSE_BUNDLE
    script = (paths.ASSETS / "build_pose_bundle.py").read_text()
    assert f'BUNDLE_SHA256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"' in script
    with zipfile.ZipFile(path) as content:
        assert content.namelist() == ["pose_detector.tflite", "pose_landmarks_detector.tflite"]
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in content.infolist())


def test_shipped_bundle_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "POSE_BUNDLE", tmp_path / "none.task")
    with pytest.raises(BundleError, match="build_pose_bundle"):
        pose_bundle("full")


def test_fetched_once_with_progress(server: str, folder: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    address = server + "/pose_{variant}.task"
    path = pose_bundle("lite", lambda done, total: steps.append((done, total)), address=address)
    assert path == folder / "pose_landmarker_lite.task"
    assert path.read_bytes() == CONTENT
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    # The second time nothing is asked of the network.
    assert pose_bundle("lite", address="http://127.0.0.1:9/{variant}") == path


def test_wrong_digest_leaves_nothing(server: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bundle.SHA256, "lite", ("0" * 64,))
    with pytest.raises(BundleError, match="sha256") as caught:
        pose_bundle("lite", address=server + "/{variant}.task")
    assert str(folder) in str(caught.value)
    assert list(folder.iterdir()) == []


def test_half_a_download_leaves_nothing(server: str, folder: Path) -> None:
    with pytest.raises(BundleError):
        pose_bundle("lite", address=server + "/half/{variant}.task")
    assert list(folder.iterdir()) == []


def test_not_there(server: str, folder: Path) -> None:
    with pytest.raises(BundleError, match="Not Found"):
        pose_bundle("lite", address=server + "/gone/{variant}.task")


def test_offline_says_what_to_do(folder: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(LiveError) as caught:
        pose_bundle("lite", address=f"http://127.0.0.1:{port}/{{variant}}.task")
    text = str(caught.value)
    assert f"http://127.0.0.1:{port}/lite.task" in text
    assert str(folder) in text and "pose_landmarker_lite.task" in text
    assert list(folder.iterdir()) == []


def test_damaged_file_is_replaced(server: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    target = folder / "pose_landmarker_lite.task"
    target.write_bytes(b"half a file")
    with pytest.raises(BundleError, match="damaged or another version"):
        pose_bundle("lite", address=server + "/gone")
    assert target.read_bytes() == b"half a file"
    assert pose_bundle("lite", address=server + "/{variant}").read_bytes() == CONTENT


def test_unknown_variant() -> None:
    with pytest.raises(BundleError, match="lite, full, heavy"):
        pose_bundle("medium")


def test_a_real_lite_bundle_put_there_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = shared("pose_models/pose_landmarker_lite.task")
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path))
    (tmp_path / "pose_models").mkdir()
    (tmp_path / "pose_models" / source.name).write_bytes(source.read_bytes())
    assert pose_bundle("lite", address="http://127.0.0.1:9/{variant}").name == source.name


def test_addresses_are_the_public_ones() -> None:
    assert bundle.ADDRESS.format(variant="heavy") == (
        "https://storage.googleapis.com/mediapipe-models/pose_landmarker/pose_landmarker_heavy/float16/1/pose_landmarker_heavy.task"
    )
    assert all(len(digest) == 64 for digests in bundle.SHA256.values() for digest in digests)

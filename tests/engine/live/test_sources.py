from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from engine.live import source_camera, source_video, sources
from engine.live.errors import SourceError, SourceLost
from engine.live.sources import list_cameras, open_source
from engine.live.trace import TraceFrame
from tests.engine.live.helpers import CameraSocket, write_trace, write_video


def read_all(spec: object, **options: object) -> list:
    with open_source(spec, realtime=False, **options) as source:  # type: ignore[arg-type]
        frames = []
        while (frame := source.read()) is not None:
            frames.append(frame)
        return frames


def shade(image: np.ndarray) -> float:
    return float(image.mean())


def test_video_gives_every_frame_with_its_own_time(grey_video: Path) -> None:
    frames = read_all(grey_video)
    assert [round(f.time, 3) for f in frames] == [round(i / 10, 3) for i in range(20)]
    assert [f.index for f in frames] == list(range(20))
    assert frames[0].image.shape == (48, 64, 3)
    for i, frame in enumerate(frames):
        assert shade(frame.image) == pytest.approx(10 * i, abs=4)


def test_variable_frame_rate_keeps_true_times(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.15, 0.9, 1.0]
    path = write_video(tmp_path / "v.mp4", [np.full((48, 64, 3), 40 * i, np.uint8) for i in range(5)], times=times)
    assert [round(f.time, 3) for f in read_all(path)] == times


def test_real_time_playing_is_paced_and_describes_itself(grey_video: Path) -> None:
    with open_source(grey_video) as source:
        assert (source.kind, source.live, source.lossless, source.size) == ("video", False, False, (64, 48))
        assert source.fps == pytest.approx(10, abs=0.6)
        assert source.duration == pytest.approx(2.0, abs=0.11)
        begin = time.monotonic()
        frames = [source.read() for _ in range(5)]
        assert 0.3 < time.monotonic() - begin < 1.5
        assert frames[4] is not None and time.monotonic() - frames[4].grabbed < 0.3


def test_interrupt_cuts_the_wait_for_a_late_frame(tmp_path: Path) -> None:
    import threading

    path = write_video(tmp_path / "v.mp4", [np.zeros((48, 64, 3), np.uint8)] * 2, times=[0.0, 4.0])
    with open_source(path) as source:
        source.read()
        threading.Timer(0.1, source.interrupt).start()
        begin = time.monotonic()
        assert source.read() is not None
        assert time.monotonic() - begin < 2.0


def test_video_seeks_to_the_wanted_time(grey_video: Path) -> None:
    with open_source(grey_video, realtime=False) as source:
        for _ in range(15):
            source.read()
        source.seek(0.7)
        frame = source.read()
        assert frame is not None and frame.time == pytest.approx(0.7)
        assert shade(frame.image) == pytest.approx(70, abs=4)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".h264"])
def test_every_kind_of_file_goes_back_and_forth(tmp_path: Path, suffix: str) -> None:
    """A transport stream can be entered between key frames, a raw stream has neither index nor time stamps."""
    images = [np.full((48, 64, 3), 5 * i, np.uint8) for i in range(50)]
    path = write_video(tmp_path / f"v{suffix}", images, fps=25)
    with open_source(path, realtime=False) as source:
        played = []
        while (frame := source.read()) is not None:
            played.append((round(frame.time, 3), shade(frame.image)))
        assert len(played) == 50
        for place in (0, 30, 47, 12, 0):
            source.seek(played[place][0])
            again = [source.read() for _ in range(3)]
            found = [(round(frame.time, 3), shade(frame.image)) for frame in again if frame is not None]
            assert found == played[place : place + 3]
        source.seek(5.0)
        assert source.read() is None
        assert not source.take_notes()


def test_a_long_way_to_a_moment_can_be_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "v.h264", [np.full((48, 64, 3), 5 * i, np.uint8) for i in range(50)], fps=25)
    decode, decoded = source_video._Decoder.next, []
    with open_source(path, realtime=False) as source:

        def counted(self: source_video._Decoder) -> object:
            decoded.append(1)
            if len(decoded) == 10:
                source.interrupt()
            return decode(self)

        monkeypatch.setattr(source_video._Decoder, "next", counted)
        source.seek(1.9)
        assert len(decoded) == 10
        source.seek(1.0)
        frame = source.read()
        assert frame is not None and frame.time == pytest.approx(1.0)


def test_loop_goes_on_in_time(grey_video: Path) -> None:
    with open_source(grey_video, realtime=False, loop=True) as source:
        times = [source.read().time for _ in range(45)]  # type: ignore[union-attr]
        assert source.duration is None
    assert (np.diff(times) > 0).all()
    assert times[40] == pytest.approx(4.0, abs=0.05)


def test_mirrored_turns_the_picture_back(tmp_path: Path) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32] = 200
    path = write_video(tmp_path / "v.mp4", [image] * 3)
    frame = read_all(path, mirrored=True)[0]
    assert frame.image[:, 40:].mean() > 180 and frame.image[:, :24].mean() < 20


def test_video_that_changes_its_size_goes_on(tmp_path: Path) -> None:
    """A raw H.264 stream may carry a new picture size at any key frame."""
    data = b""
    for k, size in enumerate([(48, 64), (96, 128)]):
        part = write_video(tmp_path / f"p{k}.h264", [np.full((*size, 3), 80, np.uint8)] * 6)
        data += part.read_bytes()
    path = tmp_path / "both.h264"
    path.write_bytes(data)
    with open_source(path, realtime=False) as source:
        shapes, times = [], []
        while (frame := source.read()) is not None:
            shapes.append(frame.image.shape[:2])
            times.append(frame.time)
        notes = source.take_notes()
    assert shapes == [(48, 64)] * 6 + [(96, 128)] * 6
    assert (np.diff(times) > 0).all()
    assert any("(64, 48)" in note and "(128, 96)" in note for note in notes)


def test_damaged_video_gives_what_can_be_read(tmp_path: Path) -> None:
    """Cut short in mid-write: a stream format can be read up to the cut."""
    images = [np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8) for i in range(60)]
    path = write_video(tmp_path / "v.mkv", images)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert 10 < len(read_all(path)) < 60


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("empty.mp4", b"", "is empty (0 bytes)"),
        ("junk.mp4", b"this is no video" * 50, "can't be read as a video"),
        ("notes.txt", b"hello", "can't be read as a video"),
        ("broken.npz", b"PK no", "damaged or no .npz"),
        ("other.jsonl", b'{"a": 1}\n', "is not a landmark trace"),
        ("broken.png", b"no picture", "none of its 1 images can be read"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, name: str, content: bytes, part: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        open_source(path)
    assert part in str(caught.value) and name in str(caught.value)


def test_a_file_with_sound_only_is_refused(tmp_path: Path) -> None:
    import wave

    path = tmp_path / "tone.wav"
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(b"\0\0" * 8000)
    with pytest.raises(SourceError, match="no video stream"):
        open_source(path)


@pytest.mark.parametrize("spec", ["", "nothing/here.mp4", "foo://bar", "demo2"])
def test_unknown_sources_say_what_is_accepted(spec: str) -> None:
    with pytest.raises(SourceError, match="accepted: a camera index"):
        open_source(spec)


def test_missing_demo_clip_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources, "DEMO_CLIP", tmp_path / "no.mp4")
    with pytest.raises(SourceError, match="demo clip"):
        open_source("demo")


def test_unreachable_stream_is_told_without_password() -> None:
    with pytest.raises(SourceError) as caught:
        open_source("rtsp://user:secret@127.0.0.1:9/cam")
    assert "127.0.0.1:9/cam" in str(caught.value) and "secret" not in str(caught.value)


def serve_once(data: bytes, times: int) -> tuple[str, object]:
    """A bare TCP server that sends the bytes to each of the next ``times`` callers and hangs up."""
    import socket
    import threading

    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        for _ in range(times):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(data)

    threading.Thread(target=run, daemon=True).start()
    return f"tcp://127.0.0.1:{listener.getsockname()[1]}", listener


def test_network_stream_breaks_off_and_comes_back(tmp_path: Path) -> None:
    images = [np.full((48, 64, 3), 5 * i, np.uint8) for i in range(40)]
    address, listener = serve_once(write_video(tmp_path / "v.ts", images, fps=20).read_bytes(), 2)
    with open_source(address) as source:
        assert source.live and source.kind == "stream" and source.size == (64, 48)
        times = []
        with pytest.raises(SourceLost, match="connect again"):
            while True:
                times.append(source.read().time)  # type: ignore[union-attr]
        assert source.reopen()
        again = source.read()
    listener.close()  # type: ignore[attr-defined]
    assert len(times) > 20 and np.diff(times) == pytest.approx(1 / 20, abs=2e-3)
    assert again is not None and again.time > times[-1]


def test_a_file_on_a_server_has_an_end(tmp_path: Path) -> None:
    import functools
    import http.server
    import threading

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    write_video(tmp_path / "v.ts", [np.full((48, 64, 3), 5 * i, np.uint8) for i in range(40)], fps=20)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with open_source(f"http://127.0.0.1:{server.server_port}/v.ts") as source:
            count = 0
            while source.read() is not None:
                count += 1
    finally:
        server.shutdown()
        server.server_close()
    assert count > 20


def test_image_folder_in_natural_order(tmp_path: Path) -> None:
    from engine.live._cv2 import cv2

    for i in (1, 2, 10, 11):
        cv2.imwrite(str(tmp_path / f"f{i}.png"), np.full((20, 30, 3), i * 10, np.uint8))
    (tmp_path / "f5.png").write_bytes(b"damaged")
    (tmp_path / "readme.txt").write_text("not a picture")
    with open_source(tmp_path, realtime=False, fps=5.0) as source:
        assert source.kind == "images" and source.duration == pytest.approx(1.0)
        frames = []
        while (frame := source.read()) is not None:
            frames.append(frame)
        assert any("f5.png" in note for note in source.take_notes())
    assert [int(f.image[0, 0, 0]) for f in frames] == [10, 20, 100, 110]
    assert [f.time for f in frames] == pytest.approx([0.0, 0.2, 0.6, 0.8])


def test_colours_are_rgb(tmp_path: Path) -> None:
    from engine.live._cv2 import cv2

    cv2.imwrite(str(tmp_path / "red.png"), np.full((20, 30, 3), (0, 0, 255), np.uint8))
    assert read_all(tmp_path / "red.png")[0].image[0, 0].tolist() == [255, 0, 0]


def test_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds neither images"):
        open_source(tmp_path)


def test_trace_replays_poses(tmp_path: Path) -> None:
    path = write_trace(tmp_path / "t.npz", 1.0, [(0.0, "left")])
    frames = read_all(path)
    assert len(frames) == 30 and all(isinstance(f, TraceFrame) for f in frames)
    assert frames[0].image.shape == (480, 640, 3)
    assert frames[0].poses[0].world.shape == (33, 3)
    turned = read_all(path, mirrored=True)[3].poses[0]
    plain = frames[3].poses[0]
    assert turned.image[15, 0] == pytest.approx(1 - plain.image[16, 0])
    assert turned.world[15, 0] == pytest.approx(-plain.world[16, 0])
    assert turned.world[16, 1] == pytest.approx(plain.world[15, 1])


class TestCamera:
    @pytest.fixture
    def socket(self, monkeypatch: pytest.MonkeyPatch) -> CameraSocket:
        socket = CameraSocket()
        monkeypatch.setattr(source_camera, "open_capture", socket.open)
        return socket

    def test_settings_and_frames(self, socket: CameraSocket) -> None:
        from engine.live._cv2 import cv2

        with open_source("0") as camera:
            assert camera.live and camera.kind == "camera" and camera.size == (64, 48)
            first, second = camera.read(), camera.read()
        assert socket.settings[cv2.CAP_PROP_BUFFERSIZE] == 1
        assert socket.settings[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"MJPG")
        assert first is not None and second is not None and second.time > first.time
        # The device delivers BGR.
        assert first.image[0, 0].tolist() == [0, 0, 255]
        assert socket.opened[-1].released

    def test_unplugged_and_back(self, socket: CameraSocket) -> None:
        with open_source("0") as camera:
            before = camera.read()
            socket.plugged = False
            with pytest.raises(SourceLost, match="camera 0 stopped"):
                camera.read()
            assert not camera.reopen()
            with pytest.raises(SourceLost):
                camera.read()
            socket.plugged = True
            assert camera.reopen()
            after = camera.read()
        assert before is not None and after is not None and after.time > before.time
        assert all(capture.released for capture in socket.opened)

    def test_no_camera_is_told_with_what_there_is(self, socket: CameraSocket) -> None:
        socket.plugged = False
        with pytest.raises(SourceError, match=r"camera 7 can't be opened; cameras found: "):
            open_source("7")


def test_list_cameras_reads_names_without_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, index, name in ((0, 0, "Front"), (1, 1, "Front"), (2, 0, "Desk")):
        node = tmp_path / f"video{number}"
        node.mkdir()
        (node / "index").write_text(f"{index}\n")
        (node / "name").write_text(f"{name}\n")
    monkeypatch.setattr(source_camera, "_SYS", tmp_path)
    monkeypatch.setattr(source_camera.sys, "platform", "linux")
    assert [(c.index, c.name) for c in list_cameras()] == [(0, "Front"), (2, "Desk")]

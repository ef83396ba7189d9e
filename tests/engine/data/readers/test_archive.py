"""Listing and reading without unpacking: what is found, in which order, and what is refused."""

import os
import pickle
import re
import stat
import struct
import zipfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.data.bodies import RawDataError
from engine.data.readers import archive
from engine.data.readers.archive import list_all, list_files, read_file

PATTERN = re.compile(r"(a\d+)\.txt")


def zipped(path, files, method=zipfile.ZIP_DEFLATED):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as package:
        for name, data in files:
            package.writestr(name, data)
    return path


def test_folder_zip_and_zips_in_folders_read_the_same(tmp_path):
    files = [("a2.txt", b"two"), ("deep/er/a1.txt", b"one"), ("notes.md", b"no"), ("__MACOSX/._a1.txt", b"no")]
    folder = tmp_path / "folder"
    for name, data in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    alone = zipped(tmp_path / "alone.zip", files)
    zipped(tmp_path / "many/x/first.zip", files[:1])
    zipped(tmp_path / "many/SECOND.ZIP", files[1:], zipfile.ZIP_STORED)
    for root in (folder, alone, tmp_path / "many"):
        listing = list_files(root, PATTERN)
        assert list(listing.handles) == ["a1", "a2"] and listing.copies == 0
        assert [read_file(root, handle) for handle in listing.handles.values()] == [b"one", b"two"]
        assert set(list_all(root, PATTERN)) == set(listing.handles.values())
    assert list_files(tmp_path / "many", PATTERN).handles["a2"] == "x/first.zip!/a2.txt"


def test_of_equal_names_unpacked_files_come_first(tmp_path):
    zipped(tmp_path / "0.zip", [("a1.txt", b"packed")])
    (tmp_path / "z").mkdir()
    (tmp_path / "z/a1.txt").write_bytes(b"plain")
    listing = list_files(tmp_path, PATTERN)
    assert listing.handles == {"a1": "z/a1.txt"} and listing.copies == 1


def test_worker_processes_open_the_archive_themselves(tmp_path):
    path = zipped(tmp_path / "x.zip", [(f"a{i}.txt", b"%d" % i * 1000) for i in range(40)])
    handles = list(list_files(path, PATTERN).handles.values())
    read = partial(read_file, str(path))
    assert len(pickle.dumps(read)) < 1000
    # Forked workers inherit the parent's open archive and must not share its file position.
    with ProcessPoolExecutor(2) as pool:
        assert list(pool.map(read, handles, chunksize=5)) == [read(handle) for handle in handles]


def test_links_of_the_user_are_followed_once(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a1.txt").write_bytes(b"x")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path / "real")
    (tmp_path / "real/round").symlink_to(tmp_path / "root")
    assert list(list_files(tmp_path / "root", PATTERN).handles.values()) == ["link/a1.txt"]


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "a1.txt")
    (tmp_path / "a2.txt").write_bytes(b"x")
    assert list(list_files(tmp_path, PATTERN).handles) == ["a2"]
    with pytest.raises(RawDataError, match="not a regular file"):
        read_file(tmp_path, "a1.txt")


@pytest.mark.parametrize(
    "name",
    ["../a1.txt", "x/../../a1.txt", "/etc/a1.txt", "C:/a1.txt", "..\\..\\x/a1.txt"],
)
def test_names_that_lead_out_are_refused(tmp_path, name):
    path = zipped(tmp_path / "x.zip", [(name, b"x")])
    with pytest.raises(RawDataError, match="leads out"):
        list_files(path, PATTERN)


def test_links_encryption_and_rare_methods_are_refused(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as package:
        info = zipfile.ZipInfo("a1.txt")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        package.writestr(info, "/etc/passwd")
    with pytest.raises(RawDataError, match="link"):
        list_files(path, PATTERN)

    zipped(path, [("a1.txt", b"x")])
    data = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(mark) + flags] |= 1
    path.write_bytes(data)
    with pytest.raises(RawDataError, match="encrypted"):
        list_files(path, PATTERN)

    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        zipped(path, [("a1.txt", b"x" * 100)], method)
        with pytest.raises(RawDataError, match="can't be read here"):
            list_files(path, PATTERN)


def test_bombs_are_refused(tmp_path, monkeypatch):
    path = zipped(tmp_path / "x.zip", [("a1.txt", bytes(8 << 20))])
    with pytest.raises(RawDataError, match="unpacks to 8388608"):
        list_files(path, PATTERN)
    path = zipped(tmp_path / "y.zip", [("a1.txt", os.urandom(3000)), ("a2.txt", os.urandom(3000))])
    handles = list_files(path, PATTERN).handles
    with pytest.raises(RawDataError, match="too big"):
        read_file(path, handles["a1"], 2999)
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 5000)
    with pytest.raises(RawDataError, match="unpacks to"):
        list_files(path, PATTERN)
    (tmp_path / "a3.txt").write_bytes(bytes(100))
    with pytest.raises(RawDataError, match="more than 99 bytes"):
        read_file(tmp_path, "a3.txt", 99)


def test_a_member_that_promises_less_than_it_unpacks_to(tmp_path):
    path = zipped(tmp_path / "x.zip", [("a1.txt", b"0.5 " * 5000)])
    data = bytearray(path.read_bytes())
    data[data.find(b"PK\x01\x02") + 24 :][:4] = struct.pack("<I", 10)
    at = data.find(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", 10)
    path.write_bytes(data)
    (handle,) = list_files(path, PATTERN).handles.values()
    with pytest.raises(RawDataError, match=r"damaged|promises"):
        read_file(path, handle)


def test_checksum_is_checked(tmp_path):
    path = zipped(tmp_path / "x.zip", [("a1.txt", b"0123456789" * 20)], zipfile.ZIP_STORED)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"0123456789", b"0123456780", 1))
    (handle,) = list_files(path, PATTERN).handles.values()
    with pytest.raises(RawDataError, match="CRC"):
        read_file(path, handle)


def test_messages_say_what_to_do(tmp_path):
    with pytest.raises(RawDataError, match="no such file or folder"):
        list_files(tmp_path / "nowhere", PATTERN)
    with pytest.raises(RawDataError, match="no texts found"):
        list_files(tmp_path, PATTERN, what="texts")
    (tmp_path / "Skeleton.7z").write_bytes(b"7z\xbc\xaf\x27\x1c")
    for root in (tmp_path, tmp_path / "Skeleton.7z"):
        with pytest.raises(RawDataError, match=r"7z x Skeleton\.7z"):
            list_files(root, PATTERN)
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 only the beginning")
    with pytest.raises(RawDataError, match=r"cut\.zip: not a readable zip"):
        list_files(tmp_path / "cut.zip", PATTERN)
    with pytest.raises(RawDataError, match="no such member"):
        read_file(zipped(tmp_path / "x.zip", [("a1.txt", b"x")]), "!/a2.txt")
    with pytest.raises(RawDataError, match="can't be read"):
        read_file(tmp_path, "gone.txt")


def test_a_zip_in_the_folder_that_cannot_be_opened_hides_nothing_else(tmp_path):
    (tmp_path / "empty.zip").write_bytes(b"")
    with pytest.raises(RawDataError, match=r"no texts found; .*empty\.zip: not a readable zip"):
        list_files(tmp_path, PATTERN, what="texts")
    zipped(tmp_path / "x.zip", [("a1.txt", b"x")])
    listing = list_files(tmp_path, PATTERN)
    assert listing.handles == {"a1": "x.zip!/a1.txt"} and list_all(tmp_path, PATTERN) == ("x.zip!/a1.txt",)
    assert [text.partition(":")[0] for text in listing.closed] == [str(tmp_path / "empty.zip")]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_zips_only_raise_the_readers_error(tmp_path, data):
    path = zipped(tmp_path / "x.zip", [(f"a{i}.txt", b"0.5 -0.25\n" * 20) for i in range(3)])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        for handle in list_files(path, PATTERN).handles.values():
            assert len(read_file(path, handle)) <= 64 << 20
    except RawDataError:
        pass

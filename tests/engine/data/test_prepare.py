"""Preparation: interrupted, killed, out of disk or with damaged files, it ends with the same store or says why not."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from engine.data import prepare, store_files
from engine.data.bodies import RawDataError, RawSequence
from engine.data.parts import Plan, PrepareError, build_store
from engine.data.prepare import prepare_dataset
from engine.data.sets import DATASETS
from engine.data.store import SequenceStore
from tests.engine.data.synthetic import ntu_files, write_folder, write_ntu_zips, write_pku

CLASSES = ("x", "y")


def make(pause, item):
    """One recording that depends on its name alone; "bad" items are damaged, "crash" items have a bug."""
    time.sleep(pause)
    if item == os.environ.get("HOLD_AT"):
        # Long enough that even on a busy machine the preparation can't finish before it is killed. Ctrl-C lets a
        # worker end what it has begun, so it must not be for ever.
        time.sleep(20)
    if item.startswith("bad"):
        raise RawDataError(f"{item}.txt, line 7: 149 numbers")
    if item.startswith("crash"):
        raise IndexError("list index out of range")
    if item.startswith("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    number = int(item.removeprefix("nan"))
    rng = np.random.default_rng(number)
    xyz = rng.standard_normal((int(rng.integers(1, 9)), 25, 3)).astype(np.float32)
    if item.startswith("nan"):
        xyz[0, 0] = np.nan
    yield RawSequence.of_one_body(xyz, 30.0, "ntu25", item, number % 2, subject=number)


def plan(items, pause=0.0, **changes):
    return Plan(tuple(map(str, items)), partial(make, pause), "set", CLASSES, 30.0, **changes)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_parts_and_workers_do_not_change_the_store(tmp_path):
    build_store(plan(range(40)), tmp_path / "one", {"a": 1}, workers=1)
    build_store(plan(range(40)), tmp_path / "two", {"a": 1}, workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    store = SequenceStore(tmp_path / "one")
    assert store.names == [str(i) for i in range(40)] and store.damaged_files() == []
    for i in range(40):
        assert np.array_equal(store.raw(i).bodies[0].xyz, next(make(0, str(i))).bodies[0].xyz)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.parametrize("workers", [1, 2])
def test_damaged_items_are_named_and_left_out(tmp_path, workers):
    items = [*range(15), "bad1", *range(15, 30), "crash2", "nan3"]
    seen = []
    damaged = build_store(plan(items), tmp_path / "a", {}, workers, seen.append, "reading")
    assert [entry["item"] for entry in damaged] == ["bad1", "crash2", "nan3"]
    assert damaged[0]["reason"] == "bad1.txt, line 7: 149 numbers"
    assert "IndexError" in damaged[1]["reason"] and "not finite" in damaged[2]["reason"]
    store = SequenceStore(tmp_path / "a")
    assert store.names == [str(i) for i in range(30)] and store.header["about"]["damaged"] == damaged
    assert (seen[-1].done, seen[-1].total, seen[-1].damaged, seen[-1].what) == (33, 33, 3, "reading")
    assert [p.done for p in seen] == sorted(p.done for p in seen)


def test_a_part_in_which_everything_is_damaged(tmp_path):
    items = [*(f"bad{i}" for i in range(8)), *range(12)]
    assert len(build_store(plan(items), tmp_path / "a", {}, 1)) == 8
    assert len(SequenceStore(tmp_path / "a")) == 12


def test_mostly_damaged_is_no_dataset_and_keeps_the_old_store(tmp_path):
    build_store(plan(range(9)), tmp_path / "a", {}, 1)
    with pytest.raises(PrepareError, match=r"6 of 10 items can't be used, for example bad0.txt, line 7"):
        build_store(plan([*(f"bad{i}" for i in range(6)), *range(4)]), tmp_path / "a", {}, 1)
    assert len(SequenceStore(tmp_path / "a")) == 9
    assert not (tmp_path / "a.partial").exists()


class Stop(Exception):
    pass


def stop_at(count):
    def listen(progress):
        if progress.done >= count:
            raise Stop

    return listen


def test_resume_uses_finished_parts_and_gives_the_identical_store(tmp_path):
    build_store(plan(range(40)), tmp_path / "whole", {}, 1)
    with pytest.raises(Stop):
        build_store(plan(range(40)), tmp_path / "cut", {}, 1, stop_at(20))
    parts = sorted(path.name for path in (tmp_path / "cut.partial").glob("part-*"))
    assert parts == ["part-00000", "part-00001"]
    with pytest.raises(store_files.StoreError, match="no prepared store"):
        SequenceStore(tmp_path / "cut")
    first = []
    build_store(plan(range(40)), tmp_path / "cut", {}, 1, first.append)
    assert first[0].done == 16
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


@pytest.mark.parametrize("change", [{"items": range(41)}, {"source": "other"}, {"half": True}])
def test_what_has_changed_starts_anew(tmp_path, change):
    with pytest.raises(Stop):
        build_store(plan(range(40)), tmp_path / "cut", {}, 1, stop_at(20))
    changed = plan(**({"items": range(40)} | change))
    seen = []
    build_store(changed, tmp_path / "cut", {}, 1, seen.append)
    assert seen[0].done == 0 and len(SequenceStore(tmp_path / "cut")) == len(changed.items)


def test_a_part_with_a_hole_is_made_again(tmp_path):
    build_store(plan(range(40)), tmp_path / "whole", {}, 1)
    with pytest.raises(Stop):
        build_store(plan(range(40)), tmp_path / "cut", {}, 1, stop_at(20))
    rows = tmp_path / "cut.partial" / "part-00001" / "rows.npy"
    rows.write_bytes(rows.read_bytes()[:200] + bytes(len(rows.read_bytes()) - 200))
    seen = []
    build_store(plan(range(40)), tmp_path / "cut", {}, 1, seen.append)
    assert seen[0].done == 8 and content(tmp_path / "cut") == content(tmp_path / "whole")


SCRIPT = """
import signal, sys
# A shell that starts a command in the background lets it ignore Ctrl-C; this is about one that doesn't.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from engine.data.parts import build_store
from tests.engine.data.test_prepare import plan

def listen(progress):
    print(progress.done, flush=True)

if __name__ == "__main__":
    build_store(plan(range(80), pause=0.02), Path(sys.argv[1]), {}, int(sys.argv[2]), listen)
"""


def start(tmp_path, workers):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = Path(__file__).resolve().parents[3]
    return subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "cut"), str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "HOLD_AT": "60"},
        start_new_session=True,
    )


def wait_for(process, folder, parts):
    """Until so many parts are finished."""
    for _ in process.stdout:
        if len([p for p in folder.glob("part-*") if not p.name.endswith(".tmp")]) >= parts:
            return
    raise AssertionError(process.stderr.read())


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "how"), [(1, signal.SIGKILL), (2, signal.SIGKILL), (2, signal.SIGINT)])
def test_killed_and_resumed(tmp_path, workers, how):
    process = start(tmp_path, workers)
    wait_for(process, tmp_path / "cut.partial", 2)
    children = psutil.Process(process.pid).children(recursive=True)
    if how == signal.SIGINT:
        # Ctrl-C in a terminal reaches the whole group.
        os.killpg(process.pid, how)
    else:
        process.kill()
    process.communicate(timeout=60)
    psutil.wait_procs(children, timeout=60)
    assert not any(child.is_running() for child in children)
    with pytest.raises(store_files.StoreError, match="no prepared store"):
        SequenceStore(tmp_path / "cut")
    seen = []
    build_store(plan(range(80), pause=0.02), tmp_path / "cut", {}, 2, seen.append)
    assert seen[0].done >= 16
    build_store(plan(range(80)), tmp_path / "whole", {}, 1)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_a_killed_worker_is_reported_and_finished_parts_are_kept(tmp_path):
    with pytest.raises(PrepareError, match="worker process was killed"):
        build_store(plan([*range(30), "die"]), tmp_path / "a", {}, 2)
    assert (tmp_path / "a.partial").is_dir() and not (tmp_path / "a").exists()


def test_two_at_a_time_are_refused(tmp_path):
    (tmp_path / "a.partial").mkdir()
    (tmp_path / "a.partial" / "lock").write_text(str(os.getppid()))
    with pytest.raises(PrepareError, match="is preparing the same store"):
        build_store(plan(range(3)), tmp_path / "a", {}, 1)
    (tmp_path / "a.partial" / "lock").write_text("999999999")
    build_store(plan(range(3)), tmp_path / "a", {}, 1)


@pytest.mark.parametrize("free", [3, 18, 60, 90])
def test_a_full_disk_is_said_and_what_is_there_is_kept(tmp_path, monkeypatch, free):
    """The disk takes ``free`` arrays, then no more: while parts are written, and while they are joined."""
    build_store(plan(range(9)), tmp_path / "a", {}, 1)
    old = content(tmp_path / "a")
    real, written = store_files.GrowingArray.append, 0

    def append(self, block):
        nonlocal written
        written += 1
        if written > free:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, block)

    monkeypatch.setattr(store_files.GrowingArray, "append", append)
    with pytest.raises(PrepareError, match=r"the disk of .* is full; \d+ of 5 parts are kept"):
        build_store(plan(range(40)), tmp_path / "a", {}, 1)
    assert content(tmp_path / "a") == old and not (tmp_path / "a.writing").exists()
    monkeypatch.undo()
    build_store(plan(range(40)), tmp_path / "a", {}, 1)
    build_store(plan(range(40)), tmp_path / "whole", {}, 1)
    assert content(tmp_path / "a") == content(tmp_path / "whole")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_the_systems_own_error_of_a_full_disk_comes_through(tmp_path):
    (tmp_path / "rows.npy").symlink_to("/dev/full")
    with pytest.raises(OSError) as caught:
        store_files.save_column(tmp_path / "rows.npy", np.zeros((100_000, 3)))
    assert caught.value.errno == errno.ENOSPC


def test_the_record_of_a_part_is_plain_json(tmp_path):
    with pytest.raises(Stop):
        build_store(plan(["bad", *range(40)]), tmp_path / "a", {}, 1, stop_at(9))
    record = json.loads((tmp_path / "a.partial" / "part-00000" / "part.json").read_text())
    assert record["sequences"] == 7 and record["damaged"][0]["item"] == "bad"


def test_cutting_rule_is_kept_and_another_one_reads_anew(tmp_path):
    info = DATASETS["pku_mmd_1"]
    write_pku(tmp_path / "raw", 1, ["0002-L", "0003-M"], frames=30)
    lengths = {}
    for cutting in ("", "aimclr", "closed", "cmd"):
        made = prepare_dataset(info, tmp_path / "raw", tmp_path, workers=1, cutting=cutting)
        assert made.store.header["about"]["cutting"] == (cutting or "clamp")
        lengths[cutting] = made.store.length.tolist()
    # Labels say 0-9, 10-19, 20-29: to but not with the end; one more on either side, where there is one.
    assert lengths[""] == lengths["cmd"] == [9, 9, 9] * 2
    assert lengths["aimclr"] == [9, 10, 10] * 2 and lengths["closed"] == [10, 10, 10] * 2
    with pytest.raises(PrepareError, match="no cutting rule 'clap'; known: clamp, aimclr, cmd, closed"):
        prepare_dataset(info, tmp_path / "raw", tmp_path, workers=1, cutting="clap")
    with pytest.raises(PrepareError, match="no cutting rule 'cmd'; known: none"):
        prepare_dataset(DATASETS["nw_ucla"], tmp_path / "raw", tmp_path, workers=1, cutting="cmd")
    with pytest.raises(PrepareError, match="needs the downloaded files"):
        prepare_dataset(info, None, tmp_path, cutting="cmd")


NTU = DATASETS["ntu60"]


def ntu_folder(tmp_path):
    """23 unpacked recordings and the stores made of them."""
    names = [f"S001C00{c}P001R00{r}A0{a:02d}" for c in (1, 2, 3) for r in (1, 2) for a in range(1, 5)][:23]
    raw = write_folder(tmp_path / "raw", ntu_files(names, frames=4))
    return raw, prepare_dataset(NTU, raw, tmp_path / "stores", workers=1)


@pytest.mark.parametrize("emptied", [False, True])
def test_a_disk_that_goes_while_it_is_read_costs_neither_parts_nor_the_store_of_before(tmp_path, emptied):
    raw, before = ntu_folder(tmp_path)
    os.utime(raw / f"{before.store.names[0]}.skeleton")  # to be read anew
    away = tmp_path / "away"

    def unplug(progress):
        if progress.done >= 8 and not away.exists():
            raw.rename(away)
            if emptied:
                raw.mkdir()

    with pytest.raises(PrepareError, match=r"raw can't be read any more, .* kept in .*raw\.partial"):
        prepare_dataset(NTU, raw, tmp_path / "stores", workers=1, listen=unplug)
    assert len(SequenceStore(tmp_path / "stores" / "ntu60")) == 23
    assert len(SequenceStore(tmp_path / "stores" / "ntu60.raw")) == 23
    if emptied:
        raw.rmdir()
    away.rename(raw)
    seen = []
    made = prepare_dataset(NTU, raw, tmp_path / "stores", workers=1, listen=seen.append)
    assert seen[0].done >= 8 and len(made.store) == len(made.raw) == 23 and not made.damaged


def unplugged_at_20(root, item):
    if item == "20":
        root.rmdir()
    if not root.exists():
        raise RawDataError(f"{item}.txt: can't be read")
    yield from make(0.0, item)


def test_a_disk_that_goes_stops_every_worker_and_damages_nothing(tmp_path):
    (tmp_path / "raw").mkdir()
    gone = Plan(tuple(map(str, range(30))), partial(unplugged_at_20, tmp_path / "raw"), "set", CLASSES, 30.0,
                root=tmp_path / "raw")  # fmt: skip
    with pytest.raises(PrepareError, match="raw can't be read any more"):
        build_store(gone, tmp_path / "a", {}, 2)
    parts = list((tmp_path / "a.partial").glob("part-*[0-9]"))
    assert parts and not (tmp_path / "a").exists()
    assert not any(json.loads((part / "part.json").read_text())["damaged"] for part in parts)


def written(store):
    return (store.folder / "store.json").stat().st_mtime_ns


def test_what_was_left_out_while_it_could_not_be_read_is_there_when_prepared_again(tmp_path):
    raw, before = ntu_folder(tmp_path)
    file = raw / f"{before.store.names[5]}.skeleton"
    text, about = file.read_bytes(), file.stat()

    def become(data):
        file.write_bytes(data)
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))

    def prepared():
        made = prepare_dataset(NTU, raw, tmp_path / "stores", workers=1)
        return len(made.store), len(made.damaged), written(made.raw)

    become(bytes(len(text)))
    (before.raw.folder / "store.json").unlink()
    count, damaged, when = prepared()
    assert (count, damaged) == (22, 1)
    assert prepared() == (22, 1, when), "what is still damaged is not read again with all the others"
    become(text)
    assert prepared()[:2] == (23, 0)


def test_a_raw_store_with_a_changed_byte_is_made_again_or_its_files_are_asked_for(tmp_path):
    raw, before = ntu_folder(tmp_path)
    sound = content(before.raw.folder)
    rows = bytearray(sound["rows.npy"])
    rows[-1] ^= 1
    (before.raw.folder / "rows.npy").write_bytes(rows)
    with pytest.raises(PrepareError, match=r"ntu60\.raw is damaged \(rows\.npy\): say where .* \(--raw PATH\)"):
        prepare_dataset(NTU, None, tmp_path / "stores", "top_two", workers=1)
    made = prepare_dataset(NTU, raw, tmp_path / "stores", workers=1)
    assert content(made.raw.folder) == sound and content(made.store.folder) == content(before.store.folder)


def downloads_with_both_zips(tmp_path):
    """A folder of downloads as one has it, with the two archives of NTU-120 (44 recordings) and other things."""
    names = [f"S0{s}C001P0{p}R00{r}A{a:03d}" for s, p, first in (("01", "01", 1), ("18", "08", 61)) for r in (1, 2)
             for a in range(first, first + 11)]  # fmt: skip
    folder = tmp_path / "downloads"
    write_ntu_zips(folder, names, frames=4)
    (folder / "letter.pdf").write_bytes(b"dear")
    return folder


def test_what_else_comes_into_the_folder_of_the_archives_starts_nothing_anew(tmp_path):
    info, raw = DATASETS["ntu120"], downloads_with_both_zips(tmp_path)
    with pytest.raises(Stop):
        prepare_dataset(info, raw, tmp_path / "stores", workers=1, listen=stop_at(30))
    (raw / "photo.jpg").write_bytes(b"new")
    (raw / "letter.pdf").unlink()
    seen = []
    made = prepare_dataset(info, raw, tmp_path / "stores", workers=1, listen=seen.append)
    assert seen[0].done == 24 and len(made.store) == 44
    (raw / "film.zip").write_bytes(b"")
    before = written(made.raw)
    again = prepare_dataset(info, raw, tmp_path / "stores", workers=1)
    assert written(again.raw) == before and not again.damaged
    os.utime(next(raw.glob("nturgbd*s018*")))
    anew = prepare_dataset(info, raw, tmp_path / "stores", workers=1)
    assert written(anew.raw) != before


def test_what_an_earlier_version_made_of_the_whole_folder_is_not_read_again(tmp_path, monkeypatch):
    info, raw = DATASETS["ntu120"], downloads_with_both_zips(tmp_path)
    whole = prepare.fingerprint
    monkeypatch.setattr(prepare, "fingerprint", lambda path, files=(): whole(path))
    with pytest.raises(Stop):
        prepare_dataset(info, raw, tmp_path / "begun", workers=1, listen=stop_at(30))
    made = prepare_dataset(info, raw, tmp_path / "stores", workers=1)
    monkeypatch.undo()
    before = written(made.raw)
    assert written(prepare_dataset(info, raw, tmp_path / "stores", workers=1).raw) == before
    seen = []
    prepare_dataset(info, raw, tmp_path / "begun", workers=1, listen=seen.append)
    assert seen[0].done == 24


def test_an_archive_that_was_cut_short_is_the_first_that_is_missing(tmp_path):
    raw = downloads_with_both_zips(tmp_path)
    second = next(raw.glob("nturgbd*s018*"))
    second.write_bytes(second.read_bytes()[:-50])
    made = prepare_dataset(DATASETS["ntu120"], raw, tmp_path / "stores", workers=1)
    first = made.store.header["about"]["missing"][0]
    assert len(made.store) == 22 and second.name in first and "not a readable zip" in first


def test_a_folder_whose_name_is_no_valid_text_is_read_like_any_other(tmp_path):
    raw = ntu_folder(tmp_path)[0].rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/gr\xfc\xdfe")))
    made = prepare_dataset(NTU, raw, tmp_path / "others", workers=1)
    assert len(made.store) == 23 and Path(made.store.header["about"]["raw"]) == raw

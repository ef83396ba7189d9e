from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from engine.skeleton.sequence import SkeletonSequence
from engine.teach import share, takes
from engine.teach.pack import ClassPack, PackError, clean_name, find_pack, new_pack_folder, pack_folder
from engine.teach.share import read_zip, write_zip


def performance(seed: int = 0, frames: int = 40, layout: str = "ntu25") -> SkeletonSequence:
    joints = 25 if layout == "ntu25" else 20
    xyz = np.random.default_rng(seed).normal(0, 0.3, (frames, 1, joints, 3)) + np.array([0, 0, 3])
    return SkeletonSequence(xyz, 5.0 + np.arange(frames) / 30, layout, name=f"p{seed}")


@pytest.fixture
def pack(tmp_path: Path) -> ClassPack:
    pack = ClassPack.create(tmp_path / "home" / "p", "Übungen")
    for seed in range(3):
        pack.add_take("Arme  kreisen", performance(seed), 5.2, 6.0, source="a.mp4")
    pack.add_take("跳", performance(9, layout="kinect20"), sign=-1)
    return pack


def test_a_pack_comes_back_as_it_was(pack: ClassPack) -> None:
    again = ClassPack.open(pack.folder)
    assert again.name == "Übungen" and again.actions == ("Arme kreisen", "跳") and not again.problems
    mine = again.takes("Arme kreisen")
    assert [t.number for t in mine] == [1, 2, 3] and again.takes("跳") == []
    assert [t.sign for t in again.takes("跳", None)] == [-1]
    assert np.array_equal(mine[1].sequence.xyz, performance(1).xyz)
    assert mine[1].sequence.times[0] == 0 and (mine[1].start, mine[1].end) == pytest.approx((0.2, 1.0))
    cut = mine[1].trimmed()
    assert np.array_equal(cut.xyz, performance(1).xyz[6:31]) and mine[1].source == "a.mp4"
    changed = again.trim(mine[1], 0.1, 0.9)
    reopened = ClassPack.open(pack.folder).takes()[1]
    assert (reopened.start, reopened.end) == (0.1, 0.9) and reopened.digest() == changed.digest() != mine[1].digest()
    assert again.rename_action("跳", "jump") == "jump"
    assert ClassPack.open(pack.folder).takes("jump", -1)[0].action == "jump"


def test_what_was_removed_can_be_put_back(pack: ClassPack) -> None:
    take = pack.takes()[1]
    one = pack.remove_take(take)
    action = pack.remove_action("Arme kreisen")
    assert ClassPack.open(pack.folder).actions == ("跳",) and pack.takes() == []
    pack.put_back(action)
    assert pack.actions[0] == "Arme kreisen" and [t.number for t in pack.takes()] == [1, 3]
    pack.put_back(one)
    assert [t.number for t in ClassPack.open(pack.folder).takes()] == [1, 2, 3]
    with pytest.raises(PackError, match="there again"):
        pack.put_back(one)


def test_an_action_another_process_adds_keeps_its_name_and_its_takes(pack: ClassPack) -> None:
    ClassPack.open(pack.folder).add_take("Tür öffnen", performance(5))
    pack.rename_action("跳", "jump")
    assert ClassPack.open(pack.folder).actions == ("Arme kreisen", "jump", "Tür öffnen")
    ClassPack.open(pack.folder).add_take("Tur öffnen", performance(6))
    pack.add_take("Tür öffnen", performance(7))
    again = ClassPack.open(pack.folder)
    assert len(again.takes("Tür öffnen")) == 2 and len(again.takes("Tur öffnen")) == 1
    ClassPack.open(pack.folder).add_action("nod")
    pack.taught_on("encoder", "digest")
    assert ClassPack.open(pack.folder).actions == ("Arme kreisen", "jump", "Tür öffnen", "Tur öffnen", "nod")


def test_the_newest_take_can_be_put_back_when_another_one_was_recorded_meanwhile(pack: ClassPack) -> None:
    newest = pack.takes()[2]
    removed = pack.remove_take(newest)
    assert ClassPack.open(pack.folder).add_take("Arme kreisen", performance(7)).number == 4
    pack.put_back(removed)
    assert [t.number for t in pack.takes()] == [1, 2, 3, 4] and pack.takes()[2].digest() == newest.digest()
    everything = pack.remove_action("Arme kreisen")
    other = pack.add_take("Arme kreisen", performance(8))
    assert other.number == 5
    pack.remove_action("Arme kreisen")
    pack.put_back(everything)
    assert [t.number for t in pack.takes()] == [1, 2, 3, 4]


def test_where_a_pack_was_deleted_another_process_writes_nothing(pack: ClassPack, tmp_path: Path) -> None:
    pack.folder.rename(tmp_path / "aside")
    with pytest.raises(PackError, match="is gone: the pack was deleted"):
        pack.add_take("Arme kreisen", performance(7))
    assert not pack.folder.exists()


def test_a_deleted_pack_is_kept_for_a_day_and_no_longer(pack: ClassPack) -> None:
    aside = pack.folder.parent / ".removed"
    old, new, hers = (aside / name for name in (str(time.time_ns() - 25 * 3600 * 10**9), str(time.time_ns()), "2019"))
    for place in (old, new, hers):
        ClassPack.create(place / "kitchen", "kitchen")
    ClassPack.open(pack.folder)
    assert sorted(aside.iterdir()) == sorted((new, hers)), "a folder that is named otherwise is hers"


def test_damage_costs_only_what_is_damaged(pack: ClassPack) -> None:
    first, second, third = pack.takes()
    first.path.write_bytes(first.path.read_bytes()[:500])
    np.savez(second.path, xyz=np.array([{}], object))
    opened = ClassPack.open(pack.folder)
    assert [t.number for t in opened.takes()] == [3] and len(opened.problems) == 2
    assert all(str(t.path) in " ".join(opened.problems) for t in (first, second))
    assert opened.add_take("Arme kreisen", performance(5)).number == 4, "no damaged file is written over"
    (pack.folder / "pack.json").write_text('{"format": 1, "name"')
    rescued = ClassPack.open(pack.folder)
    assert rescued.actions == ("action", "arme kreisen") and [t.number for t in rescued.takes()] == [3, 4]
    assert "pack.json is damaged" in rescued.problems[0]
    (pack.folder / "pack.json").write_text('{"format": 9, "name": "x", "actions": []}')
    with pytest.raises(PackError, match=r"format 9.*newer version"):
        ClassPack.open(pack.folder)


@pytest.mark.parametrize("name", ["", "  ", "a\nb" * 50, "x" * 81, "a\x00b"])
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(PackError, match="no name"):
        clean_name(name)


def test_performances_that_are_none_are_refused(pack: ClassPack) -> None:
    short, empty, broken = performance(frames=5), performance(), performance()
    empty.xyz[:] = 0
    broken.xyz[3, 0, 2, 1] = np.nan
    for sequence, why in ((short, "too short"), (empty, "nobody"), (broken, "not numbers")):
        with pytest.raises(PackError, match=why):
            pack.add_take("x", sequence)
    assert "x" not in pack.actions
    whole = pack.add_take("y", performance(), 6.0, 6.1)
    assert (whole.start, whole.end) == pytest.approx((0.0, 39 / 30)), "a trim to nothing is no trim"


def test_a_shared_pack_is_the_pack(pack: ClassPack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path / "other"))
    pack.remove_take(pack.takes()[0])
    out = write_zip(pack, tmp_path / "Mine 2.zip")
    loaded = read_zip(out)
    assert loaded.folder == pack_folder("mine-2") == find_pack("Mine 2") and loaded.actions == pack.actions
    assert [t.digest() for t in loaded.takes(sign=None)] == [t.digest() for t in pack.takes(sign=None)]
    assert not (loaded.folder / ".removed").exists()
    assert read_zip(out).folder.name == "mine-2-2"
    with pytest.raises(PackError, match="no pack 'nobody'; there are: mine-2, mine-2-2"):
        find_pack("nobody")


def test_packs_named_in_other_scripts_or_alike_are_never_taken_for_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path / "home"))
    names = ("厨房", "卧室", "Küche!", "kuche", "My actions")
    made = {name: ClassPack.create(new_pack_folder(name), name).folder for name in names}
    assert [folder.name for folder in made.values()] == ["action", "action-2", "kuche", "kuche-2", "my-actions"]
    for name, folder in made.items():
        assert find_pack(name) == find_pack(folder) == folder and ClassPack.open(folder).name == name
    for other in ("浴室", "küche", "kuche?"):
        with pytest.raises(PackError, match="no pack"):
            find_pack(other)
    # A folder's own name is as good, whatever the pack in it calls itself now.
    ClassPack.open(made["My actions"]).rename("Kitchen")
    assert find_pack("my actions") == find_pack("kitchen") == made["My actions"] and find_pack("action") == made["厨房"]
    with pytest.raises(PackError, match="my-actions is a pack called 'Kitchen'; choose another name"):
        new_pack_folder("KITCHEN")
    # Of two that are called the same, the one that lies in the folder of that name; else none is chosen for the user.
    ClassPack.open(made["卧室"]).rename("厨房")
    with pytest.raises(PackError, match="several packs are called '厨房'; give the folder of one: action, action-2"):
        find_pack("厨房")


def test_archives_of_strangers_write_nothing_outside(
    pack: ClassPack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = write_zip(pack, tmp_path / "good.zip")
    target = tmp_path / "in" / "pack"

    def with_member(name: str, data: bytes = b"x", mode: int = 0o644) -> Path:
        out = tmp_path / "bad.zip"
        out.write_bytes(good.read_bytes())
        info = zipfile.ZipInfo(name)
        info.external_attr = (0o100000 if mode < 0o10000 else 0) + mode << 16
        with zipfile.ZipFile(out, "a") as archive:
            archive.writestr(info, data)
        return out

    for name in ("../evil.npz", "takes/../../evil", "/tmp/evil", "C:/evil", "..\\evil"):
        with pytest.raises(PackError, match="outside the pack"):
            read_zip(with_member(name), target)
    with pytest.raises(PackError, match="is a link"):
        read_zip(with_member("takes/a/0009.npz", b"/etc/passwd", 0o120777), target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.zip", "good.zip", "home"] or not target.exists()
    opened = read_zip(with_member("takes/a/run.py", b"print()"), target)
    assert not list(opened.folder.rglob("*.py")), "what a pack can't hold is left out"
    monkeypatch.setattr(share, "MAX_FILE_BYTES", 2000)
    with pytest.raises(PackError, match="larger than"):
        read_zip(good, tmp_path / "b")
    (tmp_path / "no.zip").write_bytes(b"no")
    with pytest.raises(PackError, match="damaged or no"):
        read_zip(tmp_path / "no.zip", tmp_path / "b")
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(PackError, match=r"holds no pack\.json"):
        read_zip(tmp_path / "none.zip", tmp_path / "b")
    with zipfile.ZipFile(tmp_path / "new.zip", "w") as archive:
        archive.writestr("pack.json", json.dumps({"format": 2, "name": "x"}))
    with pytest.raises(PackError, match="newer version"):
        read_zip(tmp_path / "new.zip", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_take_of_a_newer_version_or_too_large_is_named(pack: ClassPack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takes, "MAX_TAKE_BYTES", 4000)
    assert "too large" in ClassPack.open(pack.folder).problems[0]


def test_what_another_process_removed_or_renamed_stays_so(pack: ClassPack) -> None:
    here, take = ClassPack.open(pack.folder), ClassPack.open(pack.folder).takes()[0]
    pack.remove_action("Arme kreisen")
    pack.rename_action("跳", "jump")
    here.add_action("wink")
    assert here.actions == ("jump", "wink") == ClassPack.open(pack.folder).actions
    assert here.takes() == [] and [t.action for t in here.takes(sign=None)] == ["jump"]
    for change in (lambda: here.trim(take, 0.1, 0.9), lambda: here.remove_take(take)):
        with pytest.raises(PackError, match="take 1 of Arme kreisen is gone"):
            change()
    assert here.add_take("Arme kreisen", performance(4)).number == 4  # what was removed can still be put back


def test_a_pack_file_damaged_by_others_loses_no_action(pack: ClassPack) -> None:
    here = ClassPack.open(pack.folder)
    (pack.folder / "pack.json").write_text("{")
    here.add_action("wink")
    assert ClassPack.open(pack.folder).actions == ("Arme kreisen", "跳", "wink")

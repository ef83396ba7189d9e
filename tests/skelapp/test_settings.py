"""Settings: remembered, tolerant of damaged files, every change undone."""

from __future__ import annotations

import errno
import json

import pytest

from skelapp.settings import Settings, SettingsStore


def test_what_is_set_is_there_at_the_next_start(settings: SettingsStore) -> None:
    settings.set("appearance.theme", "light")
    settings.set("recognition.enter", 0.75)
    settings.set("memory.recent", ["a.mp4"])
    again = SettingsStore()
    assert again.values.appearance.theme == "light"
    assert again.values.recognition.enter == 0.75
    assert again.values.memory.recent == ["a.mp4"]
    assert again.complaint == ""


def test_a_damaged_file_is_set_aside(settings: SettingsStore) -> None:
    settings.path.parent.mkdir(parents=True)
    settings.path.write_text('{"appearance": {"theme": "li')
    again = SettingsStore()
    assert again.values == Settings()
    assert "damaged" in again.complaint
    assert settings.path.with_suffix(".damaged.json").read_text().startswith('{"appearance"')


def test_a_folder_given_as_the_settings_file_stays_as_it_is_and_is_told(tmp_path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("text")
    store = SettingsStore(folder)
    store.set("appearance.theme", "light")
    assert store.values.appearance.theme == "light" and not store.save()
    assert str(folder) in store.complaint and "nothing is saved" in store.complaint
    assert list(tmp_path.iterdir()) == [folder] and (folder / "chapter.txt").read_text() == "text"


def test_a_file_that_cannot_be_read_is_neither_moved_nor_written_over(settings: SettingsStore, monkeypatch) -> None:
    settings.set("appearance.theme", "light")
    before = settings.path.read_bytes()
    with monkeypatch.context() as patch:

        def refused(path, *arguments):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        patch.setattr(type(settings.path), "read_text", refused)
        store = SettingsStore()
    store.set("appearance.theme", "dark")
    assert "can't be read" in store.complaint and settings.path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "lost"),
    [
        ({"appearance": {"theme": "pink"}, "camera": {"mirror": False}}, "appearance.theme"),
        ({"appearance": 7, "camera": {"mirror": False}}, "appearance."),
        ({"pose": {"persons": 9}, "camera": {"mirror": False}, "unknown": 1}, "pose.persons"),
        ({"memory": {"recent": "no list"}, "camera": {"mirror": False}}, "memory.recent"),
    ],
)
def test_what_can_be_read_is_kept(settings: SettingsStore, content: dict, lost: str) -> None:
    settings.path.parent.mkdir(parents=True)
    settings.path.write_text(json.dumps(content))
    again = SettingsStore()
    assert again.values.camera.mirror is False
    assert again.values.appearance.theme == "system" and again.values.pose.persons == 2
    assert lost in again.complaint


@pytest.mark.parametrize("content", ["[]", "null", '"text"', "\x00\xff"])
def test_other_content_gives_defaults(settings: SettingsStore, content: str) -> None:
    settings.path.parent.mkdir(parents=True)
    settings.path.write_bytes(content.encode("latin-1"))
    again = SettingsStore()
    assert again.values == Settings() and again.complaint


def test_undo_goes_back_step_by_step(settings: SettingsStore) -> None:
    heard: list[str] = []
    settings.listen(heard.append)
    settings.set("appearance.theme", "dark")
    settings.set("pose.variant", "lite")
    assert settings.undo() and settings.values.pose.variant == "full"
    assert settings.values.appearance.theme == "dark"
    assert settings.undo() and settings.values.appearance.theme == "system"
    assert not settings.undo()
    assert heard == ["appearance.theme", "pose.variant", "pose.variant", "appearance.theme"]


def test_memory_is_no_step_of_undo(settings: SettingsStore) -> None:
    settings.set("memory.panel", "models")
    assert not settings.can_undo


def test_thresholds_stay_in_order_and_undo_restores_both(settings: SettingsStore) -> None:
    settings.set("recognition.enter", 0.3)
    assert settings.values.recognition.leave == 0.3
    settings.undo()
    assert (settings.values.recognition.enter, settings.values.recognition.leave) == (0.6, 0.4)
    settings.set("recognition.leave", 0.8)
    assert settings.values.recognition.enter == 0.8


def test_defaults_come_back_in_one_step_and_memory_stays(settings: SettingsStore) -> None:
    settings.set("appearance.theme", "light")
    settings.set("camera.mirror", False)
    settings.set("memory.panel", "settings")
    settings.restore_defaults()
    assert settings.values.appearance.theme == "system" and settings.values.camera.mirror
    assert settings.values.memory.panel == "settings"
    settings.undo()
    assert settings.values.appearance.theme == "light" and not settings.values.camera.mirror


def test_a_value_that_is_not_allowed_changes_nothing(settings: SettingsStore) -> None:
    with pytest.raises(ValueError, match="persons"):
        settings.set("pose.persons", 5)
    assert settings.values.pose.persons == 2 and not settings.can_undo


def test_a_disk_that_refuses_is_no_crash(settings: SettingsStore) -> None:
    settings.path.parent.mkdir(parents=True)
    settings.path.mkdir()
    settings.set("appearance.theme", "light")
    assert settings.values.appearance.theme == "light"
    assert settings.save() is False


def test_two_windows_on_one_file_keep_what_each_changed(settings: SettingsStore) -> None:
    settings.set("pose.persons", 1)
    other = SettingsStore()
    settings.set("appearance.theme", "light")
    settings.set("recognition.enter", 0.45)
    other.set("camera.mirror", False)
    other.set("recognition.leave", 0.55)
    settings.set("memory.recent", ["a.mp4"])
    again = SettingsStore().values
    assert (again.pose.persons, again.appearance.theme, again.camera.mirror) == (1, "light", False)
    assert again.memory.recent == ["a.mp4"]
    assert (again.recognition.enter, again.recognition.leave) == (0.45, 0.45)  # nothing ends above where it begins
    settings.set("pose.persons", 2)
    other.set("pose.persons", 2)
    assert SettingsStore().values.pose.persons == 2


def test_a_value_set_back_to_what_it_was_is_written_too(settings: SettingsStore) -> None:
    settings.set("appearance.theme", "light")
    other = SettingsStore()
    other.set("appearance.theme", "dark")
    settings.set("appearance.theme", "system")
    settings.set("appearance.theme", "light")
    assert SettingsStore().values.appearance.theme == "light"


def test_what_could_not_be_read_is_mended_at_the_next_save_and_unknown_fields_stay(settings: SettingsStore) -> None:
    settings.path.parent.mkdir(parents=True)
    settings.path.write_text(
        json.dumps({"appearance": {"theme": "pink", "newer": 1}, "pose": 7, "memory": {"recent": None}, "later": [2]})
    )
    store = SettingsStore()
    store.set("camera.mirror", False)
    assert SettingsStore().complaint == ""
    kept = json.loads(settings.path.read_text())
    assert kept["appearance"] == {"theme": "system", "newer": 1} and kept["later"] == [2]


def test_a_file_lost_or_damaged_meanwhile_is_written_whole(settings: SettingsStore) -> None:
    settings.set("appearance.theme", "light")
    for damage in ("{", "[]", None):
        if damage is None:
            settings.path.unlink()
        else:
            settings.path.write_text(damage)
        assert settings.save()
        again = SettingsStore()
        assert again.values.appearance.theme == "light" and again.complaint == ""


def test_thresholds_of_a_file_written_by_hand_are_put_in_order(settings: SettingsStore) -> None:
    settings.path.parent.mkdir(parents=True)
    settings.path.write_text(json.dumps({"recognition": {"enter": 0.5, "leave": 0.8}}))
    part = SettingsStore().values.recognition
    assert (part.enter, part.leave) == (0.5, 0.5)

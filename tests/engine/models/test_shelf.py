"""The shelf: every checkpoint once, with how it came here; damaged ones say why; a thousand are listed quickly."""

import json
import os

from engine import paths
from engine.data.preprocess import Preprocessing
from engine.models import shelf as shelf_module
from engine.models.card import CheckpointCard, write_card
from engine.models.shelf import Place, Shelf, find_places, imported


def card(name):
    return CheckpointCard(
        name=name, backbone="ctrgcn", feature_dim=8, classes=["a", "b"], preprocessing=Preprocessing(),
        dataset="made", split="all",
    )  # fmt: skip


def test_every_checkpoint_once_with_its_origin(tmp_path, monkeypatch):
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(paths, "TRAINED_MODELS", tmp_path / "shipped")
    assert list(find_places()) == []
    run = paths.runs() / "run"
    trained = [run / "checkpoint", run / "checkpoint_best_on_test"]
    for folder in (tmp_path / "shipped" / "one", *trained, imported() / "two", tmp_path / "mine" / "three"):
        write_card(card(folder.name), folder)
    (tmp_path / "mine" / "nothing").mkdir()
    os.symlink(tmp_path / "shipped" / "one", tmp_path / "mine" / "again")
    found = Shelf().all(tmp_path / "mine", tmp_path / "gone")
    assert [(s.place.folder.name, s.place.origin) for s in found] == [
        ("one", "shipped"), ("checkpoint", "trained"), ("checkpoint_best_on_test", "trained"), ("two", "imported"),
        ("three", "added"),
    ]  # fmt: skip
    assert all(s.card is not None and s.size > 0 and not s.error for s in found)


def test_damage_is_told_and_a_card_is_read_again_when_it_changes(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    write_card(card("first"), folder)
    shelf, place = Shelf(), Place(folder, "added")
    reads = []
    read = shelf_module.read_card
    monkeypatch.setattr(shelf_module, "read_card", lambda path: reads.append(path) or read(path))
    assert shelf.look(place).card.name == shelf.look(place).card.name == "first" and len(reads) == 1
    (folder / "card.json").write_text("{")
    damaged = shelf.look(place)
    assert damaged.card is None and "damaged" in damaged.error and len(reads) == 2
    values = json.loads(card("second").model_dump_json())
    (folder / "card.json").write_text(json.dumps(values | {"unknown": 1}))
    assert "unknown" in shelf.look(place).error
    (folder / "card.json").unlink()
    assert shelf.look(place).card is None

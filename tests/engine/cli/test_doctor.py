from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from engine.cli import doctor, entry
from engine.models.card import ONNX_FILE, read_card, write_card


@pytest.fixture(scope="module")
def report() -> dict:
    return doctor.examine()


def test_report_is_complete(report: dict) -> None:
    assert report["machine"]["cores"] >= 1 and report["versions"]["mediapipe"]
    works = {item["name"]: item for item in report["runtimes"]}
    assert set(works) == {"onnx", "torch", "tensorrt", "tensorrt-rtx", "auto"}
    assert works["auto"]["detail"].startswith("takes ")
    assert works["onnx"]["works"] and works["torch"]["works"]
    assert all(item["detail"] for item in report["runtimes"])
    assert report["pose"]["works"], report["pose"]["detail"]
    bundle = report["files"][0]
    assert bundle["sha256"] == hashlib.sha256(Path(bundle["path"]).read_bytes()).hexdigest()
    json.dumps(report)


def test_text_names_everything(report: dict) -> None:
    text = doctor.describe(report)
    for part in (
        "onnx",
        "tensorrt-rtx",
        "mediapipe",
        "pose_landmarker_full.task",
        "Cameras",
        report["machine"]["python"],
    ):
        assert part in text


def test_problems_are_listed_and_make_it_fail(
    report: dict, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: report | {"problems": []})
    assert entry(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []
    monkeypatch.undo()
    broken = report | {"files": [{"path": "x/gone.task", "state": "missing", "bytes": 0, "sha256": None}]}
    assert any("gone.task is missing" in text for text in doctor._problems(broken))
    monkeypatch.setattr(doctor, "examine", lambda: broken | {"problems": ["gone.task is missing"]})
    assert entry(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "MISSING" in out and "gone.task is missing" in out


def test_checkpoint_states(tiny_checkpoint: Path, tmp_path: Path) -> None:
    good = tmp_path / "good"
    shutil.copytree(tiny_checkpoint, good)
    card = read_card(good)
    digest = hashlib.sha256((good / ONNX_FILE).read_bytes()).hexdigest()
    write_card(card.model_copy(update={"sha256": {ONNX_FILE: digest}}), good)
    assert doctor._checkpoint(good)["state"] == "ok"
    with (good / ONNX_FILE).open("ab") as stream:
        stream.write(b"x")
    changed = doctor._checkpoint(good)
    assert changed["state"] == "damaged" and "differs from the digest" in changed["detail"]
    (good / ONNX_FILE).unlink()
    assert "is missing" in doctor._checkpoint(good)["detail"]


def test_a_runtime_that_fails_says_why() -> None:
    def missing() -> str:
        raise ImportError("No module named 'x'")

    def failing() -> str:
        raise RuntimeError("no  GPU\nhere")

    assert doctor._try("x", missing)["detail"] == "not installed (No module named 'x')"
    assert doctor._try("x", failing) | {"seconds": 0} == {
        "name": "x",
        "works": False,
        "detail": "no GPU here",
        "seconds": 0,
    }

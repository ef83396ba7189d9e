"""A pretrained encoder is a checkpoint that nobody lets name actions."""

from pathlib import Path

import pytest

from engine.cli import entry
from engine.data.preprocess import Preprocessing
from engine.deploy.runtime import load_runtime
from engine.models.card import CheckpointCard, CheckpointError, read_card, require_classifier
from engine.models.checkpoint import build_encoder, save_checkpoint


@pytest.fixture
def pretrained(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SKELAPP_HOME", str(tmp_path))
    card = CheckpointCard(
        name="dreamer", backbone="stgcn", backbone_args={"base_channels": 4}, feature_dim=16, classes=["unlabelled"],
        classifier_trained=False, preprocessing=Preprocessing(frames=8), dataset="nw_ucla", split="xview",
    )  # fmt: skip
    encoder = build_encoder("stgcn", 1, "ntu25", 1, {"base_channels": 4})
    folder = tmp_path / "runs" / "dreamer" / "checkpoint"
    save_checkpoint(folder, card.model_copy(update={"feature_dim": encoder.feature_dim}), encoder)
    return folder


def test_old_cards_have_a_classifier(pretrained):
    card = read_card(pretrained)
    require_classifier(card.model_copy(update={"classifier_trained": True}), pretrained)
    with pytest.raises(CheckpointError, match=r"main\.py evaluate .* --protocol linear"):
        require_classifier(card, pretrained)


@pytest.mark.parametrize(
    "words",
    [["export", "dreamer"], ["evaluate", "dreamer"], ["calibrate", "dreamer"], ["recognize", "demo", "--checkpoint"]],
    ids=lambda words: words[0],
)
def test_commands_refuse_it_in_one_sentence(pretrained, capsys, words):
    assert entry([*words, str(pretrained)] if words[0] == "recognize" else words) == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1 and "without a trained classifier" in error and "--protocol linear" in error


def test_the_live_path_refuses_it(pretrained):
    with pytest.raises(CheckpointError, match="without a trained classifier"):
        load_runtime(pretrained)

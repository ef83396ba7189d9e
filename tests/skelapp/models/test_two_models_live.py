"""One camera, two encoders: cards, timelines, agreement and cost of both, on the real pipeline."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QPushButton

from engine.live.types import LiveDecision, RivalSnapshot, Segment, StageTime
from skelapp.live.rival_bar import agreement_words
from tests.skelapp import staged

pytestmark = pytest.mark.gui
WAIT = 25_000


def rival(**changes: object) -> RivalSnapshot:
    values: dict[str, object] = {
        "checkpoint": "second", "runtime": "ONNX CPU", "window_s": 1.0,
        "decisions": {1: LiveDecision(24.0, 1, "clap", 0.8, (("clap", 0.8), ("wave", 0.1)), 38.0)},
        "segments": (Segment(1, "clap", 3.0, 5.0, 0.8),), "encode": StageTime(12.0, 15.0),
        "latency": StageTime(44.0, 60.0), "agreement": 0.87, "compared": 120,
    }  # fmt: skip
    return RivalSnapshot(**{**values, **changes})  # type: ignore[arg-type]


def test_two_labels_two_timelines_and_their_cost(qtbot, open_window, stage, checkpoints) -> None:
    from dataclasses import replace

    window = open_window()
    live = window.live
    stage(window, staged.running())
    assert not live.rival_bar.isVisible() and not live.rival_cards[0].isVisible()
    window.session.compare_with(checkpoints[1])
    stage(window, replace(staged.running(), rival=rival()))
    assert live.rival_bar.isVisible() and live.rival_cards[0].isVisible() and not live.rival_cards[1].isVisible()
    assert live.cards[0].label == "wave" and live.rival_cards[0].label == "clap"
    assert "model B" in live.rival_cards[0].accessibleName() and live.cards[0].model == "A"
    assert [s.label for s in live.rival_bar.timeline.segments] == ["clap"]
    assert live.rival_bar.agreement.text() == "same answer in 87% of 120"
    assert live.rival_bar.costs[0].text() == "encode 9 ms, label after 41 ms"
    assert live.rival_bar.costs[1].text() == "encode 12 ms, label after 44 ms"
    both = rival(decisions={1: rival().decisions[1], 2: LiveDecision(24.0, 2, None, 0.1, (("clap", 0.1),), 1.0)})
    stage(window, replace(staged.running(2), rival=both))
    assert [card.isVisible() for card in live.rival_cards] == [True, True]
    assert live.rival_cards[1].label is None and live.rival_cards[1].hint == "Nothing recognised"
    end = next(b for b in live.rival_bar.findChildren(QPushButton) if b.text() == "End")
    qtbot.mouseClick(end, Qt.MouseButton.LeftButton)
    assert window.session.rival is None and not live.rival_bar.isVisible()
    stage(window, staged.running())
    assert not live.rival_cards[0].isVisible() and live.cards[0].model == ""
    assert agreement_words(None) == "nothing to compare yet"


@pytest.mark.slow
def test_a_second_model_from_the_models_panel_decides_on_the_same_clip(qtbot, open_window, clips, checkpoints) -> None:
    window = open_window(source=str(clips[0]), checkpoint=checkpoints[0])
    models = window.models
    for folder in checkpoints:
        assert models.add_folder(folder)
    models.select(checkpoints[1])
    window.show_panel("models")
    qtbot.mouseClick(models.beside, Qt.MouseButton.LeftButton)
    assert "decides beside" in models.banner.text
    models.banner.actions_shown[0].click()
    assert window.stack.currentWidget() is window.live
    session = window.session
    qtbot.waitUntil(lambda: session.snapshot().rival is not None, timeout=WAIT)

    def compared() -> bool:
        found = session.snapshot().rival
        if found is not None and found.compared > 2:
            return True
        if session.snapshot().state == "ended":
            session.toggle_pause()
        return False

    qtbot.waitUntil(compared, timeout=WAIT)
    qtbot.waitUntil(lambda: "same answer" in window.live.rival_bar.agreement.text(), timeout=WAIT)
    assert window.live.rival_bar.titles[1].text() == "second"
    found = session.snapshot()
    assert found.checkpoint == "first" and found.rival is not None and found.rival.checkpoint == "second"
    # The first one can be swapped while the second stays.
    session.use_checkpoint(checkpoints[1])
    qtbot.waitUntil(lambda: session.snapshot().checkpoint == "second", timeout=WAIT)
    assert session.snapshot().rival is not None
    session.compare_with(None)
    qtbot.waitUntil(lambda: session.snapshot().rival is None, timeout=WAIT)
    window.live._fill_models()
    assert "Compare with" in [action.text() for action in window.live.model_menu.actions()]

"""A new user in the real window: she waves and reads "wave", teaches an action of her own, and sees it recognised."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PySide6.QtCore import Qt

from engine import paths
from engine.live.pipeline import LivePipeline
from skelapp.live.session import LiveSession
from skelapp.settings import SettingsStore
from skelapp.teach.hands_free import Step
from tests.skelapp.teach.acting import ActingSource, Stage

pytestmark = [pytest.mark.gui, pytest.mark.slow]
SHIPPED = paths.DEFAULT_CHECKPOINT  # before the tests' home hides it
WAIT = 120_000  # ms; MediaPipe and the encoder run for real, and the machine may be busy
TAKES = 3
WAVE, HER_OWN = ("wave", 2.4), ("raise left arm", 2.0)


def test_a_new_user_teaches_an_action_of_her_own(qtbot, open_window, settings: SettingsStore) -> None:
    stage = Stage(fps=10.0)
    for act in (WAVE, HER_OWN):
        stage.pictures(*act)
    person = ActingSource(stage, speed=3.0)
    session = LiveSession(
        settings, factory=lambda source, checkpoint, _: LivePipeline(person, checkpoint=checkpoint, runtime="onnx")
    )
    window = open_window(session=session, source="0", checkpoint=SHIPPED)

    def until(ready: Callable[[], bool]) -> None:
        qtbot.waitUntil(ready, timeout=WAIT)

    def perform(act: tuple[str, float], wanted: str, label: Callable[[], str | None]) -> bool:
        """Perform, and wait until the word is read or she has rested for two seconds."""
        person.perform(*act)
        rested: list[float] = []

        def over() -> bool:
            if not person.busy and not rested:
                rested.append(session.snapshot().time)
            return label() == wanted or bool(rested and session.snapshot().time > rested[0] + 2.0)

        until(over)
        return label() == wanted

    def reads(act: tuple[str, float], wanted: str, label: Callable[[], str | None]) -> bool:
        """At the second try at the latest."""
        return perform(act, wanted, label) or perform(act, wanted, label)

    # She waves and reads it.
    until(lambda: bool(session.snapshot().decisions))
    assert reads(WAVE, "wave", lambda: window.live.cards[0].label)
    until(lambda: not person.busy)

    # Her own action: a name, one button, and then nothing but the action.
    qtbot.keyClick(window, Qt.Key.Key_2)
    until(lambda: window.teach.content is not None)
    content = window.teach.content
    assert content is not None and content.middle.currentIndex() == 0
    qtbot.keyClicks(content.welcome.first, "call the waiter")
    qtbot.keyClick(content.welcome.first, Qt.Key.Key_Return)
    until(lambda: content.recorder.action == "call the waiter")
    recorder = content.recorder
    assert recorder.record.text() == "Record 5 takes" and recorder.record.hasFocus()
    recorder.options.takes.setCurrentIndex(
        recorder.options.takes.findData(TAKES)
    )  # five take longer than a test should
    qtbot.mouseClick(recorder.record, Qt.MouseButton.LeftButton)
    assert recorder.countdown.large == "3" and recorder.countdown.isVisible()
    performed = 0

    def taken() -> bool:
        nonlocal performed
        if recorder.machine.step is Step.READY and not person.busy and performed == recorder.machine.finished:
            performed += 1
            person.perform(*HER_OWN)
        return not recorder.machine.running

    until(taken)
    assert recorder.machine.step is Step.DONE and recorder.machine.finished == TAKES
    until(lambda: session.snapshot().taught == ("call the waiter",) and not window.desk.busy)
    action = window.desk.view.action("call the waiter")
    assert action.live and len(action.takes) == TAKES
    assert all(0.8 < take.seconds < 3.0 for take in action.takes)
    assert content.status.text().startswith("1 action live")

    # She performs it once more and reads its name; waving is still waving.
    assert reads(HER_OWN, "call the waiter", lambda: recorder.card.label)
    assert session.snapshot().time < 120, "two minutes of her time"
    qtbot.keyClick(window, Qt.Key.Key_1)
    until(lambda: not person.busy)
    assert reads(WAVE, "wave", lambda: window.live.cards[0].label)
    assert {"wave", "call the waiter"} <= {segment.label for segment in session.snapshot().segments}
    assert SettingsStore().values.memory.teach_pack == str(window.desk.view.folder)

"""The panel's own widgets: figures, trim bar, strip of takes, list of actions, words over the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QRectF, Qt
from PySide6.QtGui import QImage, QPainter
from PySide6.QtWidgets import QAbstractItemDelegate, QLineEdit

from engine.render.motions import motion
from engine.teach.takes import Take
from skelapp.teach.action_list import ActionList, ActionModel
from skelapp.teach.countdown import Countdown
from skelapp.teach.small_skeleton import SmallSkeleton
from skelapp.teach.take_strip import TakeStrip
from skelapp.teach.trim_bar import TrimBar
from skelapp.teach.view import ActionView, TakeView

pytestmark = pytest.mark.gui


def view(number: int, action: str = "wave", sign: int = 1) -> TakeView:
    sequence = motion(action, 2.0, fps=10.0)
    take = Take(action, number, sequence, 0.2, 1.5, sign, "made", path=Path(f"{action}/{number:04d}.npz"))
    return TakeView(take, SmallSkeleton(sequence))


def painted(figure: SmallSkeleton, frame: int) -> np.ndarray:
    """Where there is ink, bool ``(100, 85)``."""
    image = QImage(85, 100, QImage.Format.Format_RGB32)
    image.fill(Qt.GlobalColor.black)
    painter = QPainter(image)
    figure.paint(painter, QRectF(0, 0, 85, 100), frame)
    painter.end()
    return np.array(image.constBits()).reshape(100, 85, 4)[:, :, :3].any(-1)


def test_a_small_figure_stands_upright_and_raises_the_hand_on_its_side() -> None:
    sequence = motion("raise left arm", 2.0, fps=10.0)
    figure = SmallSkeleton(sequence)
    rest, up = painted(figure, 0), painted(figure, 10)
    rows, columns = np.nonzero(up & ~rest)
    # Her left is on the right of the picture, as a camera sees her; the raised hand is above the resting head.
    assert columns.mean() > 42 and rows.min() < np.nonzero(rest)[0].min()
    assert np.nonzero(rest)[0].min() > 5 and np.nonzero(rest)[0].max() < 99
    assert figure.frame_at(0.0) == 0 and figure.frame_at(0.55) == 5 and figure.frame_at(9.0) == len(sequence) - 1
    sequence.xyz[:] = 0
    assert not painted(SmallSkeleton(sequence), 0).any(), "nobody there"


def test_the_trim_bar_moves_by_mouse_and_by_keys(qtbot) -> None:
    bar = TrimBar()
    qtbot.addWidget(bar)
    bar.resize(424, 46)
    bar.show_take(4.0, 0.0, 4.0)
    bar.show_curve(np.linspace(0, 1, 50))
    bar.show()
    told: list[tuple[float, float]] = []
    bar.trimmed.connect(lambda start, end: told.append((start, end)))
    qtbot.mousePress(bar, Qt.MouseButton.LeftButton, pos=QPoint(round(bar.x_of(0.0)), 20))
    qtbot.mouseMove(bar, QPoint(round(bar.x_of(1.0)), 20))
    qtbot.mouseRelease(bar, Qt.MouseButton.LeftButton, pos=QPoint(round(bar.x_of(1.0)), 20))
    assert told[-1] == (pytest.approx(1.0, abs=0.02), 4.0)
    # The second handle by keys: Tab goes to it, and the arrows move it; it can't pass the first.
    bar.activateWindow()
    bar.setFocus()
    qtbot.waitUntil(bar.hasFocus)
    qtbot.keyClick(bar, Qt.Key.Key_Tab)
    assert "End of the take: 4.00 of 4.00 s" in bar.accessibleName()
    qtbot.keyClick(bar, Qt.Key.Key_Left, Qt.KeyboardModifier.ShiftModifier)
    assert told[-1][1] == pytest.approx(4.0 - 1 / 3, abs=1e-6)
    bar.move_handle(1, 0.0)
    assert bar.end == pytest.approx(bar.start + 0.3)


def test_the_strip_chooses_deletes_and_holds_its_figures(qtbot) -> None:
    strip = TakeStrip()
    qtbot.addWidget(strip)
    strip.resize(420, 200)
    strip.show()
    strip.set_takes(tuple(view(n) for n in range(1, 5)))
    assert strip.current().take.number == 4 and strip.timer.isActive()
    gone: list[list[Path]] = []
    strip.delete_wanted.connect(gone.append)
    strip.select(1)
    qtbot.keyClick(strip, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    qtbot.keyClick(strip, Qt.Key.Key_Delete)
    assert [path.name for path in gone[0]] == ["0002.npz", "0003.npz"]
    qtbot.keyClick(strip, Qt.Key.Key_Space)
    assert not strip.playing and not strip.timer.isActive()
    strip.set_takes(tuple(view(n) for n in (1, 4)))
    assert strip.current().take.number == 4, "what is gone leaves the newest chosen"
    strip.set_takes(())
    assert strip.current() is None
    strip.hide()
    assert not strip.timer.isActive()


def test_the_list_takes_fifty_long_names_and_renames(qtbot) -> None:
    model = ActionModel()
    listed = ActionList(model)
    qtbot.addWidget(listed)
    names = [f"{n} an action with a name that is much longer than any list is wide" for n in range(50)]
    actions = tuple(ActionView(name, (view(1), view(2, sign=-1)), "looks like wave (2 of 5)") for name in names)
    model.set_actions(actions)
    listed.resize(220, 400)
    listed.show()
    assert listed.horizontalScrollBar().maximum() == 0 and listed.select(names[41])
    assert listed.viewport().rect().intersects(listed.visualRect(listed.currentIndex()))
    assert model.data(listed.currentIndex(), Qt.ItemDataRole.AccessibleTextRole).endswith(
        "1 take, 1 counter-example, not live, looks like wave (2 of 5)"
    )
    said: list[tuple[str, str]] = []
    model.renamed.connect(lambda old, new: said.append((old, new)))
    assert model.setData(listed.currentIndex(), "  short  name ") and said == [(names[41], "short name")]
    assert not model.setData(listed.currentIndex(), "   ")
    model.set_actions(actions)
    assert listed.current() == names[41], "the same rows keep what is chosen"
    model.set_actions(actions[:3])
    assert listed.current() == ""


def test_a_name_being_typed_stays_when_its_action_has_been_learned(qtbot) -> None:
    model = ActionModel()
    listed = ActionList(model)
    qtbot.addWidget(listed)
    listed.resize(220, 400)
    listed.show()
    for names in (("wave",), ("wave", "bow")):  # Qt tells of one row and of several in different ways
        model.set_actions(tuple(ActionView(name, (view(1),)) for name in names))
        listed.select("wave")
        listed.edit(listed.currentIndex())
        (field,) = listed.findChildren(QLineEdit)
        assert field.text() == field.selectedText() == "wave"
        model.set_actions(tuple(ActionView(name, (view(1),), live=True) for name in names))
        assert field.selectedText() == "wave"
        qtbot.keyClicks(field, "sal")
        model.set_actions(tuple(ActionView(name, (view(1),), "looks like bow") for name in names))
        assert field.text() == "sal"
        listed.closeEditor(field, QAbstractItemDelegate.EndEditHint.RevertModelCache)
        qtbot.waitUntil(lambda: not listed.findChildren(QLineEdit))


def test_the_countdown_is_large_and_a_long_name_fits(qtbot) -> None:
    around = Countdown(None)
    qtbot.addWidget(around)
    around.resize(300, 225)
    around.say("3", "wave")
    assert around.isVisible() and around.accessibleName() == "3 wave"
    ink = np.array(around.grab().toImage().convertToFormat(QImage.Format.Format_RGB32).constBits())
    white = (ink.reshape(225, 300, 4)[:, :, :3] > 250).all(-1)
    rows = np.nonzero(white[:160].any(1))[0]
    assert np.ptp(rows) > 60, "a digit of a third of the picture at least"
    around.say("", "a name so long that it can't possibly be written on one line of this size", True, 0.5)
    assert around.recording and around.grab().toImage().pixelColor(3, 100).red() > 200
    around.say()
    assert not around.isVisible()

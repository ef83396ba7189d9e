"""The widgets of the Live panel, each by itself, fed with hand-made snapshots."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QFontMetricsF, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from engine.live.types import Frame, LiveState
from skelapp.live.action_card import LABEL_PX, ActionCard
from skelapp.live.skeleton_paint import Orbit
from skelapp.live.stage_bar import stage_text
from skelapp.live.timeline import Timeline, clock
from skelapp.live.video_view import VideoView
from skelapp.widgets import Banner
from tests.skelapp import staged


def pixels(widget) -> np.ndarray:
    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    return (
        np.frombuffer(image.constBits(), np.uint8)
        .reshape(image.height(), image.bytesPerLine())[:, : image.width() * 3]
        .reshape(image.height(), image.width(), 3)
        .astype(int)
    )


@pytest.fixture
def video(qtbot) -> VideoView:
    view = VideoView()
    qtbot.addWidget(view)
    view.resize(640, 480)
    return view


def half_red() -> Frame:
    image = np.zeros((480, 640, 3), np.uint8)
    image[:, :320, 0] = 255
    return Frame(image, 0.0, 0, 0.0)


def test_the_picture_is_painted_and_mirrored_on_the_screen_only(video: VideoView) -> None:
    shown = half_red()
    before = shown.image.copy()
    video.show_snapshot(replace(staged.running(), frame=shown, pose=None))
    seen = pixels(video)
    assert seen[240, 100].tolist() == [255, 0, 0] and seen[240, 540].tolist() == [0, 0, 0]
    video.set_mirror(True)
    seen = pixels(video)
    assert seen[240, 100].tolist() == [0, 0, 0] and seen[240, 540].tolist() == [255, 0, 0]
    assert np.array_equal(shown.image, before)


def test_the_skeleton_is_mirrored_with_the_picture(video: VideoView) -> None:
    """The raised right hand is on the left of an unmirrored picture."""

    def orange_at_top() -> float:
        seen = pixels(video)[20:110]
        orange = (seen[:, :, 0] > 120) & (seen[:, :, 2] < 60)
        assert orange.sum() > 50
        return float(np.nonzero(orange)[1].mean())

    video.set_view("skeleton")
    video.show_snapshot(staged.running())
    assert orange_at_top() < 320
    video.set_mirror(True)
    assert orange_at_top() > 320


def test_invisible_landmarks_are_not_drawn(video: VideoView) -> None:
    snapshot = staged.running()
    assert snapshot.pose is not None
    person = snapshot.pose.persons[0]
    hidden = replace(person, raw=replace(person.raw, visibility=np.zeros(33, np.float32)))
    video.set_view("skeleton")
    video.show_snapshot(replace(snapshot, pose=replace(snapshot.pose, persons=(hidden,))))
    assert len(np.unique(pixels(video).reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize("view", ["picture", "skeleton", "space"])
def test_landmarks_that_are_not_finite_are_survived(video: VideoView, view: str) -> None:
    snapshot = staged.running()
    assert snapshot.pose is not None
    person = snapshot.pose.persons[0]
    broken = replace(
        person,
        joints=np.full((25, 3), np.nan, np.float32),
        raw=replace(person.raw, image=np.full((33, 3), np.nan, np.float32)),
    )
    video.set_view(view)  # type: ignore[arg-type]
    video.show_snapshot(replace(snapshot, pose=replace(snapshot.pose, persons=(broken,))))
    assert pixels(video).shape == (480, 640, 3)


def test_a_picture_that_changes_size_keeps_its_proportions(video: VideoView) -> None:
    video.show_snapshot(replace(staged.running(), frame=staged.frame(0, (640, 480))))
    assert video.picture_area().width() == pytest.approx(640)
    video.show_snapshot(replace(staged.running(), frame=staged.frame(0, (240, 480))))
    area = video.picture_area()
    assert (area.width(), area.height()) == (pytest.approx(240), pytest.approx(480))
    assert pixels(video).shape == (480, 640, 3)


def test_space_view_keeps_left_left_and_up_up() -> None:
    from PySide6.QtCore import QRectF

    orbit = Orbit()
    orbit.yaw = orbit.pitch = 0.0
    centre = np.array([0.0, 0.0, 2.5])
    points = np.array([[0.5, 0.0, 2.5], [0.0, 0.5, 2.5]])
    xy = orbit.project(points, centre, QRectF(0, 0, 400, 400))
    assert xy[0, 0] < 200 and xy[0, 1] == pytest.approx(200)  # the sensor's left is left in an unmirrored picture
    assert xy[1, 1] < 200
    assert orbit.project(points, centre, QRectF(0, 0, 400, 400), mirror=True)[0, 0] > 200


def test_space_view_stands_a_leaning_body_up(qtbot, video: VideoView) -> None:
    from engine.render.motions import motion
    from engine.skeleton.posture import levelled, standing_lean

    def shown(body: np.ndarray) -> None:
        snapshot = staged.running()
        assert snapshot.pose is not None
        persons = (replace(snapshot.pose.persons[0], joints=body.astype(np.float32)),)
        video.show_snapshot(replace(snapshot, pose=replace(snapshot.pose, persons=persons)))

    bow = motion("bow", 2.0, 20.0).xyz[:, 0].astype(np.float64)
    own = standing_lean(bow[0])
    assert own is not None
    video.set_view("space")
    shown(levelled(bow[0], 0.3, bow[0].mean(0)))
    video.grab()
    assert video._lean == pytest.approx(own - 0.3, abs=1e-5)
    shown(levelled(bow[len(bow) // 2], 0.3, bow[0].mean(0)))
    video.grab()
    assert video._lean == pytest.approx(own - 0.3, abs=1e-5)
    video.clear()
    assert video._lean is None


def test_dragging_turns_the_space_view(qtbot, video: VideoView) -> None:
    video.set_view("space")
    video.show_snapshot(staged.running())
    video.show()
    yaw = video.orbit.yaw
    qtbot.mousePress(video, Qt.MouseButton.LeftButton, pos=QPoint(100, 100))
    QTest.mouseMove(video, QPoint(160, 100))
    qtbot.mouseRelease(video, Qt.MouseButton.LeftButton, pos=QPoint(160, 100))
    assert video.orbit.yaw != yaw
    qtbot.mouseDClick(video, Qt.MouseButton.LeftButton)
    assert video.orbit.yaw == yaw


@pytest.mark.parametrize("name", ["wave", "right_arm_swipe_to_the_left", "donaudampfschifffahrtsgesellschaft"])
def test_the_label_is_never_smaller_than_forty_pixels(qtbot, name: str) -> None:
    card = ActionCard(1)
    qtbot.addWidget(card)
    card.resize(300, 300)
    lines, size = card._fit(name.replace("_", " "), 268.0, 160.0)
    assert size >= LABEL_PX >= 40
    metrics = QFontMetricsF(card._font(size, bold=True))
    assert all(metrics.horizontalAdvance(line) <= 268.0 for line in lines)
    assert len(lines) * metrics.height() <= 160.0


def test_bars_glide_to_their_values_and_stay(qtbot) -> None:
    card = ActionCard(1)
    qtbot.addWidget(card)
    card.glide(0.0)
    card.show_decision(staged.decision())
    steps = []
    for tick in range(1, 60):
        card.glide(tick * 0.033)
        steps.append(card.shown("wave"))
    assert 0 < steps[0] < 0.3, "a bar must not jump"
    assert all(b >= a for a, b in itertools.pairwise(steps))
    assert steps[-1] == pytest.approx(0.94, abs=0.01)


def test_a_card_says_what_it_shows(qtbot) -> None:
    card = ActionCard(2)
    qtbot.addWidget(card)
    card.show_decision(staged.decision(2, "swipe_right", 0.71))
    assert card.accessibleName() == "Person 2: Swipe right, score 0.71"
    card.show_decision(staged.decision(2, None), "Nothing recognised")
    assert card.accessibleName() == "Person 2: Nothing recognised"
    assert card.label is None and card.score == 0.0


def test_repetitions_stand_beside_the_word(qtbot, timeline: Timeline) -> None:
    card = ActionCard(1)
    qtbot.addWidget(card)
    card.resize(300, 300)
    card.show_decision(staged.decision())
    before = card.grab().toImage()
    card.show_decision(replace(staged.decision(), repetitions=3))
    assert card.repetitions == 3 and card.grab().toImage() != before
    card.show_decision(replace(staged.decision(1, None), repetitions=3), "Nothing recognised")
    assert card.repetitions is None
    assert "Clap × 3\n" in timeline.describe(replace(staged.SEGMENTS[0], repetitions=3))


@pytest.fixture
def timeline(qtbot) -> Timeline:
    line = Timeline()
    qtbot.addWidget(line)
    line.resize(1000, line.height())
    line.show_snapshot(staged.running(2))
    return line


def test_segments_lie_where_their_times_are(timeline: Timeline) -> None:
    clap = staged.SEGMENTS[0]
    rect = timeline.rect_of(clap)
    assert timeline.time_at(rect.left()) == pytest.approx(clap.start)
    assert timeline.time_at(rect.right()) == pytest.approx(clap.end)
    assert timeline.segment_at(rect.center()) == clap
    assert timeline.segment_at(QPointF(rect.right() + 20, rect.center().y())) is None


def test_the_timeline_scrolls_and_keeps_its_scale(timeline: Timeline) -> None:
    timeline.show_snapshot(replace(staged.running(2), time=100.0))
    assert timeline.view() == (70.0, 100.0)
    assert staged.SEGMENTS[0] not in timeline._visible()
    open_one = timeline.rect_of(staged.SEGMENTS[3])
    assert open_one.right() == pytest.approx(timeline.x_of(100.0)), "an open segment reaches to now"
    timeline.zoom(1)
    assert timeline.span == 60.0


def test_persons_have_lanes_of_their_own(timeline: Timeline) -> None:
    two = next(s for s in timeline.segments if s.person == 2)
    assert timeline.rect_of(two).top() >= timeline.rect_of(staged.SEGMENTS[0]).bottom()


def test_hover_says_the_score(timeline: Timeline) -> None:
    text = timeline.describe(staged.SEGMENTS[1])
    assert "Right hand wave" in text and "0.97" in text and "8.0 s" in text and "replay" not in text
    timeline.set_seekable(True)
    assert "replay" in timeline.describe(staged.SEGMENTS[1])


def test_click_asks_for_the_start_of_a_segment(qtbot, timeline: Timeline) -> None:
    where = timeline.rect_of(staged.SEGMENTS[1]).center().toPoint()
    asked: list[float] = []
    timeline.seek_requested.connect(asked.append)
    qtbot.mouseClick(timeline, Qt.MouseButton.LeftButton, pos=where)
    assert asked == [], "a camera has no past to go to"
    timeline.set_seekable(True)
    qtbot.mouseClick(timeline, Qt.MouseButton.LeftButton, pos=where)
    assert asked == [8.0]


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.9, 61, 3661)] == ["0:00", "0:59", "1:01", "1:01:01"]


def test_unknown_times_are_dashes() -> None:
    assert stage_text(staged.running(), 6.2) == "capture 2   pose 19   encode 9   decide 0   paint 6 ms"
    empty = staged.without_picture(LiveState.IDLE)
    assert stage_text(empty, 0.0) == "capture –   pose –   encode –   decide –   paint – ms"


def test_a_banner_has_details_copy_and_actions(qtbot) -> None:
    banner = Banner()
    qtbot.addWidget(banner)
    done: list[str] = []
    banner.show_message("It failed.", "line 1\nline 2", error=True, actions=(("Again", lambda: done.append("again")),))
    assert banner.isVisible() and banner.kind == "error" and not banner._details.isVisible()
    qtbot.mouseClick(banner._fold, Qt.MouseButton.LeftButton)
    assert banner._details.isVisible() and banner.details == "line 1\nline 2"
    qtbot.mouseClick(banner._copy, Qt.MouseButton.LeftButton)
    assert QApplication.clipboard().text() == "It failed.\n\nline 1\nline 2"
    qtbot.mouseClick(banner.actions_shown[0], Qt.MouseButton.LeftButton)
    assert done == ["again"] and not banner.isVisible()

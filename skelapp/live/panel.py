"""The Live panel: picture, cards, timeline and bars together, fed from the session thirty times a second."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QPoint, Qt, QTimer, QUrl
from PySide6.QtGui import QDesktopServices, QResizeEvent
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QMenu, QVBoxLayout, QWidget

from engine.live.types import LiveState, Snapshot
from skelapp.context import Context
from skelapp.live.action_card import ActionCard
from skelapp.live.overlay import Overlay, notice_for
from skelapp.live.rival_bar import RivalBar
from skelapp.live.session import DEMO, is_camera, source_title
from skelapp.live.source_menu import FILE_FILTER, AddressBar, SourceMenu
from skelapp.live.stage_bar import StageBar
from skelapp.live.timeline import Timeline
from skelapp.live.top_bar import TopBar
from skelapp.live.video_view import VIEWS, VideoView, View
from skelapp.models.library import Entry
from skelapp.teach.correction import Correction
from skelapp.teach.desk import Stretch
from skelapp.widgets import Banner

TICK_MS = 33
SLOW_MS = 500  # numbers people read
LINGER_S = 2.0  # a card stays this long after its person has left: nothing jumps
MAX_CARDS = 2
MAX_MENU = 30  # a longer menu is no menu; the Models panel lists all


def honest(snapshot: Snapshot) -> Snapshot:
    """Without what is no longer true: nothing of the last source when this one failed, no action of a lost camera."""
    if snapshot.state is LiveState.FAILED:
        return replace(snapshot, frame=None, pose=None, decisions={}, segments=(), time=0.0)
    if snapshot.state is LiveState.LOST:
        return replace(snapshot, decisions={})
    return snapshot


class LivePanel(QWidget):
    """Everything a user sees of the live path."""

    def __init__(self, context: Context, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self.session = context.session
        self._settings = context.settings
        self.source_menu = SourceMenu(context.settings, context.worker, context.find_cameras, self)
        self.model_menu = QMenu(self)
        self.top = TopBar(self.source_menu, self.model_menu)
        self.address = AddressBar()
        self.error, self.info = Banner(), Banner()
        self.video = VideoView()
        self.overlay = Overlay(
            {"choose": self.choose_source, "resume": self.session.toggle_pause, "retry": self.session.retry}
        )
        self.cards = [ActionCard(person) for person in range(1, MAX_CARDS + 1)]
        self.corrections = [Correction(card, context.desk, self.session, self._name_action) for card in self.cards]
        # A second model's cards, bar and timeline; hidden until two are compared.
        self.rival_cards = [ActionCard(person) for person in range(1, MAX_CARDS + 1)]
        self.rival_bar = RivalBar()
        self.timeline = Timeline()
        self.stages = StageBar()
        self._seen: dict[int, float] = {}
        self._slow_at = 0.0
        self._offer = ""  # the message in a banner that offers to take something back
        self._build()
        self._connect()
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self.tick)
        self._timer.start()
        self.tick()

    def _build(self) -> None:
        over = QVBoxLayout(self.video)
        over.addWidget(self.overlay, 0, Qt.AlignmentFlag.AlignCenter)
        self._side = QWidget()
        self._side.setObjectName("side")
        side = QVBoxLayout(self._side)
        side.setContentsMargins(10, 10, 10, 10)
        side.setSpacing(10)
        for card, second in zip(self.cards, self.rival_cards, strict=True):
            side.addWidget(card, 1)
            side.addWidget(second, 1)
            second.model = "B"
            second.hide()
        side.addStretch(0)
        middle = QHBoxLayout()
        middle.setSpacing(0)
        middle.addWidget(self.video, 1)
        middle.addWidget(self._side)
        notes = QVBoxLayout()
        notes.setContentsMargins(10, 0, 10, 0)
        for note in (self.address, self.error, self.info):
            notes.addWidget(note)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.top)
        layout.addLayout(notes)
        layout.addLayout(middle, 1)
        layout.addWidget(self.timeline)
        layout.addWidget(self.rival_bar)
        layout.addWidget(self.stages)
        self.cards[1].hide()

    def _connect(self) -> None:
        top, session = self.top, self.session
        self.source_menu.chosen.connect(self.watch)
        self.source_menu.file_wanted.connect(self.open_file)
        self.source_menu.address_wanted.connect(self.address.ask)
        self.address.entered.connect(self.watch)
        self.model_menu.aboutToShow.connect(self._fill_models)
        self._context.library.changed.connect(self._show_model)
        top.view_chosen.connect(self.set_view)
        top.mirror_toggled.connect(lambda on: self._settings.set("camera.mirror", on))
        top.pause_pressed.connect(session.toggle_pause)
        top.record_pressed.connect(session.toggle_recording)
        top.tear_pressed.connect(lambda: self._context.tear_off("live"))
        self.timeline.seek_requested.connect(session.seek)
        session.said.connect(self.say)
        session.source_changed.connect(self._show_source)
        session.checkpoint_changed.connect(self._show_model)
        session.recording_finished.connect(self._recorded)
        session.rival_changed.connect(self._show_rival)
        self._context.desk.said.connect(self._pack_said)
        self._context.desk.outdated.connect(self._drop_offer)
        self.rival_bar.closed.connect(lambda: session.compare_with(None))
        self.rival_bar.timeline.seek_requested.connect(session.seek)
        self._settings.listen(lambda name: self._show_source(session.source) if name == "camera.mirror" else None)
        self._show_source(session.source)
        self._show_model()
        self.set_view(self._settings.values.memory.view)

    # ---------------------------------------------------------------- acts

    def watch(self, spec: str) -> None:
        """Open a source the user chose."""
        self.error.dismiss()
        self.info.dismiss()
        self.session.open_source(spec)

    def choose_source(self) -> None:
        """Open the menu of sources."""
        self.top.source.setFocus()
        # popup() returns at once; the button's own showMenu() would wait for the choice.
        self.source_menu.popup(self.top.source.mapToGlobal(QPoint(0, self.top.source.height())))

    def open_file(self) -> None:
        """Ask for a file without blocking the window."""
        dialog = QFileDialog(self, "Open a video or recording", "", FILE_FILTER)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self.watch)
        dialog.open()

    def next_source(self) -> None:
        """Cameras, demo clip and recent files, one after the other."""
        known = self.source_menu.sources()
        if not known:
            self.choose_source()
            return
        place = known.index(self.session.source) if self.session.source in known else -1
        if len(known) > 1 or place < 0:
            self.watch(known[(place + 1) % len(known)])

    def next_model(self) -> None:
        folders = [entry.folder for entry in self._context.library.usable()]
        if not folders:
            return
        current = self._context.library.find(self.session.checkpoint)
        place = folders.index(current.folder) if current and current.folder in folders else -1
        if len(folders) > 1 or place < 0:
            self.session.use_checkpoint(folders[(place + 1) % len(folders)])

    def set_view(self, view: str) -> None:
        """``picture``, ``skeleton`` or ``space``."""
        chosen: View = next((v for v in VIEWS if v == view), "picture")
        self.video.set_view(chosen)
        self.top.set_view(chosen)
        self._settings.set("memory.view", chosen)

    def say(self, level: str, text: str, details: str = "") -> None:
        """Show a message in this panel's banner."""
        if level == "error":
            self.error.show_message(text, details, error=True)
        elif level == "warning" and self.session.snapshot().state is not LiveState.LOST:
            self.info.show_message(text, details)
        else:
            self.stages.show_note(text)

    def correct(self) -> None:
        """Open the menu that says what the first person did, or did not do."""
        self._context.show_panel("live")
        if not any(control.open_menu() for control in self.corrections):
            self.stages.show_note("Nobody is there to be corrected about")

    def _name_action(self, stretch: Stretch) -> None:
        """What was just done is a new action: the Teach panel asks for its name."""
        self._context.show_panel("teach")
        self._context.desk.name_wanted.emit(stretch)

    def _pack_said(self, level: str, text: str, details: str) -> None:
        if not self.isVisible():
            return  # the Teach panel says it
        if level == "undo":
            self._offer = text
            self.info.show_message(text, actions=(("Undo", self._context.desk.take_back),))
        else:
            self.say(level, text, details)

    def _drop_offer(self) -> None:
        if self.info.text == self._offer:
            self.info.dismiss()

    def no_camera(self) -> None:
        """The demo clip plays because there is no camera: say so."""
        text = "No camera was found, so the demo clip is playing."
        self.info.show_message(text, actions=(("Choose a source", self.choose_source),))

    def _recorded(self, folder: Path) -> None:
        def show() -> None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))

        actions = (("Open the folder", show), ("Watch it", lambda: self.watch(str(folder))))
        self.info.show_message(f"Recorded to {folder}", actions=actions)

    # ------------------------------------------------------------- showing

    def tick(self) -> None:
        """Take the newest snapshot and show it; the whole rhythm of the panel."""
        snapshot = honest(self.session.snapshot())
        now = time.perf_counter()
        told = self.error.isVisibleTo(self)
        self.overlay.show_notice(notice_for(snapshot, self.session.source, told))
        if self.isVisible():
            self.video.show_snapshot(snapshot)
            self.timeline.show_snapshot(snapshot)
            self._show_cards(snapshot, now)
            if self.session.rival is not None:
                self.rival_bar.show_snapshot(snapshot)
        if now - self._slow_at >= SLOW_MS / 1000.0:
            self._slow_at = now
            self._slow_tick(snapshot)

    def _slow_tick(self, snapshot: Snapshot) -> None:
        self.session.pass_messages()
        self.top.show_state(snapshot, self.session.recording_since)
        self.stages.show_snapshot(snapshot, self.video.paint_ms)
        self.timeline.set_seekable(self.session.seekable)
        if self.session.rival is not None:
            self.rival_bar.timeline.set_seekable(self.session.seekable)
            self.rival_bar.show_numbers(snapshot)
        if snapshot.state is LiveState.RUNNING and self.video.paint_ms:
            self.session.note_paint(self.video.paint_ms)

    def _show_cards(self, snapshot: Snapshot, now: float) -> None:
        for pose in snapshot.pose.persons if snapshot.pose else ():
            self._seen[pose.person] = now
        if snapshot.state is LiveState.STARTING:
            self._seen.clear()
        self._seen = {p: at for p, at in self._seen.items() if now - at < LINGER_S}
        persons = sorted(self._seen)[:MAX_CARDS]
        present = {pose.person for pose in snapshot.pose.persons} if snapshot.pose else set()
        for place, card in enumerate(self.cards):
            if place < len(persons):
                card.person = persons[place]
            # The first card always stays: it is where "step into the picture" is said.
            card.setVisible(place == 0 or place < len(persons))
            decision = snapshot.decisions.get(card.person) if place < len(persons) else None
            card.show_decision(decision, self._hint(snapshot, card.person in present, decision is not None))
            card.glide(now)
            self.corrections[place].show_for(snapshot, place < len(persons))
            self._show_second_card(place, card, snapshot, place < len(persons), now)

    def _show_second_card(self, place: int, first: ActionCard, snapshot: Snapshot, shown: bool, now: float) -> None:
        """What the second model says about the same person."""
        card = self.rival_cards[place]
        if self.session.rival is None:
            card.hide()
            return
        card.setVisible(place == 0 or shown)
        card.person = first.person
        rival = snapshot.rival
        decision = rival.decisions.get(card.person) if rival is not None and shown else None
        hint = first.hint if rival is not None else "Loading the model…"
        card.show_decision(decision, "Nothing recognised" if decision is not None else hint)
        card.glide(now)

    def _show_rival(self, folder: str) -> None:
        """A second model was chosen, or let go."""
        on = bool(folder)
        self.rival_bar.setVisible(on)
        for card in self.cards:
            card.model = "A" if on else ""
            card.update()
        # Four cards must find room.
        for card in [*self.cards, *self.rival_cards]:
            card.setMinimumHeight(104 if on else 150)
        self._show_model()
        self._slow_at = 0.0

    def _hint(self, snapshot: Snapshot, present: bool, decided: bool) -> str:
        if snapshot.state not in (LiveState.RUNNING, LiveState.PAUSED, LiveState.ENDED):
            return ""
        if not present:
            return "Step into the picture" if snapshot.pose is not None else ""
        if not snapshot.checkpoint:
            return (
                "Loading the model…"
                if self.session.checkpoint and not self.error.isVisibleTo(self)
                else "No model in use"
            )
        return "Nothing recognised" if decided else "Watching…"

    def _show_source(self, spec: str) -> None:
        self.top.source.set_choice(source_title(spec), spec)
        self.source_menu.current = spec
        mirrored = self._settings.values.camera.mirror
        self.top.set_mirror(mirrored, is_camera(spec))
        self.video.set_mirror(mirrored and is_camera(spec))
        if spec != DEMO and not self.video.underMouse():
            self.video.update()

    def _show_model(self, *_: object) -> None:
        folder = self.session.checkpoint
        entry = self._context.library.find(folder)
        title = entry.title if entry else (folder.name if folder else "No model")
        self.top.model.set_choice(title, f"{title}\n{folder}" if folder else title)
        second = self._context.library.find(self.session.rival)
        name = second.title if second else (self.session.rival.name if self.session.rival else "")
        self.rival_bar.show_titles(title, name)

    def _offered(self, current: Entry | None) -> list[Entry]:
        """What a menu can hold: the first of the list, and the one in use."""
        usable = self._context.library.usable()
        first = usable[:MAX_MENU]
        return first if current is None or current in first else [current, *first]

    def _fill_models(self) -> None:
        self.model_menu.clear()
        current = self._context.library.find(self.session.checkpoint)
        offered = self._offered(current)
        for entry in offered:
            action = self.model_menu.addAction(entry.title.replace("&", "&&"))
            action.setCheckable(True)
            action.setChecked(entry == current)
            action.triggered.connect(lambda _=False, folder=entry.folder: self.session.use_checkpoint(folder))
        if self.model_menu.isEmpty():
            self.model_menu.addAction("No model here yet").setEnabled(False)
        self.model_menu.addSeparator()
        beside = self.model_menu.addMenu("Compare with")
        rival = self._context.library.find(self.session.rival)
        for entry in offered:
            action = beside.addAction(entry.title.replace("&", "&&"))
            action.setCheckable(True)
            action.setChecked(entry == rival)
            action.triggered.connect(lambda _=False, folder=entry.folder: self.session.compare_with(folder))
        beside.addSeparator()
        beside.addAction("Nothing").triggered.connect(lambda: self.session.compare_with(None))
        self.model_menu.addAction("All models and their cards").triggered.connect(
            lambda: self._context.show_panel("models")
        )

    def focus_first(self) -> None:
        self.video.setFocus()

    def retheme(self) -> None:
        """Colours changed."""
        self.top.retheme()
        self._slow_at = 0.0

    def resizeEvent(self, event: QResizeEvent) -> None:
        self._side.setFixedWidth(min(460, max(296, self.width() * 29 // 100)))
        super().resizeEvent(event)

    def stop(self) -> None:
        """The window closes: no more ticks."""
        self._timer.stop()

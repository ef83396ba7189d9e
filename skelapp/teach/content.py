"""Everything inside the Teach panel: actions, takes, recorder, packs, and the long work on them.

States, each with its sentence and the one action that helps:

=====================  ================================================================================
nothing taught yet     "Name an action of your own ...", a field and *Teach it*
an action, no take     "No takes yet ...", *Record 5 takes*
no source, no camera   the Live panel's notice over the picture, *Choose a source*
nobody in view         "Step into the picture"; the countdown waits
recording              countdown, "Now!", red frame, n of 5; *Cancel, keep what is finished*
learning               "Learning 3 of 25 takes ..." beside the pack's name
live                   green discs, "recognised live by ..."
another model          says which one it was taught with, learns anew by itself
no model               "No model is in use"
checking, fine-tuning  a bar with what, how far, time left, *Cancel*
failed                 a banner with details; what was there stays
=====================  ================================================================================
"""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent, QResizeEvent
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QStackedWidget, QVBoxLayout, QWidget

from engine.skeleton.sequence import SkeletonSequence
from skelapp import icons
from skelapp.context import Context
from skelapp.dropped import looks_like_pack
from skelapp.live.source_menu import FILE_FILTER
from skelapp.live.top_bar import MenuButton
from skelapp.teach.action_side import ActionSide, Welcome
from skelapp.teach.desk import Stretch, TeachDesk
from skelapp.teach.long_work import LongWork
from skelapp.teach.name_bar import NameBar
from skelapp.teach.pack_menu import PackMenu
from skelapp.teach.recorder import Recorder
from skelapp.teach.take_page import TakePage
from skelapp.teach.view import TakeView
from skelapp.widgets import Banner, ElidedLabel, button


class TeachContent(QWidget):
    """The panel once it is loaded."""

    working_changed = Signal(int)

    def __init__(self, context: Context, desk: TeachDesk, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context, self.desk = context, desk
        self._wanted = ""  # an action to choose as soon as it is there
        self._told = ""  # the problem a banner tells
        self._offer = ""  # the message in a banner that offers to take something back
        self._asked = False  # whether look-alikes are to be told in sentences
        self._folder: Path | None = None
        self.setAcceptDrops(True)
        self.banner, self.name_bar = Banner(), NameBar()
        self.work = LongWork(context, desk, self.banner)
        self.side, self.welcome = ActionSide(), Welcome()
        self.list = self.side.list
        self.takes = TakePage()
        self.recorder = Recorder(context)
        self.pack_menu = PackMenu(desk, self.name_bar, self)
        self._build()
        self._connect()
        self.retheme()
        self.show_pack()

    # ------------------------------------------------------------- building

    def _build(self) -> None:
        title = QLabel("Teach")
        title.setProperty("role", "title")
        self.pack = MenuButton("Pack", "Your packs of actions: new, open, share", 260, Qt.TextElideMode.ElideRight)
        self.pack.setMenu(self.pack_menu)
        self.status = ElidedLabel("")
        self.status.setProperty("role", "muted")
        self.check = button("Which look alike?", self.run_check, tip="Compares your actions with each other")
        self.tune = button("Fine-tune", self.work.tune, tip="Trains the classifier on your takes, in the background")
        bar = QHBoxLayout()
        bar.setSpacing(10)
        bar.addWidget(title)
        bar.addWidget(self.pack)
        bar.addWidget(self.status, 1)
        bar.addWidget(self.check)
        bar.addWidget(self.tune)
        self.middle = QStackedWidget()
        self.middle.addWidget(self.welcome)
        self.middle.addWidget(self.takes)
        columns = QHBoxLayout()
        columns.setSpacing(14)
        columns.addWidget(self.side)
        columns.addWidget(self.middle, 1)
        columns.addWidget(self.recorder)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(18, 14, 18, 16)
        layout.setSpacing(10)
        layout.addLayout(bar)
        for widget in (self.banner, self.name_bar, self.work):
            layout.addWidget(widget)
        layout.addLayout(columns, 1)

    def _connect(self) -> None:
        desk, takes = self.desk, self.takes
        desk.changed.connect(self.show_pack)
        desk.said.connect(self.say)
        desk.outdated.connect(self._drop_offer)
        desk.learning.connect(self._learning)
        desk.checked.connect(self._checked)
        self.list.chosen.connect(self._choose)
        self.list.delete_wanted.connect(desk.remove_action)
        self.side.model.renamed.connect(desk.rename_action)
        desk.renamed.connect(self._renamed)
        takes.delete_wanted.connect(desk.remove_takes)
        takes.move_wanted.connect(desk.move_takes)
        takes.trim_wanted.connect(desk.trim)
        takes.curve_wanted.connect(self._curve)
        takes.files_wanted.connect(self._ask_files)
        self.recorder.taken.connect(self._taken)
        self.pack_menu.tuning_wanted.connect(self.work.tune)
        self.work.working_changed.connect(self.working_changed)
        self.work.working_changed.connect(lambda _: self._show_buttons())
        for page in (self.side, self.welcome):
            page.named.connect(self.add_action)

    # -------------------------------------------------------------- showing

    def show_pack(self) -> None:
        """The pack changed, or what is known about it."""
        view = self.desk.view
        actions = view.actions if view is not None else ()
        chosen = self._wanted or self.list.current()
        if view is None or view.folder != self._folder:  # another pack
            self._folder, self._asked = view.folder if view is not None else None, False
            self.side.show_alike([])
        self.side.model.set_actions(actions)
        self.pack.set_choice(view.name if view is not None else "No pack yet")
        self.side.setVisible(bool(actions))
        self.middle.setCurrentIndex(1 if actions else 0)
        if actions and not self.list.select(chosen):
            self.list.select(actions[-1].name)
        elif self._wanted and self.list.current() == self._wanted:
            self._wanted = ""
        self._show_action()
        self._show_buttons()
        self._show_status()

    def _show_buttons(self) -> None:
        some = self.desk.view is not None and self.desk.view.takes > 0
        self.check.setEnabled(some)
        self.tune.setEnabled(some and not self.work.tuning.busy)

    def _show_action(self) -> None:
        view = self.desk.view
        action = view.action(self.list.current()) if view is not None else None
        others = [name for name in view.names if action is None or name != action.name] if view is not None else []
        self.takes.show_action(action, others)
        self.recorder.set_action(action.name if action is not None else "")

    def _choose(self, name: str) -> None:
        self._show_action()

    def _show_status(self) -> None:
        self.status.setText(self.status_words())
        if self.desk.problem and self.desk.problem != self._told:
            self._told = self.desk.problem
            self.banner.show_message(f"The actions can't be recognised yet: {self.desk.problem}", error=True)
        elif not self.desk.problem and self._told:
            if self.banner.kind == "error" and self._told in self.banner.text:
                self.banner.dismiss()
            self._told = ""

    def status_words(self) -> str:
        """How far the pack is, in one line."""
        desk, view = self.desk, self.desk.view
        if view is None or not view.takes:
            return ""
        if desk.session.checkpoint is None:
            return "No model is in use: choose one on the Live panel."
        entry = self._context.library.find(desk.session.checkpoint)
        model = entry.title if entry is not None else desk.session.checkpoint.name
        if desk.learning_now:
            return f"Learning {view.takes} takes for {model}…"
        if desk.taught is None:
            return "Not recognised live."
        count = sum(action.live for action in view.actions)
        words = f"{count} action{'s' if count != 1 else ''} live  ·  {model}"
        if desk.moved_from:
            words += f"  ·  taught with {desk.moved_from} before, learned anew"
        return words

    def _learning(self, done: int, total: int) -> None:
        if self.desk.learning_now and done < total:
            self.status.setText(f"Learning: {done} of {total} takes…")

    def say(self, level: str, text: str, details: str = "") -> None:
        """A message in this panel's banner; ``undo`` offers to take it back."""
        if level == "undo":
            self._offer = text
            self.banner.show_message(text, actions=(("Undo", self.desk.take_back),))
        else:
            self.banner.show_message(text, details, error=level == "error")

    def _drop_offer(self) -> None:
        if self.banner.text == self._offer:
            self.banner.dismiss()

    # ----------------------------------------------------------------- acts

    def add_action(self, name: str, stretch: Stretch | None = None) -> None:
        """Add an action, with what was just done as its first take, and get ready to record it."""

        def done(kept: str) -> None:
            self._wanted = kept
            self.show_pack()
            self.recorder.tick()  # it can be pressed now
            self.recorder.record.setFocus()

        self.desk.add_action(name, done, stretch)

    def _renamed(self, old: str, new: str) -> None:
        if self.list.current() == old:
            self._wanted = new

    def name_stretch(self, stretch: Stretch) -> None:
        """What was just done is a new action: ask for its name."""

        def named(name: str) -> None:
            self.add_action(name, stretch)

        self.name_bar.ask("What you just did is called", "Add", named, hint="Name of the new action")

    def _taken(self, sequence: SkeletonSequence) -> None:
        if self.recorder.action:
            self.desk.add_take(self.recorder.action, sequence)

    def _curve(self, take: TakeView) -> None:
        self.desk.curve(take, lambda curve: self.takes.show_curve(take, curve))

    def run_check(self) -> None:
        """Ask which actions look alike; the answer stands under the list."""
        self._asked = True
        self.desk.check()

    def _checked(self, sentences: list[str]) -> None:
        """The pack is checked after every change; what stands under the list stays true."""
        if self._asked:
            self.side.show_alike(sentences)

    def _ask_files(self) -> None:
        dialog = QFileDialog(self, "Takes from videos or recordings", "", FILE_FILTER)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFiles)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.filesSelected.connect(lambda files: self.work.add_files([Path(f) for f in files], self.list.current()))
        dialog.open()

    def open_path(self, path: Path) -> None:
        """Go on with a pack that was dropped or chosen."""
        self.banner.dismiss()
        if path.is_dir():
            self.desk.open(path)
        else:
            self.desk.load_zip(path)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if any(url.isLocalFile() for url in event.mimeData().urls()):
            event.acceptProposedAction()
            self._mark_drop(True)

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        self._mark_drop(False)

    def dropEvent(self, event: QDropEvent) -> None:
        self._mark_drop(False)
        files = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if not files:
            return
        event.acceptProposedAction()
        if looks_like_pack(files[0]):
            self.open_path(files[0])
            return
        at = self.list.viewport().mapFrom(self, event.position().toPoint())
        index = self.list.indexAt(at) if self.list.viewport().rect().contains(at) else self.list.currentIndex()
        self.work.add_files(files, str(index.data()) if index.isValid() else self.list.current())

    def _mark_drop(self, on: bool) -> None:
        self.takes.mark_drop(on)

    # -------------------------------------------------------------- looking

    def escape(self) -> bool:
        """End a recording, or close the line that asks for a name; False when there was neither."""
        if self.recorder.cancel():
            return True
        if self.name_bar.isVisible():
            self.name_bar.hide()
            return True
        return False

    def focus_first(self) -> None:
        if self.middle.currentIndex() == 0:
            self.welcome.first.setFocus()
        else:
            self.list.setFocus()

    def resizeEvent(self, event: QResizeEvent) -> None:
        self.side.setFixedWidth(min(320, max(200, self.width() * 20 // 100)))
        self.recorder.setFixedWidth(min(560, max(280, self.width() * 30 // 100)))
        super().resizeEvent(event)

    def retheme(self) -> None:
        self.pack.setIcon(icons.icon("teach"))
        self.takes.retheme()
        self.list.viewport().update()

    def end(self, seconds: float) -> bool:
        """The window closes: nothing of this panel goes on."""
        return self.work.end(seconds)

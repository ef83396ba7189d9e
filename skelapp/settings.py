"""What the user chose, kept as one JSON file. Free of Qt, so that it can be tested and read without a window.

A damaged file never stops the program: what can be read is kept, the rest falls back to its default, and the damaged
file is set aside. Several windows may share the file: each writes only what was changed in it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine import paths

log = logging.getLogger(__name__)

FILE = "settings.json"
MAX_UNDO = 100


class _Section(BaseModel):
    model_config = ConfigDict(extra="ignore", validate_assignment=True)


class Appearance(_Section):
    """How the window looks."""

    theme: Literal["system", "light", "dark"] = Field(
        default="system", title="Theme", description="System follows the desktop."
    )


class Camera(_Section):
    """The picture."""

    camera: int = Field(
        default=0, ge=0, le=63, title="Default camera", description="Number of the camera used when the program starts."
    )
    mirror: bool = Field(
        default=True,
        title="Mirror the camera",
        description="Shows a camera like a mirror. Only the display: data and recordings are never mirrored.",
    )


class Pose(_Section):
    """How people are found in the picture."""

    variant: Literal["lite", "full", "heavy"] = Field(
        default="full",
        title="Pose model",
        description="Lite is faster, heavy more exact. Full ships with the program; the others are fetched once.",
    )
    persons: int = Field(default=2, ge=1, le=2, title="Persons", description="How many people are looked for.")


class Recognition(_Section):
    """When a movement is called an action."""

    runtime: Literal["auto", "onnx", "onnx-int8", "tensorrt", "torch"] = Field(
        default="auto", title="Runtime", description="What executes the model. Auto takes the best that works here."
    )
    own_thresholds: bool = Field(
        default=False,
        title="Own thresholds",
        description="Off: the three values below come from the model's card, where they were calibrated.",
    )
    enter: float = Field(
        default=0.6, ge=0.05, le=0.99, title="An action begins at", description="Smoothed score, 0 to 1."
    )
    leave: float = Field(
        default=0.4,
        ge=0.01,
        le=0.95,
        title="An action ends below",
        description="Smoothed score; never above where it begins.",
    )
    smoothing_s: float = Field(
        default=0.4,
        ge=0.0,
        le=3.0,
        title="Smoothing",
        description="Seconds over which scores are averaged. More is calmer and later.",
    )


class Folders(_Section):
    """Where files go and are looked for."""

    recordings: str = Field(default="", title="Recordings", description="Empty: the program's own folder.")
    models: str = Field(
        default="", title="More models", description="A folder with checkpoint folders to list beside those that ship."
    )
    datasets: str = Field(
        default="",
        title="Downloaded datasets",
        description="Looked through for archives that can be prepared. Empty: your Downloads folder.",
    )


class Training(_Section):
    """Trainings the window starts."""

    at_once: int = Field(default=1, ge=1, le=8, title="Runs at a time", description="The others wait in the queue.")
    threads: int = Field(
        default=0,
        ge=0,
        le=256,
        title="Processor threads of a run",
        description="0: all cores but one, which is left to the live view. A recipe's own number goes first.",
    )
    priority: Literal["low", "normal"] = Field(
        default="low", title="Priority of runs", description="Low gives way to the live view and everything else."
    )


class Memory(_Section):
    """What the program remembers by itself; not part of the form."""

    source: str = ""
    checkpoint: str = ""
    panel: str = "live"
    view: Literal["picture", "skeleton", "space"] = "picture"
    geometry: str = ""
    recent: list[str] = Field(default_factory=list)
    extra_models: list[str] = Field(default_factory=list)
    training_draft: dict[str, Any] = Field(default_factory=dict)
    training_run: str = ""
    training_page: str = "curves"
    training_hold: bool = False
    dataset: str = ""
    data_page: Literal["overview", "sequences", "statistics", "check"] = "overview"
    raw_files: dict[str, str] = Field(default_factory=dict)
    play_speed: float = 1.0
    play_loop: bool = True
    show_actor: bool = True
    teach_pack: str = ""
    teach_takes: int = 5
    teach_longest: float = 4.0
    teach_countdown: float = 3.0
    teach_sound: bool = True


class Settings(_Section):
    """Everything that is remembered between two starts."""

    appearance: Appearance = Field(default_factory=Appearance, title="Appearance")
    camera: Camera = Field(default_factory=Camera, title="Camera")
    pose: Pose = Field(default_factory=Pose, title="Pose")
    recognition: Recognition = Field(default_factory=Recognition, title="Recognition")
    folders: Folders = Field(default_factory=Folders, title="Folders")
    training: Training = Field(default_factory=Training, title="Training")
    memory: Memory = Field(default_factory=Memory)


FORM_SECTIONS = ("appearance", "camera", "pose", "recognition", "folders", "training")
Listener = Callable[[str], None]


def _tolerant(model: type[BaseModel], data: Any, complaints: list[str], where: str = "") -> BaseModel:
    """Build a model from what is valid in ``data``; every field that is not falls back to its default."""
    if not isinstance(data, dict):
        complaints.append(where or "file")
        return model()
    kept: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if name not in data:
            continue
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kept[name] = _tolerant(kind, data[name], complaints, f"{where}{name}.")
            continue
        try:
            model.model_validate({name: data[name]})
        except ValidationError:
            complaints.append(f"{where}{name}")
        else:
            kept[name] = data[name]
    return model.model_validate(kept)


class SettingsStore:
    """Settings in memory and on disk, with undo. Listeners are told the changed field as ``section.field``."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or paths.user_data() / FILE
        self.complaint = ""
        self._writable = True
        self._saved: dict[str, Any] = Settings().model_dump(mode="json")
        self.values = self._load()
        self._listeners: list[Listener] = []
        self._undo: list[dict[str, Any]] = []

    def _load(self) -> Settings:
        try:
            text = self.path.read_text("utf-8")
        except FileNotFoundError:
            return Settings()
        except OSError as error:
            # A folder named by mistake, or somebody else's file: not ours to move or to write over.
            self._writable = False
            self.complaint = f"{self.path} can't be read ({error}); defaults are in use and nothing is saved"
            return Settings()
        except UnicodeDecodeError as error:
            return self._set_aside(f"{self.path} can't be read ({error}); defaults are in use")
        try:
            data = json.loads(text)
        except json.JSONDecodeError:
            return self._set_aside(f"{self.path} was damaged; defaults are in use and the old file is kept beside it")
        complaints: list[str] = []
        values = _tolerant(Settings, data, complaints)
        self._saved = data if isinstance(data, dict) else {}
        if complaints:
            self.complaint = f"Some settings could not be read and have their defaults again: {', '.join(complaints)}"
        assert isinstance(values, Settings)
        # Written by hand, or one by each of two windows.
        values.recognition.leave = min(values.recognition.leave, values.recognition.enter)
        return values

    def _set_aside(self, complaint: str) -> Settings:
        self.complaint = complaint
        try:
            self.path.replace(self.path.with_suffix(".damaged.json"))
        except OSError as error:
            log.warning("%s: %s", self.path, error)
        return Settings()

    def _plain(self) -> dict[str, dict[str, Any]]:
        return self.values.model_dump(mode="json")

    def _merged(self, mine: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """The file as it is now with what was changed here since it was last read or written; mine if there is none."""
        try:
            theirs = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError):
            return mine
        if not isinstance(theirs, dict):
            return mine
        for section, fields in mine.items():
            there = theirs.get(section)
            theirs[section] = there = there if isinstance(there, dict) else {}
            before = self._saved.get(section)
            before = before if isinstance(before, dict) else {}
            there.update({f: v for f, v in fields.items() if f not in there or f not in before or v != before[f]})
        return theirs

    def save(self) -> bool:
        """Write what was changed here, so that a crash leaves the old file; False when the disk refuses."""
        if not self._writable:
            return False
        mine = self._plain()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Not forced onto the disk: that takes a while, and somebody may be dragging a slider.
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text(json.dumps(self._merged(mine), indent=1) + "\n", "utf-8")
            temporary.replace(self.path)
        except OSError as error:
            log.warning("settings are not saved: %s", error)
            return False
        self._saved = mine
        return True

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def get(self, name: str) -> Any:
        """Value of ``section.field``."""
        section, field = name.split(".")
        return getattr(getattr(self.values, section), field)

    def set(self, name: str, value: Any) -> None:
        """Change one field of the form; acts at once, is saved, and can be undone.

        Raises
        ------
        ValueError
            The value is not allowed; nothing changed.
        """
        before = self.get(name)
        if value == before:
            return
        section, field = name.split(".")
        setattr(getattr(self.values, section), field, value)
        changed = {name: before}
        if section != "memory":
            changed |= self._ordered_thresholds(name)
            self._undo = [*self._undo, changed][-MAX_UNDO:]
        self.save()
        self._tell(changed)

    def _ordered_thresholds(self, name: str) -> dict[str, Any]:
        """An action can't end above the score at which it begins: the other value follows."""
        part = self.values.recognition
        if part.leave <= part.enter:
            return {}
        other, follow = ("leave", part.enter) if name.endswith("enter") else ("enter", part.leave)
        before = getattr(part, other)
        setattr(part, other, follow)
        return {f"recognition.{other}": before}

    @property
    def can_undo(self) -> bool:
        return bool(self._undo)

    def undo(self) -> bool:
        """Take the last change (or *Restore defaults*) back; False when there is none."""
        if not self._undo:
            return False
        changed = self._undo.pop()
        for name, value in changed.items():
            section, field = name.split(".")
            setattr(getattr(self.values, section), field, value)
        self.save()
        self._tell(changed)
        return True

    def restore_defaults(self) -> None:
        """All fields of the form back to their defaults; one step of undo."""
        fresh, changed = Settings(), {}
        for section in FORM_SECTIONS:
            for field in type(getattr(fresh, section)).model_fields:
                name = f"{section}.{field}"
                default = getattr(getattr(fresh, section), field)
                if self.get(name) != default:
                    changed[name] = self.get(name)
                    setattr(getattr(self.values, section), field, default)
        if changed:
            self._undo = [*self._undo, changed][-MAX_UNDO:]
            self.save()
            self._tell(changed)

    def _tell(self, changed: dict[str, Any]) -> None:
        for name in changed:
            for listener in list(self._listeners):
                listener(name)

    def recordings(self) -> Path:
        """Folder recordings go to."""
        return (
            Path(self.values.folders.recordings).expanduser() if self.values.folders.recordings else paths.recordings()
        )

    def downloads(self) -> Path:
        """Folder in which downloaded datasets are looked for."""
        chosen = self.values.folders.datasets
        return Path(chosen).expanduser() if chosen else Path(platformdirs.user_downloads_dir())

    def model_roots(self) -> list[Path]:
        """Folders whose sub-folders may be checkpoints."""
        roots = [paths.TRAINED_MODELS, paths.runs()]
        if self.values.folders.models:
            roots.append(Path(self.values.folders.models).expanduser())
        return roots

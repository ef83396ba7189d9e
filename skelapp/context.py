"""What every panel is given: the settings, the live session, the list of checkpoints, and a thread for slow acts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skelapp.live.session import LiveSession
from skelapp.models.library import ModelLibrary
from skelapp.settings import SettingsStore
from skelapp.workers import Worker

if TYPE_CHECKING:
    from skelapp.teach.desk import TeachDesk


@dataclass
class Context:
    """Shared by all panels; owned by the main window. ``show_panel`` brings a panel to the front by its key."""

    settings: SettingsStore
    session: LiveSession
    library: ModelLibrary
    worker: Worker
    show_panel: Callable[[str], None]
    tear_off: Callable[[str], None]
    find_cameras: Callable[[], list[tuple[str, str]]]
    desk: TeachDesk

"""A window with its Data panel open, on stores and archives made for the test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.data.prepare import prepare_dataset
from engine.data.sets import DATASETS
from skelapp.data.content import DataContent
from skelapp.main_window import MainWindow
from skelapp.settings import SettingsStore
from tests.engine.data.synthetic import nw_ucla_names, write_nw_ucla


@pytest.fixture(autouse=True)
def downloads(tmp_path: Path, settings: SettingsStore) -> Path:
    """An empty folder in place of the user's downloads."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    settings.set("folders.datasets", str(folder))
    return folder


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hand-made NW-UCLA: ten actions, two persons, three views, 120 sequences of 8 frames; for reading only."""
    return write_nw_ucla(tmp_path_factory.mktemp("small") / "all_sqe.zip", nw_ucla_names(), frames=8)


@pytest.fixture(scope="session")
def large_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 sequences, which take long enough to be stopped in the middle; a part is ten of them."""
    path = tmp_path_factory.mktemp("archive") / "all_sqe.zip"
    return write_nw_ucla(path, nw_ucla_names(range(1, 5), range(5)), frames=60)


@pytest.fixture(scope="session")
def prepared_once(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Path:
    """The store of that archive; for reading only."""
    return prepare_dataset(DATASETS["nw_ucla"], archive, tmp_path_factory.mktemp("prepared"), workers=1).store.folder


@pytest.fixture
def prepared(home: Path, prepared_once: Path) -> Path:
    """A copy of it in the test's own home, to do with as one likes."""
    return Path(shutil.copytree(prepared_once, home / "stores" / prepared_once.name))


@pytest.fixture
def open_data(qtbot, open_window) -> Callable[..., tuple[MainWindow, DataContent]]:
    """Opens a window and its Data panel, and waits until the datasets are listed."""

    def make() -> tuple[MainWindow, DataContent]:
        window = open_window()
        window.show_panel("data")
        qtbot.waitUntil(
            lambda: window.data.content is not None and window.data.content.entry is not None, timeout=30000
        )
        content = window.data.content
        assert content is not None
        return window, content

    return make

"""The Training panel in tests: nobody asks what this machine has, and the folder of runs is looked at more often."""

import pytest

from skelapp.training import page, watch
from skelapp.training.machine import Machine


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """No child process is asked what this machine has."""
    monkeypatch.setattr(page.Asking, "ask", lambda self: Machine("A processor", 2, 8.0))


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """A test waits for the next look again and again: half a second each would be most of its time."""
    monkeypatch.setattr(watch, "WATCHED_MS", 100)
    monkeypatch.setattr(watch, "HIDDEN_MS", 200)

"""Real recordings that can't ship with the project; tests that need them skip where they are absent."""

from __future__ import annotations

from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared(relative: str) -> Path:
    """Path of a real data file; skips the calling test when the file is not on this machine."""
    path = _SHARED / relative
    if not path.exists():
        pytest.skip(f"real data not on this machine: {relative}")
    return path

"""What can go wrong in the live path, in words a user can act on.

Known errors carry a text that is shown as it is, in the window and on the command line; anything else is a bug.
"""

from __future__ import annotations


class LiveError(Exception):
    """A known failure of the live path; its text says what happened and what to do."""


class SourceError(LiveError):
    """A source can't be opened or read; the text names it and what is accepted."""


class SourceLost(LiveError):
    """A camera or stream went away while running; it may come back (``FrameSource.reopen``)."""


class TraceError(SourceError):
    """A landmark trace can't be read; the text names the file and the line or array."""


class RecordingError(LiveError):
    """A recording can't be started or written; what was written before stays readable."""

"""The door: without a sub-command the window, with one the same work without a window."""

from __future__ import annotations

import sys

from skelapp.door import main

if __name__ == "__main__":
    sys.exit(main())

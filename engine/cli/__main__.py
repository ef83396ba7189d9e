"""``python -m engine.cli``: the command line without the window."""

import sys

from engine.cli import entry

if __name__ == "__main__":
    sys.exit(entry(prog="python -m engine.cli"))

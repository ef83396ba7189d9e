"""Random tests: new examples at every run while developing, the same ones every time in `.ci/run`.

The whole suite runs in two processes, file by file; anything less, or one processor, in this one.
"""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("SKELAPP_SAME_EXAMPLES"):
    settings.load_profile("ci")

if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # Before torch is imported: teams of threads in several processes would only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Workers don't meet in one home.
    if home := os.environ.get("SKELAPP_HOME"):
        os.environ["SKELAPP_HOME"] = str(Path(home) / worker)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """How many workers ``-n auto`` means; 0: none, tests run in this process.

    Not more than two: tests of live recognition wait for clocks and cameras, and every worker holds torch, Qt and a
    pose model. ``-n 4`` takes more, ``-n 0`` or PYTEST_XDIST_AUTO_NUM_WORKERS=0 none.
    """
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # pytest-xdist reads it itself
    whole = config.args_source is not pytest.Config.ArgsSource.ARGS
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 2 if whole and processors > 1 else 0

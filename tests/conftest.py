"""Random tests: new examples at every run while developing, the same ones every time in `.ci/run`."""

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("SKELAPP_SAME_EXAMPLES"):
    settings.load_profile("ci")

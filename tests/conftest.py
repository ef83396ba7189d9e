"""Random tests: new examples at every run while developing, always the same in `.ci/run`, so that a tree passes or not."""

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("SKELAPP_SAME_EXAMPLES"):
    settings.load_profile("ci")

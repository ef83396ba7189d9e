"""Random tests: new examples at every run while developing, the same ones in `.ci/run`: a tree passes or it does not."""

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("SKELAPP_SAME_EXAMPLES"):
    settings.load_profile("ci")

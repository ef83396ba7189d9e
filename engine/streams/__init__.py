"""Long streams of recorded sequences with known truth: watched by the live path, judged, used to set its values."""

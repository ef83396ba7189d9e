"""The command-line tests use the small checkpoint of the live tests."""

from tests.engine.live.conftest import grey_video, tiny_checkpoint

__all__ = ["grey_video", "tiny_checkpoint"]

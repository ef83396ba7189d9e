"""The processor's way with numbers below the smallest normal one, while a run goes on and after it."""

from pathlib import Path

import pytest
import torch

from engine.training import tasks
from engine.training.devices import flushed_denormals
from tests.engine.training.test_trainer import tiny


def denormal_product() -> float:
    return float((torch.tensor([1e-30]) * torch.tensor([1e-10])).item())


def test_denormals_are_zero_inside_alone():
    assert denormal_product() > 0
    with flushed_denormals():
        assert denormal_product() == 0
        with flushed_denormals():
            pass
        assert denormal_product() == 0, "the inner end must not undo the outer beginning"
    assert denormal_product() > 0
    with pytest.raises(ValueError), flushed_denormals():
        raise ValueError
    assert denormal_product() > 0


def test_a_run_goes_on_with_denormals_flushed(monkeypatch):
    seen = []
    monkeypatch.setitem(tasks.RUNNERS, "supervised", f"{__name__}:runner")
    monkeypatch.setattr(f"{__name__}.runner", lambda *_: seen.append(denormal_product()) or "done")
    assert tasks.run_task(tiny(), Path("stores"), Path("run"))
    assert seen == [0] and denormal_product() > 0


def runner(*_: object) -> None:
    """Stands where a task's function is looked up."""

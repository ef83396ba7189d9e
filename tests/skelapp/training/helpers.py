"""A store of a few seconds' training, a recipe for it, and a window that shows the panel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.data import sets
from engine.data.store import write_store
from engine.skeleton.sequence import SkeletonSequence
from skelapp.main_window import MainWindow
from skelapp.training.page import TrainingPage

SMALL = {
    "name": "small", "dataset": "utd_mhad", "split": "xsub", "backbone_args": {"base_channels": 8},
    "preprocessing": {"frames": 8, "window_s": 1.0}, "optimiser": {"lr": 0.05, "warmup_epochs": 1},
    "epochs": 2, "batch": 8, "threads": 1, "accelerator": "cpu", "evaluate_every": 1,
}  # fmt: skip


def tiny_store(home: Path) -> Path:
    """32 sequences of noise in two classes by four subjects, as a prepared UTD-MHAD."""
    rng = np.random.default_rng(0)
    made = (
        SkeletonSequence(
            rng.standard_normal((20, 1, 25, 3)), np.arange(20) / 20, name=f"s{i}", label=i % 2,
            meta={"subject": i // 8 + 1, "digest": str(i)},
        )
        for i in range(32)
    )  # fmt: skip
    folder = home / "stores" / "utd_mhad"
    write_store(folder, "utd_mhad", made, sets.DATASETS["utd_mhad"].classes[:2], 20.0)
    return folder


def opened(qtbot, open_window: Callable[..., MainWindow]) -> tuple[MainWindow, TrainingPage]:
    """A window whose Training panel is ready and knows what there is to choose from."""
    window = open_window()
    window.show_panel("training")
    panel = window.panels["training"]
    qtbot.waitUntil(lambda: panel.page is not None, timeout=20_000)
    page: TrainingPage = panel.page
    qtbot.waitUntil(lambda: page.recipe.form.draft is not None, timeout=10_000)
    qtbot.waitUntil(lambda: page.run_page.curves.ready and not page.recipe.form.building, timeout=10_000)
    return window, page

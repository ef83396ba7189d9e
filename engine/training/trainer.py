"""The training loop of every method, readable from top to bottom, on Lightning Fabric's devices and precisions.

It knows nothing of what is trained: an objective turns a batch into losses, a loader hands out batches whose random
numbers follow from their seeds, and a run's folder receives events and states. A run that was killed anywhere goes on
from its last state and ends with the weights it would have had.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from engine.data.batch import Batch, ClipLoader
from engine.data.batch.loader import derived_seed
from engine.training.devices import memory_mib, on_devices
from engine.training.ema import WeightAverage
from engine.training.recipe import RecipeError, TrainedRecipe
from engine.training.run_folder import EventLog, RunFolder
from engine.training.state import load_state, save_state
from engine.training.stop import StopRequest

# Seconds between two step events, and between two states within an epoch.
REPORT_S, SAVE_S = 2.0, 600.0
# Last parts of the seeds of a step: of what every process draws for itself, and of what all draw alike.
OWN, SHARED = 2, 2**32
# Losses looked at together: on a GPU looking at each would hold the device up.
CHECK_EVERY = {"cpu": 1, "cuda": 20}


class Objective(Protocol):
    """What a method gives the loop: an ``nn.Module`` that holds everything with weights or buffers."""

    def __call__(
        self,
        *,
        views: tuple[Tensor, ...],
        lengths: tuple[Tensor, ...],
        labels: Tensor,
        items: Tensor,
        seed: int,
    ) -> Mapping[str, Tensor]:
        """Scalars of a batch (fields as in :class:`engine.data.batch.Batch`): ``loss`` is minimised.

        ``seed`` is that of the step, the same in every process; torch's own generators are seeded for each process.
        Every other entry is reported: its mean over the clips of the epoch.
        """


@dataclass
class Progress:
    """Sums over the current epoch, and what is carried through the run; part of the state."""

    clips: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    best: float = -1.0

    def means(self) -> dict[str, float]:
        return {name: total / max(self.clips, 1) for name, total in self.sums.items()}


class Trainer:
    """Trains an objective through all epochs of a recipe.

    Parameters
    ----------
    recipe : TrainedRecipe
        Of it: epochs, accumulate, clip_norm, evaluate_every, keep_best.
    fabric : Fabric
        From :func:`engine.training.devices.make_fabric`.
    objective : nn.Module
        An :class:`Objective`.
    optimiser : torch.optim.Optimizer
        Of the objective's parameters.
    loader : ClipLoader
        This process's share of the batches.
    rate : callable
        Learning rate at a fractional, 0-based epoch.
    folder : RunFolder
        Begun and locked by the caller.
    log : EventLog
        Receives ``run``, ``step``, ``epoch``, ``evaluation`` and ``stopped``.
    evaluate : callable
        Numbers of the test part with the present weights; ``top1`` chooses the best epoch. Called by rank 0. In the
        ``epoch`` event they are ``test_NAME``, those of a probe ``probe_NAME``.
    save_best : callable
        ``(epoch, tested)``: keep the present weights as the best on the test part.
    average : WeightAverage, optional
        Takes in the weights after every step of the optimiser.
    """

    def __init__(
        self,
        recipe: TrainedRecipe,
        fabric: Fabric,
        objective: nn.Module,
        optimiser: torch.optim.Optimizer,
        loader: ClipLoader,
        rate: Callable[[float], float],
        folder: RunFolder,
        log: EventLog,
        evaluate: Callable[[], dict[str, float]],
        save_best: Callable[[int, dict[str, float]], None],
        average: WeightAverage | None = None,
    ) -> None:
        self.recipe, self.fabric, self.loader, self.rate = recipe, fabric, loader, rate
        self.folder, self.log, self.evaluate, self.save_best = folder, log, evaluate, save_best
        self.module, self.optimiser, self.average = objective, optimiser, average
        self.wrapped, self.stepper = on_devices(fabric, objective, optimiser)
        self.stop = StopRequest(folder.stop_file)
        self.progress = Progress()
        self._unchecked: list[tuple[int, int, Tensor]] = []
        self._names: list[str] = []
        self._saved_at = time.monotonic()

    def run(self, **about: Any) -> bool:
        """Train to the last epoch, from the last state where there is one; False when asked to stop before.

        ``about`` is added to the ``run`` event.

        Raises
        ------
        FloatingPointError
            A loss or weight is not finite; the last good state is kept.
        RunError
            The state is damaged, or can't be written.
        """
        resumed = self._restore()
        state, epochs = self.loader.state_dict(), self.recipe.epochs
        self.log.write(
            "run",
            epoch=state["epoch"],
            step=state["batch"],
            epochs=epochs,
            steps=len(self.loader),
            resumed=resumed,
            **about,
        )
        with self.stop.listening():
            while self.loader.epoch < epochs:
                if not self._epoch():
                    state = self.loader.state_dict()
                    self._save()
                    self.log.write("stopped", epoch=state["epoch"], step=state["batch"], reason=self.stop.reason)
                    return False
        return True

    def _epoch(self) -> bool:
        """The rest of the loader's epoch; False if a stop was asked for."""
        steps, group = len(self.loader), self.recipe.accumulate
        epoch, done = self.loader.epoch, self.loader.state_dict()["batch"]
        began = reported = time.monotonic()
        clips_before = clips_reported = self.progress.clips
        done_before = done
        self.module.train()
        for batch in self.loader:
            # The last group of an epoch may be smaller.
            size = min(group, steps - done // group * group)
            complete = (done + 1) % group == 0 or done + 1 == steps
            lr = self._step(batch, epoch, done, steps, size, complete)
            done += 1
            if not complete:
                continue
            now = time.monotonic()
            if now - reported >= REPORT_S or (done == steps and reported > began):
                self._check(epoch)
                clips = self.progress.clips
                left = steps * (self.recipe.epochs - epoch) - done
                self.log.write(
                    "step", epoch=epoch + 1, step=done, steps=steps, lr=lr, **self.progress.means(),
                    clips_per_s=(clips - clips_reported) * self.fabric.world_size / (now - reported),
                    eta_s=left * (now - began) / (done - done_before), memory_mib=round(memory_mib(self.fabric), 1),
                )  # fmt: skip
                reported, clips_reported = now, clips
            stop, save = self._agreed(bool(self.stop), now - self._saved_at >= SAVE_S)
            if stop:
                # Sums are part of the state, and a loss that is not finite must keep it from being saved.
                self._check(epoch)
                self.progress.seconds += time.monotonic() - began
                return False
            if save and done < steps:
                self._check(epoch)
                self.progress.seconds += now - began
                self._save()
                began, clips_before, done_before = now, self.progress.clips, done
        self._check(epoch)
        elapsed = time.monotonic() - began
        self.progress.seconds += elapsed
        rate = (self.progress.clips - clips_before) * self.fabric.world_size / max(elapsed, 1e-9)
        step_s = elapsed / max(steps - done_before, 1)
        self._end_epoch(epoch + 1, rate, step_s * steps * (self.recipe.epochs - epoch - 1))
        return True

    def _step(self, batch: Batch, epoch: int, done: int, steps: int, size: int, complete: bool) -> float:
        """Forward and backward of one batch, and the optimiser's step where its group is complete; the rate."""
        lr = self.rate(epoch + done / steps)
        # Dropout and whatever else draws from torch's own generators is a matter of the batch alone.
        torch.manual_seed(derived_seed(batch.seed, OWN))
        waiting = not complete and self.fabric.world_size > 1
        with self.fabric.no_backward_sync(self.wrapped, enabled=waiting) if waiting else nullcontext():
            parts = self.wrapped(
                views=batch.views, lengths=batch.lengths, labels=batch.labels, items=batch.items,
                seed=derived_seed(self.loader.seed, epoch, done, SHARED),
            )  # fmt: skip
            self.fabric.backward(parts["loss"] / size)
        values = torch.stack([value.detach().float() for value in parts.values()])
        self._unchecked.append((done + 1, len(batch), values))
        self._names = list(parts)
        if len(self._unchecked) >= CHECK_EVERY[self.fabric.device.type]:
            self._check(epoch)
        if complete:
            for chosen in self.optimiser.param_groups:
                chosen["lr"] = lr
            if self.recipe.clip_norm:
                self.fabric.clip_gradients(
                    self.wrapped, self.stepper, max_norm=self.recipe.clip_norm, error_if_nonfinite=False
                )
            self.stepper.step()
            self.stepper.zero_grad()
            if self.average is not None:
                self.average.update()
        return lr

    def _check(self, epoch: int) -> None:
        """Add the latest losses to the sums; raises ``FloatingPointError`` for the first that is not finite."""
        if not self._unchecked:
            return
        values = torch.stack([parts for _, _, parts in self._unchecked])
        if self.fabric.world_size > 1:
            values = self.fabric.all_reduce(values, reduce_op="mean")  # type: ignore[assignment]
        rows = values.double().cpu()
        which = self._names.index("loss")
        for (step, clips, _), row in zip(self._unchecked, rows, strict=True):
            if not torch.isfinite(row[which]):
                raise FloatingPointError(
                    f"loss is not finite in epoch {epoch + 1}, step {step}; {self.folder.state_file} keeps the last "
                    "good state: a smaller rate, gradient clipping (clip_norm) or precision fp32 may help"
                )
            for name, value in zip(self._names, row.tolist(), strict=True):
                self.progress.sums[name] = self.progress.sums.get(name, 0.0) + value * clips
            self.progress.clips += clips
        self._unchecked.clear()

    def _end_epoch(self, epoch: int, clips_per_s: float, eta_s: float) -> None:
        """Test where it is due, say how the epoch went, and save."""
        means = self.progress.means()
        tested: dict[str, float] = {}
        if epoch % self.recipe.evaluate_every == 0 or epoch == self.recipe.epochs:
            if self.fabric.is_global_zero:
                tested = self.evaluate()
                self.log.write("evaluation", epoch=epoch, **tested)
                if self.recipe.keep_best and tested["top1"] > self.progress.best:
                    self.progress.best = tested["top1"]
                    self.save_best(epoch, tested)
            self.fabric.barrier()
        # Said before it is saved: a kill in between says it twice, never not at all.
        self.log.write(
            "epoch", epoch=epoch, **means, clips_per_s=clips_per_s, eta_s=eta_s, seconds=self.progress.seconds,
            lr=self.optimiser.param_groups[0]["lr"], memory_mib=round(memory_mib(self.fabric), 1),
            **{name if name.startswith("probe") else f"test_{name}": value for name, value in tested.items()},
        )  # fmt: skip
        self.progress = Progress(seconds=self.progress.seconds, best=self.progress.best)
        self._save()

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            about = {
                "loader": self.loader.state_dict(),
                "progress": dataclasses.asdict(self.progress),
                "recipe": self.recipe.digest(),
                "scaler": self._scaler_state(),
            }
            save_state(self.folder.state_file, self.module, self.optimiser, about, self.average)
        self.fabric.barrier()
        self._saved_at = time.monotonic()

    def _restore(self) -> bool:
        if not self.folder.state_file.is_file():
            return False
        about = load_state(self.folder.state_file, self.module, self.optimiser, self.average)
        if about.get("recipe") != self.recipe.digest():
            raise RecipeError(f"{self.folder.state_file} belongs to another recipe; choose another run folder")
        self.loader.load_state_dict(about["loader"])
        self.progress = Progress(**about["progress"])
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        if scaler is not None and about["scaler"]:
            scaler.load_state_dict(about["scaler"])
        return True

    def _scaler_state(self) -> dict[str, Any]:
        """fp16 scales losses up so that gradients don't vanish, and finds the scale as it goes."""
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        return scaler.state_dict() if scaler is not None else {}

    def _agreed(self, *wishes: bool) -> list[bool]:
        """What any process wishes: they must save and leave a loop together. All wishes travel at once."""
        if self.fabric.world_size == 1:
            return list(wishes)
        asked = torch.tensor(wishes, dtype=torch.float32, device=self.fabric.device)
        found = self.fabric.all_reduce(asked, reduce_op="sum")
        return [count > 0 for count in found.tolist()]  # type: ignore[union-attr]

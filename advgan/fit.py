"""A run: the step of the game over data, with its schedules, measures, checkpoints and end."""

import io
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from attacks.errors import InputError

from .checkpoint import load_checkpoint, save_checkpoint, write
from .health import LOOKED_AT, DivergedError, all_finite, is_well, new_warnings, not_finite, spread
from .processes import check_shares, device_for, joined
from .recipe import Recipe
from .run import RUN, Build, Run, build
from .samples import Aim, Samples
from .stopping import stoppable, tell
from .table import Table
from .train import Adversary, evaluating

__all__ = ["Recipe", "Run", "Samples", "fit"]

Measure = Callable[[Run, Any], dict[str, float]]  # (the run as it stands, the critic) -> named values
Progress = Callable[[int, dict[str, float]], None]  # (steps done, the newest row of the history)

CHECKPOINT, LAST_GOOD, SAMPLES = "checkpoint", "last_good", "samples"
MARKS, ROWS = 20, 5  # in a run; from one mark to the next
IMAGES, VECTORS = 64, 2048  # how many samples are saved at a mark
PATIENCE = 100  # steps that a fault must have lasted, and from one mark to the next, before it is reported
PROGRESS = ("step", "measures", "history", "warnings", "seconds")


def fit(
    recipe: Recipe,
    data: Samples,
    out: Path | str,
    *,
    resume: bool = False,
    measure: Measure | None = None,
    every: int | None = None,
    progress: Progress | None = None,
    device: str | None = None,
    build: Build = build,
    adversary: Adversary | None = None,
    aim: Aim | None = None,
) -> Run:
    """Trains a generator and its critic, and writes the folder `out`.

    every: steps between marks, where it measures, saves samples and writes a checkpoint (None: a twentieth of the
    run). The history has five rows for each mark. progress is called after every step. build: (recipe, shape, classes)
    -> (generator, critic). adversary, aim: what a perturber must fool, and what the players are told instead of the
    labels. Under torchrun each process takes its share of every batch, and the first one writes.

    Ctrl-C finishes the step, saves and raises KeyboardInterrupt; `resume` goes on from there, on the CPU bit for bit.
    Raises InputError for data or a recipe that cannot be trained with, and for a folder that holds another run;
    `health.DivergedError` where the game leaves the finite numbers: `last_good/` is then the last state with no fault.
    """
    where, folder = device_for(device), Path(out)
    data.check(recipe)
    _check_precision(recipe, where)
    with joined(where) as processes, _own_randomness(where), stoppable() as stopped:
        check_shares(recipe.batch, processes)
        table = Table.laid(recipe, data, where, processes, build, adversary, aim)
        run = Run(
            folder,
            recipe,
            table.players.average,
            data.shape,
            table.classes,
            recipe.as_config() | {"data": data.about()},
        )
        trainer = _Trainer(table, run, every or max(1, recipe.steps // MARKS))
        if resume:
            trainer.resume()
        else:
            _refuse_to_harm(folder)
            processes.wait()  # nobody looks at the folder after the first process has begun to write
        return trainer.go(measure, progress, stopped)


class _Trainer:
    """The loop, and what it knows of the past."""

    def __init__(self, table: Table, run: Run, every: int):
        self.table, self.run, self.every = table, run, every
        self.totals: dict[str, Tensor] = {}  # of each statistic, since the newest row
        self.count = 0

    def go(self, measure: Measure | None, progress: Progress | None, stopped: threading.Event) -> Run:
        run, start, began, before = self.run, self.run.step, time.perf_counter(), self.run.seconds
        if not run.history:
            self.row(measure)
            self.save()
        while run.step < self.table.recipe.steps:
            self.add(self.table.play(run.step))
            run.step += 1
            if self.is_row():
                self.row(measure)
            spent = time.perf_counter() - began
            run.seconds = before + spent
            if self.is_mark():
                self.save()
            if progress:
                speed = (run.step - start) * self.table.recipe.batch / spent
                tell(progress, run.step, run.history[-1] | {"images_per_second": speed}, stopped)
            if self._asked_to_stop(stopped):
                self.save()
                raise KeyboardInterrupt
        self.table.processes.wait()
        return run

    def is_mark(self) -> bool:
        return self.run.step % self.every == 0 or self.run.step == self.table.recipe.steps

    def is_row(self) -> bool:
        return self.run.step % max(1, self.every // ROWS) == 0 or self.is_mark()

    def add(self, about: dict[str, Tensor]) -> None:
        if not self.totals:
            self.totals = {name: torch.zeros_like(value) for name, value in about.items()}
        for name, value in about.items():
            self.totals[name] += value
        self.count += 1

    def row(self, measure: Measure | None) -> None:
        """The means since the last row, and at a mark the measures. Here alone does the loop wait for the device."""
        row = {"step": self.run.step, **self._means()}
        bad = not_finite(row)
        if bad:
            self._diverged(", ".join(bad))
        row["spread"] = spread(self.table.fakes(LOOKED_AT), self.table.shown(LOOKED_AT)[0])
        self.run.history.append(row)
        self.run.warnings += new_warnings(self.run.history, self.run.warnings, max(self.every, PATIENCE))
        if self.is_mark() and self.table.processes.first:
            self._show()
            if measure:
                critic = self.table.players.critic
                with nullcontext() if critic is None else evaluating(critic):
                    self.run.measures = {name: _plain(value) for name, value in measure(self.run, critic).items()}
                row.update(self.run.measures)

    def save(self) -> None:
        """The first process writes all, and `last_good/` where no fault holds."""
        if not all(map(all_finite, self.table.players.nets.values())):
            self._diverged("a parameter")
        if self.table.processes.first:
            self._write()
        self.table.processes.wait()  # nobody resumes from what is being written

    def _write(self) -> None:
        folders = [CHECKPOINT, LAST_GOOD] if is_well(self.run.history[-1]) else [CHECKPOINT]
        progress = {name: getattr(self.run, name) for name in PROGRESS} | {"count": self.count}
        for folder in folders:
            save_checkpoint(self.run.folder / folder, self.table.players, self.totals, self.run.config, progress)
        self.run.save()

    def resume(self) -> None:
        """Raises InputError where there is no checkpoint, or one of another configuration."""
        players, config = self.table.players, self.run.config
        self.totals, progress = load_checkpoint(self.run.folder / CHECKPOINT, players, config)
        self.count = progress.pop("count")
        for name, value in progress.items():
            setattr(self.run, name, value)

    def _means(self) -> dict[str, float]:
        totals, self.totals = self.totals, {}
        count, self.count = self.count, 0
        if not totals:
            return {}
        self.table.processes.average(list(totals.values()))
        return dict(zip(totals, (torch.stack(list(totals.values())) / count).tolist(), strict=True))

    def _asked_to_stop(self, stopped: threading.Event) -> bool:
        """Several processes agree on it at a row, where they meet anyway."""
        return self.table.processes.any(stopped.is_set()) if self.table.processes.count == 1 or self.is_row() else False

    def _show(self) -> None:
        """The average's samples from the same noise at each mark; images within [0, 1]."""
        images, (low, high) = len(self.run.shape) == 3, self.table.bounds
        fakes = self.table.fakes(IMAGES if images else VECTORS)
        shown, labels = self.table.shown(len(fakes))
        arrays = {"x": fakes} if self.table.game.adversary is None else {"x": fakes, "clean": shown}
        if images:
            arrays = {name: ((x - low) / (high - low)).clamp(0, 1) for name, x in arrays.items()}
        if labels is not None:
            arrays["labels"] = labels
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **{name: value.cpu().numpy() for name, value in arrays.items()})
        write(self.run.folder / SAMPLES / f"step-{self.run.step}.npz", file.getvalue())

    def _diverged(self, what: str) -> NoReturn:
        run = self.run
        text = f"After step {run.step} {what} is NaN or infinite."
        remedy = "Lower the learning rate, raise the penalty's weight, or take the relativistic objective with r1r2."
        if self.table.processes.first:
            run.warnings.append({"kind": "not_finite", "step": run.step, "what": text, "remedy": remedy})
            run.save_json()
        kept = run.folder / (LAST_GOOD if (run.folder / LAST_GOOD).exists() else CHECKPOINT)
        raise DivergedError(f"{text} Training stopped, and {kept} holds the state before. {remedy}")


def _plain(value: float) -> float | None:
    """JSON knows no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None


def _refuse_to_harm(folder: Path) -> None:
    """Raises InputError for a folder with anything in it."""
    if (folder / RUN).exists() or (folder / CHECKPOINT).exists():
        raise InputError(f"{folder} holds a run. Go on with it (resume), or name another folder.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not an empty folder. Name one that is, or that does not exist yet.")


def _check_precision(recipe: Recipe, where: torch.device) -> None:
    if recipe.precision != "float32" and where.type != "cuda":
        raise InputError(
            f"The precision {recipe.precision} was asked for on a {where.type} device, where it gains nothing. "
            "Take float32, or a CUDA device."
        )


@contextmanager
def _own_randomness(where: torch.device) -> Iterator[None]:
    """The caller's random state is afterwards what it was."""
    with torch.random.fork_rng([where] if where.type == "cuda" else []):
        yield

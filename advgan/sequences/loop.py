"""A run of any way to train on sequences: steps, marks where it is measured and saved, and an exact way back."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from attacks.errors import InputError

from ..checkpoint import FILE, FORMAT, pack, put_back, refuse_differences, tensors_of, unpack, write, write_json
from ..health import DivergedError, all_finite, not_finite
from ..run import GENERATOR, RUN
from ..stopping import stoppable, tell
from .model import Model

MARKS = 20  # in a run
MEANS = "means"
Rows = list[dict[str, float]]
Measure = Callable[[Model], dict[str, float]]


class Method(Protocol):
    """What a step is. It may depend on its number, the networks and the optimisers, and on nothing else."""

    steps: int
    nets: dict[str, nn.Module]  # "generator" among them
    opts: dict[str, torch.optim.Optimizer]
    config: dict[str, Any]  # JSON-able: all that decides the result

    def advance(self, step: int) -> dict[str, Tensor]:
        """Step number `step`, from 0. Returns scalars on the device."""
        ...


def train(
    method: Method,
    folder: Path | str,
    *,
    resume: bool = False,
    every: int | None = None,
    also: Collection[int] = (),
    measure: Measure | None = None,
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> Rows:
    """Takes all steps, and returns a row for each mark: "step", "seconds", the means since the last mark, the measures.

    every: steps between marks (None: a twentieth of the run); also: further marks. A mark writes the folder's run.json,
    generator.safetensors and state.safetensors; progress is called where the run begins or goes on, and after every
    step. Ctrl-C finishes the step, saves and raises KeyboardInterrupt. Whatever happens, `resume` goes on from what was
    saved last as if nothing had, on the CPU bit for bit. Raises InputError for a folder that holds something else, or
    that cannot be resumed from; `health.DivergedError` where a mean or a parameter is NaN or infinite: the mark before
    stays.
    """
    folder, every = Path(folder), every or max(1, method.steps // MARKS)
    run = _Run.read(method, folder) if resume else _Run.begun(method, folder)
    with stoppable() as stopped:
        if not run.rows:
            run.rows.append({"step": 0, "seconds": 0.0} | _measured(method, measure))
            run.save_first()
        if progress:
            tell(progress, run.step, run.rows[-1], stopped)
        while run.step < method.steps and not stopped.is_set():
            run.means.add(method.advance(run.step))
            run.step += 1
            if run.step % every == 0 or run.step in also or run.step == method.steps:
                run.mark(measure)
            if progress:
                tell(progress, run.step, run.rows[-1], stopped)
        if stopped.is_set():
            _check(method, {"step": run.step})
            run.save()
            raise KeyboardInterrupt
    return run.rows


def digest(tokens: Tensor) -> str:
    """Tells other sequences of the same shape apart."""
    return hashlib.sha256(tokens.cpu().contiguous().numpy().tobytes()).hexdigest()[:16]


class _Means:
    """Of each statistic since the last mark; on the device until it is asked for."""

    def __init__(self, totals: dict[str, Tensor], counts: dict[str, int]):
        self.totals, self.counts = totals, counts

    def add(self, about: dict[str, Tensor]) -> None:
        for name, value in about.items():
            self.totals[name] = self.totals.get(name, 0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def taken(self) -> dict[str, float]:
        means = {name: float(total) / self.counts[name] for name, total in self.totals.items()}
        self.totals, self.counts = {}, {}
        return means


class _Run:
    """How far a method has come in its folder."""

    def __init__(self, method: Method, folder: Path, step: int, seconds: float, rows: Rows, means: _Means):
        self.method, self.folder, self.step, self.rows, self.means = method, folder, step, rows, means
        self.start = time.perf_counter() - seconds

    @classmethod
    def begun(cls, method: Method, folder: Path) -> "_Run":
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                f"{folder} is not an empty folder. Go on with the run in it (resume), or name another one."
            )
        return cls(method, folder, 0, 0.0, [], _Means({}, {}))

    @classmethod
    def read(cls, method: Method, folder: Path) -> "_Run":
        tensors, about = unpack(folder / FILE)
        refuse_differences(about["config"], method.config, folder)
        put_back(method.nets, method.opts, tensors, folder / FILE)
        told, device = about["progress"], next(method.nets["generator"].parameters()).device
        means = _Means({name: tensors[f"{MEANS}.{name}"].to(device) for name in told["counts"]}, told["counts"])
        return cls(method, folder, told["step"], told["seconds"], told["history"], means)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.start

    def mark(self, measure: Measure | None) -> None:
        row = {"step": self.step, "seconds": self.seconds} | self.means.taken()
        _check(self.method, row)
        self.rows.append(row | _measured(self.method, measure))
        self.save()

    def save_first(self) -> None:
        """As a whole, where there is no folder yet: a run that is killed meanwhile has not begun."""
        if self.folder.exists():
            self.save()
            return
        whole = self.folder
        self.folder = whole.with_name(f".{whole.name}.{os.getpid()}.partial")
        try:
            self.save()
            self.folder.replace(whole)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = whole

    def save(self) -> None:
        nets, about = self.method.nets, {"format": FORMAT, "config": self.method.config}
        told = {"step": self.step, "seconds": self.seconds, "history": self.rows}
        tensors = tensors_of(nets, self.method.opts) | {f"{MEANS}.{k}": v for k, v in self.means.totals.items()}
        write(self.folder / GENERATOR, pack(nets["generator"].state_dict(), about))
        write(self.folder / FILE, pack(tensors, about | {"progress": told | {"counts": self.means.counts}}))
        write_json(self.folder / RUN, about | told)


def _check(method: Method, row: dict[str, float]) -> None:
    bad = not_finite(row) + [f"a weight of the {name}" for name, net in method.nets.items() if not all_finite(net)]
    if bad:
        raise DivergedError(
            f"Before step {row['step']} {', '.join(bad)} became NaN or infinite. Lower the learning rate."
        )


def _measured(method: Method, measure: Measure | None) -> dict[str, float]:
    generator = method.nets["generator"]
    assert isinstance(generator, Model)
    return measure(generator) if measure else {}

"""A run of any way to train on sequences: steps, marks where it is measured and saved, and an exact way back."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from attacks.errors import InputError

from ..checkpoint import FILE, FORMAT, pack, put_back, refuse_differences, tensors_of, unpack, write, write_json
from ..health import DivergedError, all_finite, not_finite
from ..run import GENERATOR, RUN
from .model import Model

MARKS = 20  # in a run
Rows = list[dict[str, float]]


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
    measure: Callable[[Model], dict[str, float]] | None = None,
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> Rows:
    """Takes all steps, and returns a row for each mark: "step", "seconds", the means since the last mark, the measures.

    every: steps between marks (None: a twentieth of the run). A mark writes the folder's run.json,
    generator.safetensors and state.safetensors; whatever happens between marks, `resume` goes on from the last one as
    if nothing had, on the CPU bit for bit. Raises InputError for a folder that holds something else, or that cannot be
    resumed from; `health.DivergedError` where a mean or a parameter is NaN or infinite: the mark before stays.
    """
    folder, every = Path(folder), every or max(1, method.steps // MARKS)
    rows = _read(method, folder) if resume else _begin(folder)
    step, before = (int(rows[-1]["step"]), rows[-1]["seconds"]) if rows else (0, 0.0)
    start, means = time.perf_counter(), _Means()
    if not rows:
        rows.append({"step": 0, "seconds": 0.0} | _measured(method, measure))
        _save(method, folder, rows)
    while step < method.steps:
        means.add(method.advance(step))
        step += 1
        if step % every == 0 or step == method.steps:
            row = {"step": step, "seconds": before + time.perf_counter() - start} | means.taken()
            _check(method, row)
            rows.append(row | _measured(method, measure))
            _save(method, folder, rows)
        if progress:
            progress(step, rows[-1])
    return rows


def digest(tokens: Tensor) -> str:
    """Tells other sequences of the same shape apart."""
    return hashlib.sha256(tokens.cpu().contiguous().numpy().tobytes()).hexdigest()[:16]


class _Means:
    """Of each statistic since the last mark; on the device until it is asked for."""

    def __init__(self):
        self.totals: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, about: dict[str, Tensor]) -> None:
        for name, value in about.items():
            self.totals[name] = self.totals.get(name, 0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def taken(self) -> dict[str, float]:
        means = {name: float(total) / self.counts[name] for name, total in self.totals.items()}
        self.__init__()
        return means


def _check(method: Method, row: dict[str, float]) -> None:
    bad = not_finite(row) + [f"a weight of the {name}" for name, net in method.nets.items() if not all_finite(net)]
    if bad:
        raise DivergedError(
            f"Before step {row['step']} {', '.join(bad)} became NaN or infinite. Lower the learning rate."
        )


def _measured(method: Method, measure: Callable[[Model], dict[str, float]] | None) -> dict[str, float]:
    generator = method.nets["generator"]
    assert isinstance(generator, Model)
    return measure(generator) if measure else {}


def _begin(folder: Path) -> Rows:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not an empty folder. Go on with the run in it (resume), or name another one.")
    return []


def _read(method: Method, folder: Path) -> Rows:
    tensors, about = unpack(folder / FILE)
    refuse_differences(about["config"], method.config, folder)
    put_back(method.nets, method.opts, tensors, folder / FILE)
    return about["progress"]


def _save(method: Method, folder: Path, rows: Rows) -> None:
    about = {"format": FORMAT, "config": method.config}
    write(folder / GENERATOR, pack(method.nets["generator"].state_dict(), about))
    write_json(folder / RUN, about | {"history": rows})
    write(folder / FILE, pack(tensors_of(method.nets, method.opts), about | {"progress": rows}))

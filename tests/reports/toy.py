"""A small model and data set that every process makes alike, and commands to be killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import nn

from reports.sources.data import Dataset, from_arrays

ROOT = Path(__file__).parents[2]
CLOCKS = ("timings.parquet", "timings.json", "times.parquet")


def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 3))
    return net.eval()


def data(n: int = 40) -> Dataset:
    x = np.random.default_rng(0).integers(64, 192, (n, 1, 6, 6)).astype(np.uint8)
    with torch.no_grad():
        y = model()(torch.from_numpy(x).float() / 255).argmax(1).numpy()
    return from_arrays(x, y, name="toy")


def both() -> tuple[dict[str, nn.Module], Dataset]:
    return {"toy": model()}, data()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but those of clock times."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: content for name, content in files.items() if Path(name).name not in CLOCKS}


def begun(arguments: Sequence[str | Path], folder: Path) -> subprocess.Popen[str]:
    """`advgan` in a process group of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "reports.cli", *map(str, arguments)],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str], seconds: float = 300) -> tuple[int, str]:
    """Its status, and what it said on the standard error."""
    _, err = process.communicate(timeout=seconds)
    return process.returncode, err


def killed_and_gone_on_with(
    command: Callable[[int], Sequence[str | Path]],
    folder: Path,
    steps: Callable[[], int],
    kills: int,
    seed: int,
    alone: bool = False,
) -> int:
    """Kill -9 a command at so many seeded moments, begin it again each time, and let it end; how often it was killed.

    command: the arguments of the k-th beginning. steps: how much is done by now. A moment is so many steps later than
    where it began and so many milliseconds after that. alone: its own processes are left to see to themselves.
    """
    random, died = Random(seed), 0
    for beginning in range(kills + 1):
        process = begun(command(beginning), folder)
        wanted, delay = steps() + random.randint(0, 2), random.uniform(0.0, 0.4)
        if beginning < kills:
            while process.poll() is None and steps() < wanted:
                time.sleep(0.005)
            time.sleep(delay if wanted else 2 + 5 * delay)
            if process.poll() is None:
                (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
                died += 1
        status, err = ended(process)
        assert status in (0, -signal.SIGKILL), err
    return died

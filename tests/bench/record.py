"""Where measurements go: one row each in results.csv, and a table on the terminal that names the machine."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import pandas as pd
import torch
from peers import PEERS, installed
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results.csv"
COLUMNS = [
    *("date", "commit", "machine", "cores", "threads", "versions"),
    *("suite", "measured", "unit", "repeats", "ours", "reference", "reference_is", "ratio", "ratio_low", "ratio_high"),
    *("bar", "torchattacks", "foolbox", "art", "torchattacks_ratio", "foolbox_ratio", "art_ratio"),
    *("fastest_peer", "ours_over_fastest_peer", "peer_bar", "note"),
]


class Book:
    """The measurements of one session. A row's `ratio` is the median over the repeats, low and high their quartiles."""

    def __init__(self):
        self.rows: list[dict] = []

    def add(self, **measured) -> None:
        unknown = set(measured) - set(COLUMNS)
        assert not unknown, f"no such columns: {sorted(unknown)}"
        row = {
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M"),
            "commit": commit(),
            "machine": machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "versions": versions(),
            **{name: f"{value:.4g}" if isinstance(value, float) else value for name, value in measured.items()},
        }
        self.rows.append(row)
        append(pd.DataFrame([row], columns=COLUMNS))

    def show(self) -> None:
        if not self.rows:
            return
        console = Console(width=180)
        row = self.rows[-1]
        console.print(f"\n{row['machine']}, {row['cores']} cores, {row['threads']} threads; {row['versions']}")
        missing = [name for name in PEERS if name not in installed()]
        if missing:
            console.print(f"Not installed, so their columns are empty: {', '.join(missing)} (extra: bench)")
        console.print(table(self.rows))


def append(rows: pd.DataFrame) -> None:
    before = [pd.read_csv(RESULTS, dtype=str)] if RESULTS.exists() else []
    beside = RESULTS.with_suffix(".partial")
    pd.concat([*before, rows.astype(object)]).reindex(columns=COLUMNS).to_csv(beside, index=False)
    beside.replace(RESULTS)


def table(rows: list[dict]) -> Table:
    shown = ["measured", "unit", "ours", "reference", "ratio", "quartiles", "bar"]
    peers = ["torchattacks_ratio", "foolbox_ratio", "art_ratio", "ours_over_fastest_peer"]
    grid = Table(*shown, *(name.replace("_", " ") for name in peers))
    for row in rows:
        quartiles = f"{row['ratio_low']} to {row['ratio_high']}" if "ratio_low" in row else ""
        cells = {**row, "quartiles": quartiles}
        grid.add_row(*(str(cells.get(name, "")) for name in [*shown, *peers]))
    return grid


def machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def commit() -> str:
    """The commit, with a plus sign where the packages have changed since."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False).stdout.strip()

    packages = (":/attacks", ":/advgan", ":/reports")
    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", *packages) else "")


def versions() -> str:
    ours = {"python": platform.python_version(), "torch": torch.__version__.partition("+")[0]}
    ours["torchvision"] = importlib.metadata.version("torchvision").partition("+")[0]
    return "; ".join(f"{name} {version}" for name, version in {**ours, **installed()}.items())

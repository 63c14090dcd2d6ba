"""What does a training run leave in its folder, and how is it read again, without running or making a network?"""

import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from advgan.checkpoint import write
from advgan.gaussian import LOOKS, Look, load_looks
from attacks.errors import InputError

FORMAT = 1
RUN, ABOUT, PICTURES, PAGE, SAMPLES = "run.json", "about.json", "pictures.npz", "report.html", "samples"


@dataclass(frozen=True)
class SavedRun:
    """A training run, finished or not, as plain data."""

    folder: Path
    config: dict[str, Any]  # everything that decides the result
    measures: dict[str, float]  # the last values; empty before the end
    history: list[dict[str, Any]]  # the same with their "step", and the losses, through training
    warnings: list[dict[str, Any]]  # "step", "what", "remedy"
    seconds: float = 0.0
    about: dict[str, Any] = field(default_factory=dict)  # data, command, versions: what the command knows
    samples: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)  # step -> x [n, ...] of one noise, labels
    pictures: dict[str, np.ndarray] = field(default_factory=dict)  # what the page shows of the finished generator
    looks: list[Look] = field(default_factory=list)  # of the game on the line alone
    reached: int = 0  # the last step that was saved, where that is written down

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """InputError where the folder holds no run, one of another format, or files that are not whole."""
        folder = Path(folder)
        run = read_json(folder, RUN)
        return cls(
            folder=folder,
            config=run.get("config", {}),
            measures={name: value for name, value in run.get("measures", {}).items() if value is not None},
            history=run.get("history", []),
            warnings=run.get("warnings", []),
            seconds=run.get("seconds", 0.0),
            reached=run.get("step", 0),
            about=read_json(folder, ABOUT) if (folder / ABOUT).is_file() else {},
            samples=_samples(folder / SAMPLES),
            pictures=_arrays(folder / PICTURES) if (folder / PICTURES).is_file() else {},
            looks=load_looks(folder) if (folder / LOOKS).is_dir() else [],
        )

    @property
    def stopped(self) -> str:
        """A sentence where training stopped before its end, else nothing."""
        steps = self.config.get("steps", self.step)
        return f"Training stopped before its end, at step {self.step:,} of {steps:,}." if self.step < steps else ""

    @property
    def warned(self) -> list[str]:
        """The warnings as sentences."""
        return [f"{each['what']} {each.get('remedy', '')}".strip() for each in self.warnings]

    @property
    def step(self) -> int:
        """The last one that was written down; 0 before any."""
        return max([self.reached, *(int(entry["step"]) for entry in self.history)])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample; () where nothing says it."""
        told = self.about.get("data", {}).get("shape")
        if told is None and self.samples:
            told = next(iter(self.samples.values()))["x"].shape[1:]
        return tuple(told or ())


def kind(folder: Path) -> str:
    """`gan`, `perturber` or `sequence`. InputError where the folder holds no run."""
    return read_json(folder, RUN).get("config", {}).get("what", "gan")


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """One of a run's two tables. InputError where it is not there, not whole, or of another format."""
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}. A run is what `advgan train` writes (--out).")
    try:
        told = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{folder} is not a training run: it holds no {name}. Name a folder of `advgan train`."
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / name} cannot be read ({error}). Train again, or restore the file.") from error
    found = told.get("format") if isinstance(told, dict) else None
    if found != FORMAT:
        raise InputError(f"{folder / name} is of format {found!r}; this version of advgan reads format {FORMAT}.")
    return told


def write_json(folder: Path, name: str, told: dict[str, Any]) -> None:
    write_text(folder, name, json.dumps({"format": FORMAT, **told}, indent=2, ensure_ascii=False) + "\n")


def write_text(folder: Path, name: str, text: str) -> None:
    """Whole or not at all."""
    write(folder / name, text.encode())


def write_pictures(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """The arrays of the finished generator that the page shows, whole or not at all."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    write(folder / PICTURES, file.getvalue())


def _samples(folder: Path) -> dict[int, dict[str, np.ndarray]]:
    """{step: arrays} of the files step-N.npz, in order."""
    files = {int(found[1]): file for file in folder.glob("step-*.npz") if (found := re.search(r"-(\d+)$", file.stem))}
    return {step: _arrays(file) for step, file in sorted(files.items())}


def _arrays(file: Path) -> dict[str, np.ndarray]:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise InputError(f"{file} is not a whole npz file ({error or type(error).__name__}). Train again.") from error

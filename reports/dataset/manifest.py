"""What does a finished set say of itself? manifest.json, read and written."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attacks import ThreatModel
from attacks.errors import InputError
from reports.dataset.asked import ENCODINGS, FORMATS
from reports.dataset.shards import Layout
from reports.sources.limits import MOST_EXAMPLES, MOST_PIXELS

FORMAT = 1
FILE = "manifest.json"
TIMINGS = "timings.json"  # clock times stand here alone; no hash covers it
SECTIONS = ("format", "configuration", "versions", "data", "model", "runs", "layout", "shards", "files")


@dataclass(frozen=True)
class Manifest:
    """A finished set: its folder, and manifest.json as plain data."""

    folder: Path
    about: dict[str, Any]

    @classmethod
    def load(cls, folder: Path | str) -> "Manifest":
        """InputError where the folder holds no finished set, or one of another format."""
        folder = Path(folder)
        path = folder / FILE
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            more = (
                " It is not finished: run the command that began it again." if (folder / ".progress").is_dir() else ""
            )
            raise InputError(f"{folder} holds no {FILE}, which `advgan dataset` writes last.{more}") from error
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}). Make the set again.") from error
        if not isinstance(about, dict) or "format" not in about:
            raise InputError(f"{path} is not the manifest of a data set of ours.")
        if about["format"] != FORMAT:
            raise InputError(
                f"{folder} was written in format {about['format']}, this version reads {FORMAT}. "
                "Read it with the version that wrote it, or make the set again."
            )
        missing = [name for name in SECTIONS if name not in about]
        if missing:
            raise InputError(f"{path} lacks {', '.join(missing)}. Make the set again.")
        wrong = [what for what, holds in _HELD.items() if not _does(holds, about)]
        if wrong:
            raise InputError(f"{path} was damaged or made up: {wrong[0]}. Make the set again.")
        return cls(folder, about)

    @property
    def layout(self) -> Layout:
        told = self.about["layout"]
        if told["format"] not in FORMATS or told["encoding"] not in ENCODINGS:
            raise InputError(
                f"{self.folder / FILE} names a form that is not known: {told['format']}, {told['encoding']}."
            )
        names = {(run["threat"], run["attack"]): run["name"] for run in self.about["runs"]}
        return Layout(
            told["format"], told["encoding"], tuple(told["shape"]), list(told["classes"]), names, bool(told["pairs"])
        )

    @property
    def rows_in(self) -> list[int]:
        """Rows of each shard."""
        return [int(n) for n in self.about["shards"]]


def _does(holds: Callable[[dict[str, Any]], bool], about: dict[str, Any]) -> bool:
    try:
        return holds(about)
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
        return False


def _is_count(value: Any, most: int = MOST_EXAMPLES) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _is_shape(value: Any) -> bool:
    sides = isinstance(value, list) and len(value) in (1, 3) and all(_is_count(side) and side for side in value)
    return sides and math.prod(value) <= 4 * MOST_PIXELS


def _are_texts(*values: Any) -> bool:
    return all(isinstance(value, str) and len(value) < 10_000 for value in values)


_HELD: dict[str, Callable[[dict[str, Any]], bool]] = {  # what is read of a manifest, and what it must be
    "its layout is none": lambda a: isinstance(a["layout"]["pairs"], bool) and _is_shape(a["layout"]["shape"]),
    "its format is no text": lambda a: _are_texts(a["layout"]["format"], a["layout"]["encoding"]),
    "its classes are no names": lambda a: bool(a["layout"]["classes"]) and _are_texts(*a["layout"]["classes"]),
    "its shards are no counts": lambda a: (
        _is_count(sum(a["shards"])) and len(a["shards"]) > 0 and all(map(_is_count, a["shards"]))
    ),
    "its files are none": lambda a: len(a["files"]) <= MOST_EXAMPLES and _are_texts(*a["files"], *a["files"].values()),
    "its runs are none": lambda a: all(_are_texts(run["threat"], run["attack"], run["name"]) for run in a["runs"]),
    "its threats are none": lambda a: all(bool(ThreatModel.parse(run["threat"])) for run in a["runs"]),
    "its data are none": lambda a: _is_shape(a["data"]["shape"]) and _is_count(a["data"]["examples"]),
    "its hashes are none": lambda a: _are_texts(a["data"]["sha256"], a["model"]["sha256"]),
    "its shards are of no size": lambda a: _is_count(a["configuration"]["shard"]) and a["configuration"]["shard"] > 0,
}


def layout_told(layout: Layout) -> dict[str, Any]:
    return {
        "format": layout.format,
        "encoding": layout.encoding,
        "shape": list(layout.shape),
        "classes": layout.classes,
        "pairs": layout.pairs,
    }

"""What does a finished set say of itself? manifest.json, read and written."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attacks.errors import InputError
from reports.dataset.asked import ENCODINGS, FORMATS
from reports.dataset.shards import Layout

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


def layout_told(layout: Layout) -> dict[str, Any]:
    return {
        "format": layout.format,
        "encoding": layout.encoding,
        "shape": list(layout.shape),
        "classes": layout.classes,
        "pairs": layout.pairs,
    }

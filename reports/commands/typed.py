"""How is an option typed, whichever command has it?"""

from pathlib import Path
from typing import Any

import typer

SPELLED: dict[str, tuple[str, ...]] = {  # what is typed behind it, and how else it may be called
    "--model": ("MODEL", "-m"),
    "--data": ("DATA", "-d"),
    "--weights": ("FILE",),
    "--examples": ("N", "-n"),
    "--image-size": ("PIXELS",),
    "--data-root": ("FOLDER",),
    "--threat": ("NORM:EPS", "-t"),
    "--attack": ("ATTACK", "-a"),
    "--target": ("CLASS",),
    "--seed": ("N",),
    "--device": ("DEVICE",),
    "--out": ("FOLDER", "-o"),
}


def option(name: str, panel: str | None, what: str, behind: str = "") -> Any:
    """what: its help; panel: under which heading of it; behind: what is typed behind it, where SPELLED says none."""
    metavar, *short = SPELLED.get(name, (behind,))
    return typer.Option(name, *short, metavar=metavar, rich_help_panel=panel, help=what)


def path_text(path: Path | None) -> str | None:
    return None if path is None else str(path)

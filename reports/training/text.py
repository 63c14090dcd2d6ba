"""What is said of a training run on the terminal?"""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from reports import words
from reports.training.measured import MEASURES, counted, told
from reports.training.saved import SavedRun

LINE = {"critic": "critic {:.3f}", "generator": "generator {:.3f}"}


def line(row: dict[str, Any]) -> str:
    """One row of the history for a progress bar: losses, the foremost measure, speed."""
    said = [form.format(row[name]) for name, form in LINE.items() if name in row]
    foremost = next((name for name in ("js", "frechet", *MEASURES) if name in row), None)
    said += [f"{MEASURES[foremost].name} {told(foremost, row)}"] if foremost else []
    return "  ".join([*said, *speed(row)])


def speed(row: dict[str, Any]) -> list[str]:
    return [f"{row['images_per_second']:,.0f} a second"] if "images_per_second" in row else []


def table(run: SavedRun) -> Group:
    """The last measures, those of real data beside them, and the warnings."""
    has_real = any(f"real_{name}" in run.measures for name in MEASURES)
    drawn = Table(title=_title(run), title_justify="left", title_style="bold")
    for head in ("measure", "samples", *(["real"] if has_real else []), "count"):
        drawn.add_column(head, justify="left" if head == "measure" else "right")
    for name, measure in MEASURES.items():
        if name in run.measures:
            real = run.measures.get(f"real_{name}")
            said = words.NOTHING if real is None else measure.said(real)
            count = counted(name, run.measures) or words.NOTHING
            drawn.add_row(measure.name, told(name, run.measures), *([said] if has_real else []), count)
    ends = [run.stopped] if run.stopped else []
    return Group(drawn, *ends, *(Text(f"warning: {text}", style="yellow") for text in run.warned))


def _title(run: SavedRun) -> str:
    named = run.about.get("data", {}).get("name", "samples")
    return f"A generator of {named}, {words.plural(run.step, 'step')}"

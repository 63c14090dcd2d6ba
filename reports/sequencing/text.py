"""What is said of the training of a generator of sequences on the terminal?"""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from reports import words
from reports.sequencing import told
from reports.sequencing.measured import MEASURES, beside
from reports.sequencing.measured import told as said
from reports.sequencing.written import Reader
from reports.training.saved import SavedRun

LINE = {"nll": "nll {:.3f}", "critic": "critic {:.3f}", "reward": "reward {:.3f}", "generator": "generator {:.3f}"}
SAMPLES = 5


def line(row: dict[str, Any]) -> str:
    """One row of the history for a progress bar: losses, and the foremost measure."""
    shown = [form.format(row[name]) for name, form in LINE.items() if name in row]
    foremost = next((name for name in MEASURES if name in row), None)
    return "  ".join([*shown, *([f"{MEASURES[foremost].name} {said(foremost, row)}"] if foremost else [])])


def table(run: SavedRun) -> Group:
    """The last measures beside the truth's, some of what it writes, and the warnings."""
    drawn = Table(title=told.what(run), title_justify="left", title_style="bold")
    truth, start = "real" if told.is_text(run) else "oracle", told.before_game(run)
    for head in ("measure", "generator", *(["before the game"] if start else []), truth):
        drawn.add_column(head, justify="left" if head == "measure" else "right")
    for name in told.foremost(run):
        before = [said(name, start) if name in start else words.NOTHING] if start else []
        drawn.add_row(
            MEASURES[name].name, said(name, run.measures), *before, beside(name, run.measures) or words.NOTHING
        )
    lines = [Text(each, no_wrap=True, overflow="ellipsis") for each in _some(run)]
    ends = [Text(sentence) for sentence in [told.stopped(run)] if sentence]
    heard = [Text(f"warning: {text}", style="yellow") for text in run.warned]
    return Group(drawn, *([Text("It writes:", style="bold"), *lines] if lines else []), *ends, *heard)


def _some(run: SavedRun) -> list[str]:
    if "x" not in run.pictures:
        return []
    return [f"  {each}" for each in Reader.of(run.folder).shown(run.pictures["x"][:SAMPLES])]

"""What is said of the training of a perturber on the terminal?"""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from reports import words
from reports.perturbing import told
from reports.training import text
from reports.training.saved import SavedRun

LINE = {"fooling": "loss {:.3f}", "critic": "critic {:.3f}", "success": "fooled {:.1%}"}


def line(row: dict[str, Any]) -> str:
    """One row of the history for a progress bar: losses, how many are fooled, speed."""
    said = [form.format(row[name]) for name, form in LINE.items() if row.get(name) is not None]
    return "  ".join([*said, *text.speed(row)])


def table(run: SavedRun) -> Group:
    """What it fools, beside gradients and noise; how long an example takes; warnings."""
    results = run.about.get("results", {})
    drawn = Table(title=told.what(run), title_justify="left", title_style="bold")
    for head in ("attack", "fooled", "of", "length", "time per example"):
        drawn.add_column(head, justify="left" if head == "attack" else "right")
    for row in results.get("compared", []):
        drawn.add_row(*_cells(row, results["timed"]["alone"]))
    shown = [f"{each.severity}: {each.text}" for each in told.doubts(run)]
    ends = [run.stopped] if run.stopped else []
    return Group(
        *([drawn] if drawn.rows else [drawn.title or ""]),
        *_more(run),
        *ends,
        *(Text(text, style="yellow") for text in shown),
    )


def _cells(row: dict[str, Any], seconds: dict[str, float]) -> tuple[str, ...]:
    time = words.duration(seconds[row["name"]]) if row["name"] in seconds else ""
    return (
        told.NAMES[row["name"]],
        words.percent(row["fooled"], row["of"]),
        words.of(row["fooled"], row["of"]),
        words.number(row["length"]),
        time,
    )


def _more(run: SavedRun) -> list[str]:
    """On the 8-bit grid; and what other models make of it."""
    found = run.measures
    said = []
    if "success_8bit" in found:
        said.append(f"On the 8-bit grid of image files: {words.share(found['success_8bit'])}.")
    transfer = run.about.get("results", {}).get("transfer")
    if transfer:
        own = transfer["rows"][0]
        shown = zip(transfer["models"][1:], own["fooled"][1:], own["of"][1:], strict=True)
        said += [
            f"Shown to {name}: {words.percent(fooled, of)} ({words.of(fooled, of)})." for name, fooled, of in shown
        ]
    return said

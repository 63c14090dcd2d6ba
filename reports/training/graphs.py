"""Which lines over the steps of training stand on a run's page: its measures, and how the game went."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from reports import words
from reports.pages.base import Chart
from reports.training import charts
from reports.training.charts import Level, Line
from reports.training.measured import MEASURES
from reports.training.saved import SavedRun

PROGRESS = [  # title, measures, how their heights are drawn
    ("Recognised", ["recognised"], "shares"),
    ("Modes found", ["modes"], "plain"),
    ("On a mode", ["high_quality"], "shares"),
    ("Reverse KL", ["reverse_kl"], "log"),
    ("Width of the modes", ["narrowest", "widest"], "log"),
    ("Jensen–Shannon divergence", ["js"], "log"),
    ("Value of the game", ["value"], "plain"),
    ("Mean answer of the critic", ["critic_mean"], "plain"),
    ("Critic's farthest from one half", ["critic_error"], "log"),
    ("Fréchet distance", ["frechet"], "log"),
]
GAME = [  # title, note, columns of the history and what they are called, how their heights are drawn
    ("Losses", "", {"critic": "critic", "generator": "generator"}, "plain"),
    ("Loss against the model", "smaller: it fools better", {"fooling": "adversarial loss"}, "plain"),
    ("Mean scores of the critic", "", {"real": "real", "fake": "fake"}, "plain"),
    ("The critic is right", "share of pairs", {"right": "right"}, "shares"),
    ("Penalty", "its weight included", {"penalty": "penalty"}, "plain"),
    ("Gradient of the generator", "root mean square", {"slope": "gradient"}, "plain"),
    ("Variety of the samples", "1: as of the data", {"spread": "spread"}, "plain"),
    ("Cross entropy of the classes", "", {"class": "classes"}, "plain"),
]


def progress(run: SavedRun) -> list[Chart]:
    """A chart for each measure that was taken more than once."""
    return [drawn for title, names, how in PROGRESS if (drawn := _measured(run, title, names, how))]


def game(run: SavedRun) -> list[Chart]:
    """What critic and generator did, of what the history has."""
    found = []
    for title, note, names, how in GAME:
        drawn = [line for name, called in names.items() if _says(line := over_steps(run, name, called))]
        found += [chart(title, note, drawn, how=how)] if drawn else []
    return found


def chart(
    title: str, note: str, drawn: Sequence[Line], *, levels: Sequence[Level] = (), how: str = "plain", x: str = "step"
) -> Chart:
    """Lines with what is said of them. levels: dashed; how: "plain", "shares" or "log"; x: what they run over."""
    key = "".join(letter for letter in title.lower() if letter.isascii() and letter.isalpha())
    ends = [f"{line.name} ends at {words.number(line.y[-1])}" for line in drawn if len(line.y)]
    svg = Markup(charts.lines(drawn, key, x=x, levels=levels, how=how))
    return Chart(
        title, note, svg, f"{title}: {'; '.join(ends)}.", [line.name for line in drawn] if len(drawn) > 1 else []
    )


def _measured(run: SavedRun, title: str, names: list[str], how: str) -> Chart | None:
    drawn = [line for name in names if len((line := over_steps(run, name, MEASURES[name].name)).x) > 1]
    if not drawn:
        return None
    levels = [Level("real images", run.measures[f"real_{name}"]) for name in names if f"real_{name}" in run.measures]
    levels += [
        Level(*level) for name in names[:1] if (level := MEASURES[name].level) and (how != "log" or level[1] > 0)
    ]
    note = f"dashed: {', '.join(level.name for level in levels)}" if levels else ""
    return chart(title, note, drawn, levels=levels, how=how if _is_positive(drawn) or how != "log" else "plain")


def _is_positive(drawn: Sequence[Line]) -> bool:
    return all(y > 0 for line in drawn for y in line.y)


def over_steps(run: SavedRun, name: str, called: str) -> Line:
    """What the history says of a column, where it does."""
    kept = [(row["step"], row[name]) for row in run.history if _is_number(row.get(name))]
    return Line(called, [step for step, _ in kept], [value for _, value in kept])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def _says(line: Line) -> bool:
    """More than one point, and not zero throughout."""
    return len(line.y) > 1 and any(line.y)

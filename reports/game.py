"""The four-panel picture of the game on the line: how do the two densities and the critic move to their equilibrium?

    looks = advgan.gaussian.load_looks(RUN)
    svg(looks, key="game")      # inline, in the page's colours
    png(looks)                  # bytes, on light paper: for a README

Only plain arrays are read; no network is run.
"""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from advgan.gaussian import Look
from reports import figures
from reports.figures import INK, LINE, MUTED, PAPER, PLACEHOLDERS, STYLE

GENERATED, DATA, CRITIC = list(PLACEHOLDERS)[4:7]
BEST = (0, (4, 2.5))  # dashes of the best critic's line
FALLEN, NEAR = 0.5, 0.02  # of the JS at the start: where "early" and "late" are
DOTS = 180  # per inch
CSS = Path(__file__).parent / "templates" / "style.css"


def chosen(looks: Sequence[Look]) -> list[tuple[str, Look]]:
    """Four of a run's looks with their names: the start, where JS has halved, where a fiftieth is left, the end.

    The end is called equilibrium where the game has reached it. A run that has not come so far has fewer.
    """
    first, last = looks[0], looks[-1]
    named = [("start", first)]
    if len(looks) == 1:
        return named
    for name, share in (("early", FALLEN), ("late", NEAR)):
        found = next((one for one in looks[1:-1] if one.js <= share * first.js and one.step > named[-1][1].step), None)
        named += [(name, found)] if found else []
    return [*named, ("equilibrium" if last.at_equilibrium else "end", last)]


def svg(looks: Sequence[Look], key: str) -> str:
    """Inline SVG in the colours of the page. key: goes before every id."""
    with matplotlib.rc_context(STYLE):
        return figures.svg(drawn(chosen(looks)), key)


def png(looks: Sequence[Look]) -> bytes:
    """The same picture with the page's light colours."""
    colours = _light()
    with matplotlib.rc_context({name: colours.get(value, value) for name, value in STYLE.items()}):
        figure = drawn(chosen(looks), colours)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DOTS, facecolor=colours[PAPER], metadata={"Software": None})
    return buffer.getvalue()


def drawn(named: Sequence[tuple[str, Look]], colours: Mapping[str, str] | None = None) -> Figure:
    """One column for each look: above the densities, below the critic beside the best one."""
    colours = colours or {name: name for name in PLACEHOLDERS}
    figure = Figure(figsize=(11, 4.6))
    grid = figure.subplots(2, len(named), sharex=True, sharey="row", squeeze=False, height_ratios=(1, 0.9))
    figure.subplots_adjust(left=0.055, right=0.985, top=0.785, bottom=0.11, wspace=0.09, hspace=0.12)
    low, high = _reach(named)
    top = max(1.25 * named[0][1].real.max(), 1.08 * max(min(one.fake.max(), 2 * one.real.max()) for _, one in named))
    for column, (name, one) in enumerate(named):
        above, below = grid[:, column]
        above.set(xlim=(low, high), ylim=(0, top))
        _densities(above, one, colours)
        _critics(below, one, colours)
        above.set_title(f"{name}", loc="left", fontsize=12, fontweight="bold", color=colours[INK], pad=31)
        above.text(0, 1.045, _numbers(one), transform=above.transAxes, color=colours[MUTED], fontsize=9.5)
        below.set_xlabel(f"x  at step {one.step:,}")
        for axes in (above, below):
            axes.grid(axis="y", color=colours[LINE], linewidth=0.7)
            axes.set_axisbelow(True)
            axes.tick_params(length=0, pad=4)
    grid[0, 0].set_ylabel("density")
    grid[1, 0].set_ylabel("critic")
    _legend(figure, colours)
    return figure


def _densities(axes: Axes, one: Look, colours: Mapping[str, str]) -> None:
    axes.fill_between(one.x, one.real, color=colours[DATA], alpha=0.22, linewidth=0)
    axes.plot(one.x, one.real, color=colours[DATA], linewidth=1.6)
    axes.step(one.x, one.fake, where="mid", color=colours[GENERATED], linewidth=1.4)


def _critics(axes: Axes, one: Look, colours: Mapping[str, str]) -> None:
    """The best critic only where there are data or fakes: elsewhere nothing decides it."""
    if not np.isnan(one.best).all():
        axes.set(ylim=(-0.03, 1.03))
        axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
        axes.plot(one.x, np.where(one.peopled, one.best, np.nan), color=colours[INK], linewidth=1.5, linestyle=BEST)
    axes.plot(one.x, one.critic, color=colours[CRITIC], linewidth=1, alpha=0.4)
    axes.plot(one.x, np.where(one.peopled, one.critic, np.nan), color=colours[CRITIC], linewidth=2)


def _numbers(one: Look) -> str:
    """On two lines: panels are narrow, and the page's typeface may be wide."""
    return f"JS {_short(one.js)}  V {one.value:.3f}\nmean D {one.critic_mean:.3f}".replace("-", "−")


def _short(js: float) -> str:
    """Two digits, but no more than sampling can tell."""
    return f"{js:.2g}" if js >= 0.001 else f"{js:.4f}"


def _reach(named: Sequence[tuple[str, Look]]) -> tuple[float, float]:
    """Where in any of the looks there are data or fakes, and a little more."""
    there = np.concatenate([one.x[one.peopled] for _, one in named])
    rest = 0.04 * (there.max() - there.min())
    return float(there.min() - rest), float(there.max() + rest)


def _legend(figure: Figure, colours: Mapping[str, str]) -> None:
    """One line above all panels; each name has the look of its line."""
    lines = {
        "data": {"color": colours[DATA], "linewidth": 6, "alpha": 0.45},
        "generated (100,000 samples)": {"color": colours[GENERATED], "linewidth": 1.8},
        "trained critic D": {"color": colours[CRITIC], "linewidth": 2},
        "best critic, data / (data + generated)": {"color": colours[INK], "linewidth": 1.5, "linestyle": BEST},
    }
    handles = [Line2D([], [], label=name, **style) for name, style in lines.items()]
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.045, 1.0), ncols=4, frameon=False, fontsize=10.5)


def _light() -> dict[str, str]:
    """Placeholder -> the page's colour on light paper."""
    named = dict(re.findall(r"--([\w-]+): (#\w{6})", CSS.read_text(encoding="utf-8").partition("}")[0]))
    return {placeholder: named[variable[6:-1]] for placeholder, variable in PLACEHOLDERS.items()}

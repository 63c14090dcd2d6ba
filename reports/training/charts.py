"""What is drawn of a training run: lines over its steps, distributions, and points over the modes they should be on."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from reports.figures import INK, LINE, MUTED, PLACEHOLDERS, STYLE, look, svg

RIGHT = 1.02  # of the axes' width, where the name of a level stands


@dataclass(frozen=True)
class Line:
    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Level:
    """A height that a line is compared with."""

    name: str
    y: float


def lines(drawn: Sequence[Line], key: str, *, x: str, levels: Sequence[Level] = (), how: str = "plain") -> str:
    """Lines over x as inline SVG. x: what the axis counts; how: "plain", "shares" from 0 to 1, or "log"."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 2.9))
        axes = figure.add_axes((0.115, 0.17, 0.84, 0.77), yscale="log" if how == "log" else "linear")
        for level in levels:
            axes.axhline(level.y, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for series, line in enumerate(drawn):
            axes.plot(line.x, line.y, clip_on=False, **{**look(series), "linewidth": 1.5})
        axes.set_xlabel(x, labelpad=4)
        axes.margins(x=0)
        if how == "shares":
            axes.set(ylim=(0, 1))
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25", "50", "75", "100 %"])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if how == "log":
            _few_powers(axes, [y for line in drawn for y in line.y])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value == int(value) else f"{value:g}")
        axes.grid(axis="y", color=LINE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, pad=5)
        axes.tick_params(axis="x", length=3)
        return svg(figure, key)


def _few_powers(axes: Axes, heights: Sequence[float]) -> None:
    """Powers of ten along a logarithmic axis, and 2 and 5 between them where they are few."""
    wide = max(heights) > 50 * min(heights)
    axes.yaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def points(x: np.ndarray, centres: np.ndarray, radius: float, key: str) -> str:
    """Points [n, 2] over modes [m, 2], with a circle of the radius round each mode: inline SVG."""
    reach = 1.18 * (np.abs(centres).max() + radius)
    with matplotlib.rc_context({**STYLE, "axes.spines.bottom": False}):
        figure = Figure(figsize=(3, 3))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axes.set_xticks([])
        axes.set_yticks([])
        for centre in centres:
            axes.add_patch(Circle(tuple(centre), radius, fill=False, edgecolor=INK, linewidth=0.7))
        inside = x[(np.abs(x) < reach).all(1)]
        if len(inside):
            axes.add_patch(_dots(inside))
        return svg(figure, key)


def _dots(x: np.ndarray) -> PathPatch:
    """All points as one path of strokes without length, which is a tenth of the bytes of as many markers."""
    path = Path(np.repeat(x, 2, axis=0), [Path.MOVETO, Path.LINETO] * len(x))
    colour = list(PLACEHOLDERS)[4]
    return PathPatch(path, fill=False, edgecolor=colour, linewidth=2, capstyle="round", alpha=0.55)


def beyond(x: np.ndarray, centres: np.ndarray, radius: float) -> int:
    """How many of the points [n, 2] the picture of `points` has no room for."""
    return int((np.abs(x) >= 1.18 * (np.abs(centres).max() + radius)).any(1).sum())

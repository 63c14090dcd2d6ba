"""What is drawn of a probe: shares over distance, planes through examples, what a linear model foretells, walks."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator
from scipy import ndimage

from reports.figures import LINE, MUTED, PLACEHOLDERS, STYLE, look, svg

# Regions carry the same colours and dark names in light and dark pages.
OWN = "#f4efe2"
OTHERS = ("#7fb0c9", "#e3a36f", "#8fbf86", "#d9919b", "#b09bd0", "#c9b458", "#6fbdb0", "#d79ac4", "#a3a9b5", "#b58f72")
SHADES = 5  # of each region, the palest at its border
NAMED = 0.004  # of the picture: smaller regions go without a name
BALL = "#1d1b18"


def crossed(found: Sequence[tuple[str, np.ndarray]], eps: float, eps_text: str, unit: str, key: str) -> str:
    """The share of rays that have crossed, over their distance, one line per kind: inline SVG."""
    met = np.concatenate([distance[np.isfinite(distance) & (distance > 0)] for _, distance in found])
    low, high = (float(np.quantile(met, q)) for q in (0.002, 1.0)) if len(met) else (eps / 10, eps * 10)
    low, high = min(low, eps) / 1.15, max(high, eps) * 1.05
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.3))
        axes = figure.add_axes((0.1, 0.155, 0.875, 0.735), xscale="log", xlim=(low, high), ylim=(0, 1))
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25", "50", "75", "100 %"])
        axes.grid(axis="y", color=LINE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.axvline(eps, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2.5)))
        axes.text(eps, 1.03, f"eps {eps_text}", ha="center", va="bottom")
        for series, (_, distance) in enumerate(found):
            steps = np.concatenate([[low], np.sort(distance[np.isfinite(distance)])])
            share = np.arange(len(steps)) / len(distance)
            if len(steps) > 300:
                kept = np.linspace(0, len(steps) - 1, 300).round().astype(int)
                steps, share = steps[kept], share[kept]
            axes.step(np.append(steps, high), np.append(share, share[-1]), where="post", **look(series))
        _plain_log(axes.xaxis, low, high)
        axes.set_xlabel(f"distance to the boundary ({unit})", labelpad=4)
        axes.tick_params(length=0, pad=5)
        axes.tick_params(axis="x", length=3)
        return svg(figure, key)


def foretold(linear: np.ndarray, found: np.ndarray, unit: str, key: str) -> str:
    """What a linear model would need, across, against the smallest perturbation found, up: inline SVG."""
    there = np.isfinite(linear) & np.isfinite(found) & (linear > 0) & (found > 0)
    linear, found = linear[there], found[there]
    both = np.concatenate([linear, found]) if len(found) else np.array([0.1, 1.0])
    low, high = float(np.quantile(both, 0.005)) / 1.3, float(both.max()) * 1.2
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.9, 3.6))
        axes = figure.add_axes((0.16, 0.14, 0.81, 0.83), xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
        axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        colour = list(PLACEHOLDERS)[4]
        axes.plot(linear, found, "o", ms=3.4, mfc=colour, mec="none", alpha=0.5)
        for axis in (axes.xaxis, axes.yaxis):
            _plain_log(axis, low, high)
        axes.grid(color=LINE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_xlabel(f"margin over slope ({unit})", labelpad=4)
        axes.set_ylabel("smallest perturbation found", labelpad=3)
        axes.tick_params(length=0, pad=5)
        return svg(figure, key)


def _plain_log(axis, low: float, high: float) -> None:
    """Ticks at 1, 2 and 5 times the powers of ten, or at the powers alone where they are many."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def plane_map(
    classes: np.ndarray,
    margin: np.ndarray,
    size: np.ndarray,
    *,
    own: int,
    eps: float,
    marks: Sequence[tuple[float, float, str]],
    extent: Sequence[float],
    name,
    key: str,
) -> str:
    """Which class the model gives to each point of a plane, darker where it is surer, the ball in ink: inline SVG.

    marks: x, y and a letter. name: a function from a class to its name.
    """
    left, right, bottom, top = extent
    with matplotlib.rc_context({**STYLE, "axes.spines.bottom": False}):
        figure = Figure(figsize=(4, 4))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(bottom, top), aspect="equal")
        axes.set_axis_off()
        axes.imshow(_shaded(classes, margin, own), origin="lower", extent=(left, right, bottom, top), resample=False,
                    interpolation="none", zorder=0)  # fmt: skip
        steps = (np.linspace(left, right, size.shape[1]), np.linspace(bottom, top, size.shape[0]))
        if size.min() < eps < size.max():
            axes.contour(*steps, size, levels=[eps], colors=[BALL], linewidths=1.3, linestyles=[(0, (4, 2.5))])
        for label, (x, y) in _middles(classes).items():
            at = (steps[0][x], steps[1][y])
            axes.text(*at, name(label), ha="center", va="center", color="#3a352c", fontsize=12, zorder=4)
        for x, y, letter in marks:
            axes.plot(x, y, "o", ms=16, mfc="#ffffff", mec=BALL, mew=1.4, zorder=5)
            axes.text(
                x, y, letter, ha="center", va="center_baseline", color=BALL, fontsize=10.5, fontweight="bold", zorder=6
            )
        return svg(figure, key)


def _shaded(classes: np.ndarray, margin: np.ndarray, own: int) -> np.ndarray:
    """[side, side, 3] uint8"""
    sure = np.abs(margin.astype(np.float64))
    shades = np.ceil(SHADES * sure / max(float(np.quantile(sure, 0.98)), 1e-12)).clip(1, SHADES) / SHADES
    drawn = np.ones((*classes.shape, 3))
    rivals = [k for k in np.unique(classes) if k != own]
    for k in np.unique(classes):
        colour = OWN if k == own else OTHERS[int(k) % len(OTHERS)]
        if k != own and len(rivals) <= len(OTHERS) and len({int(r) % len(OTHERS) for r in rivals}) < len(rivals):
            colour = OTHERS[rivals.index(k)]
        at = classes == k
        strength = 0.35 + 0.65 * shades[at][:, None]
        drawn[at] = 1 - strength * (1 - np.array(to_rgb(colour)))
    return np.round(255 * drawn).astype(np.uint8)


def _middles(classes: np.ndarray) -> dict[int, tuple[int, int]]:
    """Of each large enough class the column and row of the point that is furthest within it."""
    found = {}
    for k in np.unique(classes):
        at = np.pad(classes == k, 1)
        if at.mean() >= NAMED:
            inside = np.asarray(ndimage.distance_transform_edt(at))[1:-1, 1:-1]
            row, column = np.unravel_index(int(inside.argmax()), inside.shape)
            found[int(k)] = (int(column), int(row))
    return found


def walked(queries: np.ndarray, low: np.ndarray, middle: np.ndarray, high: np.ndarray, key: str) -> str:
    """How many times as far as the attack's a walk is, over its queries: the median, the least and the most."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.0))
        axes = figure.add_axes((0.09, 0.17, 0.885, 0.79), yscale="log")
        axes.axhline(1, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        series = look(0)
        axes.fill_between(queries, low, high, color=series["color"], alpha=0.16, linewidth=0)
        axes.plot(queries, middle, **series)
        _plain_log(axes.yaxis, min(1.0, float(low.min())), float(high.max()))
        axes.grid(axis="y", color=LINE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.margins(x=0)
        axes.set_xlabel("decisions asked for", labelpad=4)
        axes.tick_params(length=0, pad=5)
        axes.tick_params(axis="x", length=3)
        return svg(figure, key)

"""What is shown of a generator: its samples, the same noise through training, and whether it copies."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from reports import figures, words
from reports.pages.base import Chart, Picture
from reports.pages.shares import Names
from reports.training import charts
from reports.training.charts import Line
from reports.training.graphs import chart
from reports.training.saved import SavedRun

SHOWN = 12  # samples of a class, or pairs of neighbours
ACROSS = 10  # samples at a moment
MOMENTS = 8  # of training that are shown
POINTS = 2500
FEW = 0.01  # of the images held out: as near to the training images as these, a sample is called near


@dataclass(frozen=True)
class Strip:
    """A row of pictures and what it is of."""

    name: str
    picture: Picture


@dataclass(frozen=True)
class Moment:
    """The generator's samples of the same noise at one step."""

    step: str
    picture: Picture | None
    svg: Markup | None


@dataclass(frozen=True)
class Pair:
    sample: Picture
    near: Picture


@dataclass(frozen=True)
class Copies:
    pairs: list[Pair]
    sentences: list[str]
    chart: Chart


def is_images(run: SavedRun) -> bool:
    return len(run.shape) == 3


def is_points(run: SavedRun) -> bool:
    return run.shape == (2,) and "centres" in run.about.get("data", {})


# Samples


def strips(run: SavedRun) -> list[Strip]:
    """Of a conditional run a strip per class; else one sheet without a name."""
    if not is_images(run) or "x" not in run.pictures:
        return []
    x, names = run.pictures["x"], Names(run.about.get("data", {}).get("classes") or [])
    if not run.config.get("conditional"):
        return [Strip("", _sheet(x[: 4 * SHOWN], SHOWN, "Samples"))]
    labels = run.pictures["y"]
    return [
        Strip(names(int(k)), _sheet(x[labels == k][:SHOWN], SHOWN, f"Samples of class {names(int(k))}"))
        for k in np.unique(labels)
    ]


def scatter(run: SavedRun) -> Markup | None:
    """The samples over the modes of the data."""
    return _points(run.pictures["x"], run, "samples") if is_points(run) and "x" in run.pictures else None


def note(run: SavedRun) -> str:
    """What is said of the samples that are shown, or of why none are; nothing of what is no picture."""
    if not (is_images(run) or is_points(run)):
        return ""
    if "x" not in run.pictures:
        return "The run is not finished, so it has no final samples yet."
    if is_points(run):
        x = run.pictures["x"][:POINTS]
        lost = charts.beyond(x, _centres(run), _radius(run))
        return f"{len(x):,} samples" + (f", {lost:,} of them outside the picture." if lost else ".")
    return "The first samples drawn, not chosen for their looks."


def _sheet(x: np.ndarray, columns: int, alt: str) -> Picture:
    return Picture(figures.png(figures.sheet(figures.shown(x), columns)), alt)


def _points(x: np.ndarray, run: SavedRun, key: str) -> Markup:
    return Markup(charts.points(x[:POINTS], _centres(run), _radius(run), key))


def _centres(run: SavedRun) -> np.ndarray:
    return np.asarray(run.about["data"]["centres"], dtype=np.float64)


def _radius(run: SavedRun) -> float:
    return 3 * float(run.about["data"]["deviation"])


# Through training


def moments(run: SavedRun) -> list[Moment]:
    """A few steps from the first to the last, evenly spread."""
    if not (is_images(run) or is_points(run)):
        return []
    steps = list(run.samples)
    chosen = sorted({steps[round(k)] for k in np.linspace(0, len(steps) - 1, MOMENTS)}) if steps else []
    return [_moment(run, step) for step in chosen]


def _moment(run: SavedRun, step: int) -> Moment:
    kept, name = run.samples[step], f"step {step:,}"
    if is_points(run):
        return Moment(name, None, _points(kept["x"], run, f"step-{step}"))
    chosen = _of_each_class(kept.get("labels"), len(kept["x"]))
    return Moment(name, _sheet(kept["x"][chosen], len(chosen), f"Samples at {name}"), None)


def _of_each_class(labels: np.ndarray | None, n: int) -> np.ndarray:
    """Places of `ACROSS` samples: of each class the first, in order, then others where there are fewer classes."""
    if labels is None:
        return np.arange(min(n, ACROSS))
    _, first = np.unique(labels, return_index=True)
    rest = np.setdiff1d(np.arange(n), first)
    return np.concatenate([first[:ACROSS], rest[: max(0, ACROSS - len(first))]])


# Copies


def copies(run: SavedRun) -> Copies | None:
    """The samples nearest to the training images, and how near all of them are; None where that was not looked at."""
    kept = run.pictures
    if not is_images(run) or "near" not in kept:
        return None
    columns = (kept["copied"], kept["near"], kept["copied_distance"])
    pairs = [
        Pair(_single(copied, "A sample", ""), _single(near, "The nearest training image", words.number(float(apart))))
        for copied, near, apart in zip(*columns, strict=True)
    ]
    return Copies(pairs, _copies_told(kept["distance"], kept["real_distance"]), _distances(kept))


def _single(x: np.ndarray, alt: str, detail: str) -> Picture:
    return Picture(figures.png(figures.shown(x[None])[0]), alt, detail=detail)


def _copies_told(own: np.ndarray, real: np.ndarray) -> list[str]:
    threshold = float(np.quantile(real, FEW))
    closer = int((own < threshold).sum())
    return [
        f"Half of the samples lie within {words.number(float(np.median(own)))} of a training image (Euclidean distance "
        f"of pixels from 0 to 1). Of the {len(real):,} images held out, which the generator has not seen, half lie "
        f"within {words.number(float(np.median(real)))}.",
        f"The nearest {words.share(FEW)} of those held out lie within {words.number(threshold)}. So do "
        f"{words.of(closer, len(own))} samples ({words.percent(closer, len(own))}); far more would be copies.",
    ]


def _distances(kept: dict[str, np.ndarray]) -> Chart:
    drawn = [_share_within("samples", kept["distance"]), _share_within("held out", kept["real_distance"])]
    end = max(line.x[-1] for line in drawn)
    drawn = [Line(line.name, [0.0, *line.x, end], [0.0, *line.y, 1.0]) for line in drawn]
    return chart("Share within a distance", "", drawn, how="shares", x="distance to the nearest training image")


def _share_within(name: str, distance: np.ndarray) -> Line:
    ordered = np.sort(distance.astype(np.float64))
    return Line(name, ordered.tolist(), ((1 + np.arange(len(ordered))) / len(ordered)).tolist())

"""How does a training run read as one page that needs nothing else?

`contents` says what stands on the page, as plain data; templates/run.html says how it looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from reports import figures, html, words
from reports.html import Picture
from reports.training import charts
from reports.training.charts import Level, Line
from reports.training.measured import MEASURES, Measure, counted, told
from reports.training.saved import SavedRun

TINY = 64  # pixels; smaller pictures are enlarged with hard edges
SHOWN = 12  # samples of a class, or pairs of neighbours
ACROSS = 10  # samples at a moment
MOMENTS = 8  # of training that are shown
POINTS = 2500


@dataclass(frozen=True)
class Headline:
    title: str
    detail: list[str]
    facts: list[tuple[str, str]]
    warned: str  # a sentence; empty where training gave no warning


@dataclass(frozen=True)
class Row:
    """One strip of pictures and what it is of."""

    name: str
    picture: Picture


@dataclass(frozen=True)
class Moment:
    """The generator's samples of the same noise at one step."""

    step: str
    picture: Picture | None
    svg: Markup | None


@dataclass(frozen=True)
class MeasureRow:
    name: str
    meaning: str
    value: str
    count: str
    real: str  # the same of real data held out; empty where it was not measured


@dataclass(frozen=True)
class Chart:
    title: str
    note: str
    svg: Markup
    told: str
    legend: list[str]


@dataclass(frozen=True)
class Pair:
    sample: Picture
    near: Picture


@dataclass(frozen=True)
class Copies:
    pairs: list[Pair]
    sentences: list[str]
    chart: Chart


@dataclass(frozen=True)
class Page:
    title: str
    headline: Headline
    samples: list[Row]
    samples_svg: Markup | None
    samples_note: str
    moments: list[Moment]
    pixelated: bool
    measures: list[MeasureRow]
    measures_note: str
    has_real: bool
    progress: list[Chart]
    losses: list[Chart]
    copies: Copies | None
    theory: Markup | None
    warnings: list[str]
    command: str
    config: list[tuple[str, str]]
    facts: list[tuple[str, str]]
    versions: list[tuple[str, str]]


def page(run: SavedRun) -> str:
    """The whole page. The same run gives the same bytes."""
    return html.rendered("run.html", contents(run))


def contents(run: SavedRun) -> Page:
    """Everything that stands on the page."""
    data = run.about.get("data", {})
    return Page(
        title=f"A generator of {data.get('name', 'samples')}",
        headline=_headline(run),
        samples=_strips(run),
        samples_svg=_points(run.pictures["x"], run, "samples") if _is_points(run) and "x" in run.pictures else None,
        samples_note=_samples_note(run),
        moments=_moments(run),
        pixelated=max(run.shape[-2:], default=0) < TINY,
        measures=_measures(run),
        measures_note=_measures_note(run),
        has_real=any(f"real_{name}" in run.measures for name in MEASURES),
        progress=_progress(run),
        losses=_losses(run),
        copies=_copies(run),
        theory=None,
        warnings=run.warned,
        command=run.about.get("command", ""),
        config=[(name.replace("_", " "), _said(value)) for name, value in run.config.items() if name != "data"],
        facts=_facts(run),
        versions=[(name, str(version)) for name, version in run.about.get("versions", {}).items()],
    )


def _headline(run: SavedRun) -> Headline:
    data, steps = run.about.get("data", {}), run.config.get("steps", run.step)
    named, finished = data.get("name", "samples"), run.step >= steps
    conditional = "conditional " if run.config.get("conditional") else ""
    detail = [
        f"A {conditional}generator, trained on {named} for {words.plural(run.step, 'step')}"
        f" of batch {run.config.get('batch', words.NOTHING)}, with the {_objective(run)}."
    ]
    if not finished:
        detail.append(
            f"Training stopped before its end, at step {run.step:,} of {steps:,}; --resume goes on from there."
        )
    warned = words.plural(len(run.warnings), "warning") if run.warnings else ""
    facts = [("steps", f"{run.step:,}"), ("samples seen", f"{run.step * int(run.config.get('batch', 0)):,}")]
    facts += [("seconds", f"{run.seconds:,.0f}")] if run.seconds else []
    facts += [("training examples", f"{data['training']:,}")] if data.get("training") else []
    facts += [(MEASURES[name].name, told(name, run.measures)) for name in _foremost(run)[1:3]]
    return Headline(_title(run, finished), detail, facts, warned)


def _title(run: SavedRun, finished: bool) -> str:
    foremost = _foremost(run)
    if foremost:
        return MEASURES[foremost[0]].headline(run.measures)
    return f"A generator of {run.about.get('data', {}).get('name', 'samples')}{'' if finished else ', unfinished'}"


def _foremost(run: SavedRun) -> list[str]:
    return [name for name in MEASURES if name in run.measures]


def _objective(run: SavedRun) -> str:
    objective, penalty = (_short(run.config.get(name)) for name in ("objective", "penalty"))
    return f"{objective} objective{f' and the penalty {penalty}' if penalty not in ('', 'none') else ''}"


def _short(value: object) -> str:
    if isinstance(value, dict):
        return str(value.get("class") or value.get("name") or "").lower()
    return "" if value is None else str(value).replace("_", "-")


def _said(value: object) -> str:
    """A value of the configuration; one that changes through training as its two ends."""
    if isinstance(value, dict):
        start, end = value.get("start"), value.get("end")
        return str(start) if end in (None, start) else f"{start} to {end} ({value.get('shape')})"
    if value is None or isinstance(value, bool):
        return {None: "the usual", True: "yes", False: "no"}[value]
    return str(value)


# Samples


def _is_images(run: SavedRun) -> bool:
    return len(run.shape) == 3


def _is_points(run: SavedRun) -> bool:
    return run.shape == (2,) and "centres" in run.about.get("data", {})


def _strips(run: SavedRun) -> list[Row]:
    """Of a conditional run a strip per class; else a few strips without names."""
    if not _is_images(run) or "x" not in run.pictures:
        return []
    x, names = run.pictures["x"], html.Names(run.about.get("data", {}).get("classes") or [])
    if not run.config.get("conditional"):
        return [Row("", _sheet(x[: 4 * SHOWN], SHOWN, "Samples"))]
    labels = run.pictures["y"]
    return [
        Row(names(int(k)), _sheet(x[labels == k][:SHOWN], SHOWN, f"Samples of class {names(int(k))}"))
        for k in np.unique(labels)
    ]


def _samples_note(run: SavedRun) -> str:
    if "x" not in run.pictures:
        return "The run is not finished, so it has no final samples yet."
    if _is_points(run):
        lost = charts.beyond(run.pictures["x"][:POINTS], _centres(run), _radius(run))
        return f"{min(POINTS, len(run.pictures['x'])):,} samples" + (
            f", {lost:,} of them outside the picture." if lost else "."
        )
    return "The first samples drawn, not chosen for their looks."


def _sheet(x: np.ndarray, columns: int, alt: str) -> Picture:
    return Picture(figures.png(figures.sheet(figures.shown(x), columns)), alt, "", "")


def _centres(run: SavedRun) -> np.ndarray:
    return np.asarray(run.about["data"]["centres"], dtype=np.float64)


def _radius(run: SavedRun) -> float:
    return 3 * float(run.about["data"]["deviation"])


def _points(x: np.ndarray, run: SavedRun, key: str) -> Markup:
    return Markup(charts.points(x[:POINTS], _centres(run), _radius(run), key))


def _moments(run: SavedRun) -> list[Moment]:
    steps = list(run.samples)
    chosen = sorted({steps[round(k)] for k in np.linspace(0, len(steps) - 1, MOMENTS)}) if steps else []
    return [_moment(run, step) for step in chosen]


def _moment(run: SavedRun, step: int) -> Moment:
    x, name = run.samples[step]["x"], f"step {step:,}"
    if _is_points(run):
        return Moment(name, None, _points(x[:POINTS], run, f"step-{step}"))
    chosen = _of_each_class(run.samples[step].get("labels"), len(x))
    return Moment(name, _sheet(x[chosen], len(chosen), f"Samples at {name}") if _is_images(run) else None, None)


def _of_each_class(labels: np.ndarray | None, n: int) -> np.ndarray:
    """Ten places of samples: of each class the first, in order, and further ones where there are fewer classes."""
    if labels is None:
        return np.arange(min(n, ACROSS))
    _, first = np.unique(labels, return_index=True)
    rest = np.setdiff1d(np.arange(n), first)
    return np.concatenate([first[:ACROSS], rest[: max(0, ACROSS - len(first))]])


# Measures


def _measures(run: SavedRun) -> list[MeasureRow]:
    return [_measure_row(run, name, MEASURES[name]) for name in _foremost(run)]


def _measure_row(run: SavedRun, name: str, measure: Measure) -> MeasureRow:
    real = run.measures.get(f"real_{name}")
    return MeasureRow(
        name=measure.name,
        meaning=measure.meaning,
        value=told(name, run.measures),
        count=counted(name, run.measures),
        real="" if real is None else measure.said(real),
    )


def _measures_note(run: SavedRun) -> str:
    n, data = run.measures.get("samples"), run.about.get("data", {})
    if n is None:
        return ""
    said = f"From {words.plural(int(n), 'sample')}"
    if _is_images(run):
        said += (
            f", compared with the {data.get('training', 0):,} training images on {run.about.get('features', 'pixels')}"
        )
        if data.get("held_out"):
            said += f"; “real” is the same for the {data['held_out']:,} images held out"
    return said + "."


# Lines over steps


PROGRESS = [  # title, measures, whether they are shares
    ("Recognised", ["recognised"], True),
    ("Fréchet distance", ["frechet"], False),
    ("Precision, recall, coverage", ["precision", "recall", "coverage"], True),
    ("Modes found", ["modes"], False),
    ("On a mode", ["high_quality"], True),
    ("Reverse KL", ["reverse_kl"], False),
    ("Jensen–Shannon divergence", ["js"], False),
    ("Value of the game", ["value"], False),
    ("Mean answer of the critic", ["critic_mean"], False),
]


def _progress(run: SavedRun) -> list[Chart]:
    return [chart for title, names, shares in PROGRESS if (chart := _measured(run, title, names, shares))]


def _measured(run: SavedRun, title: str, names: list[str], shares: bool) -> Chart | None:
    drawn = [line for name in names if len((line := _over_steps(run, name, MEASURES[name].name)).x) > 1]
    levels = [
        Level(f"real {MEASURES[name].name}", run.measures[f"real_{name}"])
        for name in names
        if f"real_{name}" in run.measures
    ]
    levels += [Level(*MEASURES[name].level) for name in names if MEASURES[name].level]
    if not drawn:
        return None
    note = ", ".join(level.name for level in levels[:1]) if len(drawn) == 1 else ""
    return _chart(title, f"dashed: {note}" if note else "", drawn, levels if len(drawn) == 1 else [], shares)


def _losses(run: SavedRun) -> list[Chart]:
    """What critic and generator did, of what the history has."""
    charts = []
    for title, note, names, shares in GAME:
        drawn = [line for name, called in names.items() if _says((line := _over_steps(run, name, called)))]
        charts += [_chart(title, note, drawn, [], shares)] if drawn else []
    return charts


def _says(line: Line) -> bool:
    return len(line.y) > 1 and any(line.y)


GAME = [  # title, note, columns of the history and what they are called, whether they are shares
    ("Losses", "", {"critic": "critic", "generator": "generator"}, False),
    ("Mean scores of the critic", "", {"real": "real", "fake": "fake"}, False),
    ("The critic is right", "share of pairs", {"right": "right"}, True),
    ("Penalty", "its weight included", {"penalty": "penalty"}, False),
    ("Gradient of the generator", "root mean square", {"slope": "gradient"}, False),
    ("Variety of the samples", "1: as far apart as the data", {"spread": "spread"}, False),
    ("Cross entropy of the classes", "", {"class": "classes"}, False),
]


def _over_steps(run: SavedRun, name: str, called: str) -> Line:
    kept = [(entry["step"], entry[name]) for entry in run.history if _is_number(entry.get(name))]
    return Line(called, [step for step, _ in kept], [value for _, value in kept])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def _chart(
    title: str, note: str, drawn: Sequence[Line], levels: Sequence[Level], shares: bool, x: str = "step"
) -> Chart:
    key = "".join(letter for letter in title.lower() if letter.isascii() and letter.isalpha())
    ends = [f"{line.name} ends at {words.number(line.y[-1])}" for line in drawn if len(line.y)]
    return Chart(
        title=title,
        note=note,
        svg=Markup(charts.lines(drawn, key, x=x, levels=levels, shares=shares)),
        told=f"{title}: {'; '.join(ends)}.",
        legend=[line.name for line in drawn] if len(drawn) > 1 else [],
    )


# Copies


def _copies(run: SavedRun) -> Copies | None:
    kept = run.pictures
    if not _is_images(run) or "near" not in kept:
        return None
    columns = (kept["copied"], kept["near"], kept["copied_distance"])
    pairs = [
        Pair(_single(copied, "A sample", ""), _single(near, "The nearest training image", words.number(float(apart))))
        for copied, near, apart in zip(*columns, strict=True)
    ]
    return Copies(pairs, _copies_told(run), _distances(kept))


def _single(x: np.ndarray, alt: str, detail: str) -> Picture:
    return Picture(figures.png(figures.shown(x[None])[0]), alt, "", detail)


def _copies_told(run: SavedRun) -> list[str]:
    kept = run.pictures
    real, own = kept["real_distance"], kept["distance"]
    threshold = float(np.quantile(real, 0.01))
    closer = int((own < threshold).sum())
    return [
        f"Half of the samples lie within {words.number(float(np.median(own)))} of a training image (Euclidean, on "
        f"pixels from 0 to 1); half of the {len(real):,} images held out, which nothing was trained on, within "
        f"{words.number(float(np.median(real)))}.",
        f"One in a hundred of those held out lies within {words.number(threshold)}; of the samples, "
        f"{words.of(closer, len(own))} ({words.percent(closer, len(own))}). A generator that copies shows far more.",
    ]


def _distances(kept: dict[str, np.ndarray]) -> Chart:
    drawn = [_share_within("samples", kept["distance"]), _share_within("held out", kept["real_distance"])]
    end = max(line.x[-1] for line in drawn)
    drawn = [Line(line.name, [0.0, *line.x, end], [0.0, *line.y, 1.0]) for line in drawn]
    return _chart("Share within a distance", "", drawn, [], True, "distance to the nearest training image")


def _share_within(name: str, distance: np.ndarray) -> Line:
    ordered = np.sort(distance.astype(np.float64))
    return Line(name, ordered.tolist(), ((1 + np.arange(len(ordered))) / len(ordered)).tolist())


def _facts(run: SavedRun) -> list[tuple[str, str]]:
    data = run.about.get("data", {})
    return [
        ("data", str(data.get("name", ""))),
        ("training examples", f"{data['training']:,}" if data.get("training") else "drawn afresh"),
        ("held out", f"{data.get('held_out') or 0:,}"),
        ("shape of a sample", " × ".join(map(str, run.shape))),
        ("classes", f"{len(data.get('classes') or []):,}"),
        ("judge", str(run.about.get("judge") or "none")),
        ("sha256 of the data", str(data.get("sha256") or words.NOTHING)),
    ]

"""How does a training run read as one page that needs nothing else?

`contents` says what stands on the page, as plain data; templates/run.html says how it looks.
"""

from dataclasses import dataclass

from markupsafe import Markup

from reports import game, words
from reports.pages import base
from reports.pages.base import Chart, Headline
from reports.training import graphs, pictured
from reports.training.measured import MEASURES, counted, told
from reports.training.pictured import Copies, Moment, Strip
from reports.training.saved import SavedRun


@dataclass(frozen=True)
class MeasureRow:
    name: str
    meaning: str
    value: str
    count: str
    real: str  # the same of real data held out; empty where it was not measured


@dataclass(frozen=True)
class RunPage(base.Page):
    samples: list[Strip]
    scatter: Markup | None
    samples_note: str
    moments: list[Moment]
    pixelated: bool
    measures: list[MeasureRow]
    measures_note: str
    has_real: bool
    progress: list[Chart]
    game: list[Chart]
    copies: Copies | None
    theory: Markup | None
    warnings: list[base.Doubt]
    command: str
    sample: str  # the command that draws more
    config: list[tuple[str, str]]
    facts: list[tuple[str, str]]
    versions: list[tuple[str, str]]

    @property
    def has_samples(self) -> bool:
        """Or a note that says why there are none."""
        return bool(self.samples or self.scatter or self.samples_note)


def page(run: SavedRun) -> str:
    """The whole page. The same run gives the same bytes."""
    return base.rendered("run.html", contents(run))


def contents(run: SavedRun) -> RunPage:
    """Everything that stands on the page."""
    return RunPage(
        title=f"A generator of {_named(run)}",
        headline=_headline(run),
        samples=pictured.strips(run),
        scatter=pictured.scatter(run),
        samples_note=pictured.note(run),
        moments=pictured.moments(run),
        pixelated=base.is_tiny(run.shape),
        measures=[_measure_row(run, name) for name in _foremost(run)],
        measures_note=_measures_note(run),
        has_real=any(f"real_{name}" in run.measures for name in MEASURES),
        progress=graphs.progress(run),
        game=graphs.game(run),
        copies=pictured.copies(run),
        theory=Markup(game.svg(run.looks, "game")) if run.looks else None,
        warnings=[base.Doubt("warning", [], text) for text in run.warned],
        command=run.about.get("command", ""),
        sample=f"advgan sample {run.folder.name} --n 64 {_into(run)}",
        config=configured(run),
        facts=_facts(run),
        versions=[(name, str(version)) for name, version in run.about.get("versions", {}).items()],
    )


def _named(run: SavedRun) -> str:
    return str(run.about.get("data", {}).get("name", "samples"))


def _foremost(run: SavedRun) -> list[str]:
    """The measures that the run has, the foremost first."""
    return [name for name in MEASURES if name in run.measures]


def _into(run: SavedRun) -> str:
    return "--out grid.png" if pictured.is_images(run) else "--npz samples.npz"


def _headline(run: SavedRun) -> Headline:
    batch = int(run.config.get("batch", 0))
    detail = [
        f"A {'conditional ' if run.config.get('conditional') else ''}generator, trained on {_named(run)} for "
        f"{words.plural(run.step, 'step')} of batch {batch}, with the {_game(run)}."
    ]
    detail += [run.stopped] if run.stopped else []
    facts = [("steps", f"{run.step:,}"), ("samples seen", f"{run.step * batch:,}")]
    facts += [("seconds", f"{run.seconds:,.0f}")] if run.seconds else []
    facts += [(MEASURES[name].name, told(name, run.measures)) for name in _foremost(run)[1:4]]
    warned = words.plural(len(run.warnings), "warning") if run.warnings else ""
    return Headline(_title(run, not run.stopped), detail, facts, warned)


def _title(run: SavedRun, finished: bool) -> str:
    foremost = _foremost(run)
    if foremost and finished:
        return MEASURES[foremost[0]].headline(run.measures)
    return f"A generator of {_named(run)}{'' if finished else ', unfinished'}"


def _game(run: SavedRun) -> str:
    objective, penalty = (str(run.config.get(name, "")).replace("_", " ") for name in ("objective", "penalty"))
    without = penalty in ("", "none")
    return f"{objective} objective and {'no penalty' if without else f'the penalty {penalty}'} on the critic's slope"


def _measure_row(run: SavedRun, name: str) -> MeasureRow:
    measure, real = MEASURES[name], run.measures.get(f"real_{name}")
    return MeasureRow(
        name=measure.name,
        meaning=measure.meaning,
        value=told(name, run.measures),
        count=counted(name, run.measures),
        real="" if real is None else measure.said(real),
    )


def _measures_note(run: SavedRun) -> str:
    n, among, data = run.measures.get("samples"), run.measures.get("reference"), run.about.get("data", {})
    if n is None:
        return ""
    said = f"From {words.plural(int(n), 'sample')}"
    said += f", beside {words.plural(int(among), 'training image')} on {run.about.get('features')}" if among else ""
    held = data.get("held_out")
    return said + (f". “Real” is the same for the {held:,} images held out." if held else ".")


def configured(run: SavedRun) -> list[tuple[str, str]]:
    """The configuration, name by name; what is empty plays no part."""
    told = {name: value for name, value in run.config.items() if name != "data" and value not in ("", [])}
    return [(name.replace("_", " "), _said(value)) for name, value in told.items()]


def _said(value: object) -> str:
    """A value of the configuration; one that changes through training as its two ends."""
    if isinstance(value, dict):
        start, end = value.get("start"), value.get("end")
        return str(start) if end in (None, start) else f"{start} to {end} ({value.get('shape')})"
    if value is None or isinstance(value, bool):
        return {None: "the usual", True: "yes", False: "no"}[value]
    return str(value).replace("_", " ")


def _facts(run: SavedRun) -> list[tuple[str, str]]:
    data = run.about.get("data", {})
    facts = [
        ("data", _named(run)),
        ("training examples", f"{data['training']:,}" if data.get("training") else ""),
        ("held out", f"{data['held_out']:,}" if data.get("held_out") else ""),
        ("shape of a sample", " × ".join(map(str, run.shape))),
        ("classes", f"{len(data['classes']):,}" if data.get("classes") else ""),
        ("judge", str(run.about.get("judge") or "")),
        ("sha256 of the data", str(data.get("sha256") or "")),
    ]
    return [(name, value) for name, value in facts if value]

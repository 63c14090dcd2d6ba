"""How does the training of a generator of sequences read as one page that needs nothing else?

`contents` says what stands on the page, as plain data; templates/sequence.html says how it looks.
"""

import math
import shlex
from dataclasses import dataclass

import numpy as np

from reports import words
from reports.pages import base
from reports.pages.base import Chart, Doubt, Headline
from reports.sequencing import told
from reports.sequencing.measured import ENTROPY, MEASURES, OF_ORACLE, beside
from reports.sequencing.measured import told as said
from reports.sequencing.written import Reader
from reports.training import graphs
from reports.training.charts import Level, Line
from reports.training.page import configured
from reports.training.saved import SavedRun

MOMENTS, AT_A_MOMENT = 5, 4
LINES, ROWS = 20, 12  # of text, and of tokens, that are shown
PROGRESS = [  # title, measures, how their heights are drawn
    ("Divergences a token", ["jeffreys", "kl", "reverse_kl"], "log"),
    ("Next token’s JS", ["token_js"], "log"),
    ("NLL a token", ["nll_oracle", "nll_gen"], "plain"),
    ("JS of whole sequences", ["js"], "plain"),
    ("Perplexity of lines held out", ["perplexity"], "log"),
    ("BLEU", ["bleu_2", "bleu_3", "bleu_4", "bleu_5"], "shares"),
    ("Self-BLEU", ["self_bleu_2", "self_bleu_3", "self_bleu_4", "self_bleu_5"], "shares"),
    ("Variety", ["distinct_1", "distinct_2", "distinct_3", "different"], "shares"),
    ("Lines of the data", ["copied"], "shares"),
]
GAME = [  # title, note, columns of the history and what they are called
    ("NLL in training", "nats a token", {"nll": "NLL"}),
    ("Critic’s loss", "ln 2 = 0.693 where it cannot tell", {"critic": "critic"}),
    ("Generator’s loss", "", {"generator": "generator"}),
    ("Reward", "the critic’s probability that it is real", {"reward": "reward"}),
    ("Gradient of the generator", "root mean square", {"slope": "gradient"}),
]
BRIEFLY = ("token_js", "nll_oracle", "nll_gen", "bleu_3", "self_bleu_3", "copied")
SWEPT_ORACLE = ("jeffreys", "token_js", "nll_oracle", "nll_gen")
SWEPT_TEXT = ("perplexity", "bleu_3", "self_bleu_3", "distinct_2", "copied")


@dataclass(frozen=True)
class Written:
    """A line that it wrote, and what is said of it."""

    text: str
    note: str


@dataclass(frozen=True)
class MeasureRow:
    name: str
    meaning: str
    value: str
    before: str
    truth: str


@dataclass(frozen=True)
class Swept:
    """The measures at each temperature. The best of a column is marked."""

    heads: list[str]
    rows: list[tuple[str, list[tuple[str, bool]]]]
    chart: Chart


@dataclass(frozen=True)
class SequencePage(base.Page):
    is_text: bool
    lines: list[Written]
    moments: list[tuple[str, list[str]]]
    measures: list[MeasureRow]
    measures_note: str
    heads: list[str]
    progress: list[Chart]
    stages: str
    meaning: list[str]
    sweep: Swept | None
    game: list[Chart]
    doubts: list[Doubt]
    command: str
    sample: str
    facts: list[tuple[str, str]]
    config: list[tuple[str, str]]
    versions: list[tuple[str, str]]


def page(run: SavedRun) -> str:
    """The whole page. The same run gives the same bytes."""
    return base.rendered("sequence.html", contents(run))


def contents(run: SavedRun) -> SequencePage:
    """Everything that stands on the page."""
    truth = "real lines" if told.is_text(run) else "the oracle itself"
    return SequencePage(
        title=f"A generator of {told.named(run)}",
        headline=_headline(run),
        is_text=told.is_text(run),
        lines=_lines(run),
        moments=_moments(run),
        measures=[_measure_row(run, name) for name in told.foremost(run)],
        measures_note=_measures_note(run),
        heads=["generator", *(["before the game"] if told.before_game(run) else []), truth],
        progress=[drawn for each in PROGRESS if (drawn := _measured(run, *each))],
        stages=told.stages(run),
        meaning=told.meaning(run),
        sweep=_sweep(run),
        game=_game(run),
        doubts=told.doubts(run),
        command=run.about.get("command", ""),
        sample=f"advgan sample {shlex.quote(str(run.folder))} --n 20",
        facts=_facts(run),
        config=_config(run),
        versions=[(name, str(version)) for name, version in run.about.get("versions", {}).items()],
    )


def _headline(run: SavedRun) -> Headline:
    facts = [("steps", f"{run.step:,}")] + ([("seconds", f"{run.seconds:,.0f}")] if run.seconds else [])
    facts += [(MEASURES[name].name, _short(run, name)) for name in BRIEFLY if name in run.measures]
    warned = words.plural(len(run.warnings), "warning") if run.warnings else ""
    return Headline(told.title(run), [each for each in (told.what(run), told.stopped(run)) if each], facts, warned)


def _short(run: SavedRun, name: str) -> str:
    return said(name, run.measures).partition(" ±")[0]


def _lines(run: SavedRun) -> list[Written]:
    kept = run.pictures
    if "x" not in kept:
        return []
    lines = Reader.of(run.folder).shown(kept["x"][: LINES if told.is_text(run) else ROWS])
    if "nll" in kept:
        notes = [words.number(float(nll)) for nll in kept["nll"]]
    else:
        notes = ["in the data" if copied else "" for copied in kept["copied"]]
    return [Written(line, note) for line, note in zip(lines, notes, strict=False)]


def _moments(run: SavedRun) -> list[tuple[str, list[str]]]:
    """At a few steps what it wrote by the same random numbers."""
    steps = sorted(run.samples)
    if len(steps) < 2:
        return []
    chosen = {steps[k] for k in np.linspace(0, len(steps) - 1, min(MOMENTS, len(steps))).round().astype(int)}
    reader = Reader.of(run.folder)
    return [(f"step {step:,}", reader.shown(run.samples[step]["x"][:AT_A_MOMENT])) for step in sorted(chosen)]


def _measure_row(run: SavedRun, name: str) -> MeasureRow:
    before = told.before_game(run)
    return MeasureRow(
        name=MEASURES[name].name,
        meaning=MEASURES[name].meaning,
        value=said(name, run.measures),
        before=said(name, before) if name in before else "",
        truth=beside(name, run.measures),
    )


def _measures_note(run: SavedRun) -> str:
    n, data = run.measures.get("samples"), run.about.get("data", {})
    if n is None:
        return ""
    of = words.plural(int(n), "line" if told.is_text(run) else "sequence")
    each = "" if told.is_text(run) else " each of the generator and of the oracle"
    marks = data.get("at_marks")
    before = " “Before the game” is when maximum likelihood had ended." if told.before_game(run) else ""
    through = f"; through training from {marks:,}" if marks else ""
    return f"From {of}{each}, with standard errors{through}.{before}"


def _measured(run: SavedRun, title: str, names: list[str], how: str) -> Chart | None:
    drawn = [line for name in names if len((line := graphs.over_steps(run, name, MEASURES[name].name)).x) > 1]
    if not drawn:
        return None
    levels = []
    if names[0] == "nll_oracle" and ENTROPY in run.measures:
        levels = [Level("the oracle’s entropy", run.measures[ENTROPY])]
    if names[0] == "js":
        levels = [Level("ln 2", math.log(2))]
    positive = all(y > 0 for line in drawn for y in line.y)
    note = f"dashed: {levels[0].name}" if levels else ""
    return graphs.chart(title, note, drawn, levels=levels, how="plain" if how == "log" and not positive else how)


def _game(run: SavedRun) -> list[Chart]:
    found = []
    for title, note, columns in GAME:
        drawn = [line for name, called in columns.items() if len((line := graphs.over_steps(run, name, called)).x) > 1]
        found += [graphs.chart(title, note, drawn)] if drawn else []
    return found


def _sweep(run: SavedRun) -> Swept | None:
    rows = run.about.get("results", {}).get("sweep")
    if not rows:
        return None
    wanted = SWEPT_TEXT if told.is_text(run) else SWEPT_ORACLE
    names = [name for name in wanted if all(name in row for row in rows)]
    ruling = [name for name in names if name in ("jeffreys", "token_js", "perplexity")]
    least = {name: min(row[name] for row in rows) for name in ruling}
    told_rows = [
        (f"{row['tau']:g}", [(said(name, row), name in least and row[name] == least[name]) for name in names])
        for row in rows
    ]
    shown = ["jeffreys", "kl", "reverse_kl"] if names[0] in OF_ORACLE else [n for n in names if "bleu" in n]
    drawn = [Line(MEASURES[name].name, [row["tau"] for row in rows], [row[name] for row in rows]) for name in shown]
    title = "Divergences a token" if names[0] in OF_ORACLE else "Quality and variety"
    chart = graphs.chart(title, "", drawn, x="temperature", how="plain" if names[0] in OF_ORACLE else "shares")
    return Swept([MEASURES[name].name for name in names], told_rows, chart)


def _config(run: SavedRun) -> list[tuple[str, str]]:
    """Without what the rest says already, and without a beginning where there is none."""
    left_out = {"what", "model"} | ({"start"} if run.config.get("start") is None else set())
    return [pair for pair in configured(run) if pair[0] not in left_out]


def _facts(run: SavedRun) -> list[tuple[str, str]]:
    data = run.about.get("data", {})
    things = "lines" if told.is_text(run) else "sequences"
    facts = [
        ("data", told.named(run)),
        ("tokens", str(data.get("kind", "")) if told.is_text(run) else "numbers"),
        (f"training {things}", f"{data.get('training', 0):,}"),
        ("held out", f"{data['held_out']:,}" if data.get("held_out") else ""),
        ("parted", str(data.get("parted", ""))),
        ("lines that were cut", f"{data['cut']:,}" if data.get("cut") else ""),
        (
            "vocabulary",
            f"{data.get('vocabulary', 0):,} tokens" + (", “end” and “unknown” among them" * told.is_text(run)),
        ),
        ("length", f"{run.shape[0]:,} tokens" if run.shape else ""),
        ("sha256 of the text", str(data.get("sha256", ""))),
    ]
    return [(name, value) for name, value in facts if value]

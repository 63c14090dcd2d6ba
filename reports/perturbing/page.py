"""How does the training of a perturber read as one page that needs nothing else?

`contents` says what stands on the page, as plain data; templates/perturber.html says how it looks.
"""

from dataclasses import dataclass
from typing import Any

from reports import words
from reports.pages import base
from reports.pages.base import Chart, Doubt, Headline, Picture
from reports.pages.shares import Names, Share, share
from reports.perturbing import shown, told
from reports.training import graphs
from reports.training.page import configured
from reports.training.saved import SavedRun


@dataclass(frozen=True)
class Effect:
    """What one attack did to the examples that count."""

    name: str
    meaning: str
    share: Share
    kind: str  # of its bar: "attack" or "random"
    length: str
    passes: str


@dataclass(frozen=True)
class Speed:
    name: str
    alone: str
    times: str  # how many times as long as the generator
    in_loop: str
    times_in_loop: str


@dataclass(frozen=True)
class Transfer:
    models: list[str]
    rows: list[tuple[str, str, list[Share]]]  # name, what it is, a share for each model


@dataclass(frozen=True)
class PerturberPage(base.Page):
    cards: list[shown.Card]
    note: str  # of the cards, or why there are none
    alone: list[Picture]  # the perturbations that are the same for all inputs
    alone_note: str
    pixelated: bool
    effects: list[Effect]
    classes: list[tuple[str, Share]]
    transfer: Transfer | None
    speeds: list[Speed]
    speed_note: str
    progress: list[Chart]
    game: list[Chart]
    judged: bool  # by a critic
    meaning: list[str]
    doubts: list[Doubt]
    command: str
    audit: str
    facts: list[tuple[str, str]]
    config: list[tuple[str, str]]
    versions: list[tuple[str, str]]


def page(run: SavedRun) -> str:
    """The whole page. The same run gives the same bytes."""
    return base.rendered("perturber.html", contents(run))


def contents(run: SavedRun) -> PerturberPage:
    """Everything that stands on the page."""
    results, names = run.about.get("results", {}), Names(run.about.get("data", {}).get("classes") or [])
    cards = shown.cards(run, names)
    return PerturberPage(
        title=f"Perturbations against {told.victim(run)}",
        headline=_headline(run),
        cards=cards,
        note=shown.note(run, cards),
        alone=shown.alone(run, names),
        alone_note=shown.alone_note(run),
        pixelated=base.is_tiny(run.shape),
        effects=[_effect(run, row) for row in results.get("compared", [])],
        classes=[(row["name"], share(row["fooled"], row["of"])) for row in results.get("by_class", [])],
        transfer=_transfer(results),
        speeds=_speeds(results.get("timed")),
        speed_note=_speed_note(results.get("timed")),
        progress=_progress(run),
        game=graphs.game(run),
        judged=bool(run.config.get("gan_weight")),
        meaning=told.meaning(run),
        doubts=told.doubts(run),
        command=run.about.get("command", ""),
        audit=told.audit(run),
        facts=_facts(run),
        config=configured(run),
        versions=[(name, str(version)) for name, version in run.about.get("versions", {}).items()],
    )


def _headline(run: SavedRun) -> Headline:
    results, counted = run.about.get("results", {}), told.counted(run)
    detail = [told.what(run), *([run.stopped] if run.stopped else [])]
    facts = [("steps", f"{run.step:,}")] + ([("seconds", f"{run.seconds:,.0f}")] if run.seconds else [])
    if counted is None:
        return Headline(f"Perturbations against {told.victim(run)}, unfinished", detail, facts, told.warned(run))
    detail += told.findings(run)
    by_name = {row["name"]: row for row in results["compared"]}
    facts += [
        (told.NAMES[name], words.percent(row["fooled"], row["of"]))
        for name, row in by_name.items()
        if name in ("pgd", "as_long")
    ]
    ratio = told.ratio(results["timed"]["alone"])
    facts += [("times as fast as PGD-20", words.number(ratio))]
    return Headline(told.title(run, *counted), detail, facts, told.warned(run))


def _effect(run: SavedRun, row: dict[str, Any]) -> Effect:
    kind = "random" if row["name"] in told.NOISES else "attack"
    counted = share(row["fooled"], row["of"], interval=True)
    passes = f"{words.number(row['forwards'])} / {words.number(row['backwards'])}"
    return Effect(
        told.NAMES[row["name"]], told.meant(run, row["name"]), counted, kind, words.number(row["length"]), passes
    )


def _transfer(results: dict[str, Any]) -> Transfer | None:
    found = results.get("transfer")
    if not found:
        return None
    rows = [
        (
            told.NAMES[row["name"]],
            told.TRANSFERRED[row["name"]],
            [share(*pair) for pair in zip(row["fooled"], row["of"], strict=True)],
        )
        for row in found["rows"]
    ]
    return Transfer(found["models"], rows)


def _speeds(timed: dict[str, Any] | None) -> list[Speed]:
    if not timed:
        return []
    alone, in_loop = timed["alone"], timed["in_loop"]
    return [
        Speed(
            told.NAMES[name],
            words.duration(alone[name]),
            _times(alone[name], alone["generator"]),
            words.duration(in_loop[name]),
            _times(in_loop[name], in_loop["generator"]),
        )
        for name in alone
    ]


def _times(seconds: float, own: float) -> str:
    return "" if seconds == own else f"{words.number(seconds / own)} times as long"


def _speed_note(timed: dict[str, Any] | None) -> str:
    if not timed:
        return ""
    batch, laps = words.plural(timed["batch"], "example"), timed["laps"]
    return f"A batch of {batch}, medians of {laps} laps in turn on the machine that trained."


def _progress(run: SavedRun) -> list[Chart]:
    lines = [graphs.over_steps(run, name, called) for name, called in told.THROUGH.items()]
    drawn = [line for line in lines if len(line.x) > 1]
    return [graphs.chart("Fooled", "share of held-out examples that count", drawn, how="shares")] if drawn else []


def _facts(run: SavedRun) -> list[tuple[str, str]]:
    data, victims = run.about.get("data", {}), run.about.get("victims", {})
    facts = [
        ("data", str(data.get("name", ""))),
        ("training examples", f"{data.get('training', 0):,}"),
        ("held out", f"{data.get('held_out', 0):,}"),
        ("parted", str(data.get("parted", ""))),
        ("shape of an input", " × ".join(map(str, run.shape))),
        ("classes", f"{len(data.get('classes') or []):,}"),
        ("sha256 of the data", str(data.get("sha256", ""))),
    ]
    facts += [(f"sha256 of {name}", str(model.get("sha256", ""))) for name, model in victims.items()]
    return [(name, value) for name, value in facts if value]

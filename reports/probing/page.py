"""How does a probe read as one page that needs nothing else?

`contents` says what stands on the page, as plain data; templates/probe.html says how it looks.
"""

import math
import shlex
from dataclasses import dataclass

from reports import words
from reports.pages import base
from reports.pages.base import Chart, Headline
from reports.pages.shares import Names
from reports.probing import far, flat, pictured
from reports.probing.numbers import medians, number, random_kind, times, within
from reports.probing.saved import Probe

OPTIONS = ("model", "weights", "data", "image_size", "examples", "threat")  # of the command
OPTIONS += ("attack", "directions", "side", "walk", "seed")


@dataclass(frozen=True)
class ModelPart:
    name: str
    kinds: list[far.KindRow]
    chart: Chart
    classes: list[far.ClassRow]
    class_note: str
    maps: list[pictured.Map]
    local: flat.Local
    walked: pictured.Walked | None


@dataclass(frozen=True)
class ProbePage(base.Page):
    models: list[ModelPart]
    threat: str
    norm: str
    dimensions: str
    pixelated: bool
    said: list[str]
    cost: list[tuple[str, list[tuple[str, str]]]]
    parts: list[str]
    facts: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    command: str


def page(probe: Probe) -> str:
    """The whole page. The same probe gives the same bytes."""
    return base.rendered("probe.html", contents(probe))


def contents(probe: Probe) -> ProbePage:
    about, asked = probe.about, probe.about["configuration"]
    names = Names(about["data"]["classes"])
    models = list(about["models"])
    shape = about["data"]["shape"]
    parts = [_model(probe, k, name, names) for k, name in enumerate(models)]
    told = list(next(iter(about["models"].values()))["passes"])
    return ProbePage(
        title=f"The decision boundary of {words.listed(models, 3)}",
        headline=_headline(probe),
        models=parts,
        threat=words.threat(asked["threat"]),
        norm=words.norm(words.split(asked["threat"])[0]),
        dimensions=f"{math.prod(shape):,}",
        pixelated=base.is_tiny(shape),
        said=[far.over_dimensions(probe, name) for name in models],
        cost=[(name, [_passes(about["models"][name]["passes"][part]) for part in told]) for name in models],
        parts=told,
        facts=_facts(probe),
        versions=[(name, str(version)) for name, version in about["versions"].items()],
        command=_command(asked),
    )


def _headline(probe: Probe) -> Headline:
    asked, first = probe.about["configuration"], next(iter(probe.about["models"]))
    middle, random = medians(probe.rays, first), random_kind(probe.about)
    eps, norm = words.eps(asked["threat"]), words.norm(words.split(asked["threat"])[0])
    counts = within(probe, first, eps)
    if math.isfinite(middle[random]):
        title = f"Noise must be {times(middle[random], middle['attack'])} times as large as an attack to cross."
    else:
        title = "An attack crosses the boundary where most noise never does."
    detail = [
        f"Half of the examples that {first} gets right are within {words.number(middle['attack'])} of the boundary "
        f"({norm}, the attack {asked['attack']}). Along random directions half of the rays "
        + (
            f"cross only beyond {words.number(middle[random])}."
            if math.isfinite(middle[random])
            else "do not cross at all before every value is at a bound."
        )
        + f" Of the random directions {counts[random].percent} ({counts[random].count}) cross within "
        f"{words.threat(asked['threat'])}, of the attack's {counts['attack'].percent} ({counts['attack'].count})."
    ]
    others = []
    for name in list(probe.about["models"])[1:]:
        found = medians(probe.rays, name)
        others.append(f"{name}: {number(found['attack'])} by the attack and {number(found[random])} at random")
    detail += [f"The medians of {words.listed(others)}."] if others else []
    facts = [
        ("examples", f"{probe.about['data']['n']:,}"),
        ("rays", f"{len(probe.rays):,}"),
        ("dimensions", f"{math.prod(probe.about['data']['shape']):,}"),
    ]
    return Headline(title, detail, facts)


def _model(probe: Probe, k: int, name: str, names: Names) -> ModelPart:
    rows, note = far.class_rows(probe, name, names)
    return ModelPart(
        name=name,
        kinds=far.kind_rows(probe, name),
        chart=far.distance_chart(probe, name, f"crossed{k}"),
        classes=rows,
        class_note=note,
        maps=pictured.maps(probe, name, names),
        local=flat.local(probe, name, f"local{k}"),
        walked=pictured.walked(probe, k, name, names),
    )


def _passes(told: dict) -> tuple[str, str]:
    return f"{told['forwards']:,}", f"{told['backwards']:,}"


def _command(asked: dict) -> str:
    """One option a line; empty where it was not run from the command."""
    if "model" not in asked:
        return ""
    told = [(name.replace("_", "-"), asked[name]) for name in OPTIONS if asked.get(name) is not None]
    return " \\\n  ".join(["advgan probe", *(f"--{name} {shlex.quote(str(value))}" for name, value in told)])


def _facts(probe: Probe) -> list[tuple[str, str]]:
    about = probe.about
    asked = about["configuration"]
    facts = [(name, str(value)) for name, value in asked.items() if value is not None]
    facts += [("shape of an input", " × ".join(map(str, about["data"]["shape"])))]
    facts += [("sha256 of the data", about["data"]["sha256"])]
    facts += [(f"sha256 of {name}", model["sha256"]) for name, model in about["models"].items()]
    return facts

"""How far is the boundary: by kind of direction, by class, and beside a flat one?"""

import math
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from reports import words
from reports.pages.base import Chart
from reports.pages.shares import Names, Share, share
from reports.probing import drawn
from reports.probing.numbers import KINDS, along, medians, number, of_model, random_kind, times
from reports.probing.saved import Probe

WORST_CLASSES = 15


@dataclass(frozen=True)
class KindRow:
    series: int
    name: str
    meaning: str
    median: str
    times: str
    within: Share
    crossed: Share


@dataclass(frozen=True)
class ClassRow:
    name: str
    count: str
    cells: list[tuple[str, str]]  # median of the attack's, to means, random; how many times


def kind_rows(probe: Probe, model: str) -> list[KindRow]:
    eps = words.eps(probe.about["configuration"]["threat"])
    own, middle = of_model(probe.rays, model), medians(probe.rays, model)
    rows = []
    for series, (kind, (name, meaning)) in enumerate(KINDS.items()):
        distance = along(own, kind)
        further = "" if kind == "attack" else _ratio(middle[kind], middle["attack"])
        rows.append(
            KindRow(
                series, name, meaning, number(middle[kind]), further,
                share((distance <= eps).sum(), len(distance)), share(np.isfinite(distance).sum(), len(distance)),
            )
        )  # fmt: skip
    return rows


def distance_chart(probe: Probe, model: str, key: str) -> Chart:
    threat = probe.about["configuration"]["threat"]
    own, (norm, radius) = of_model(probe.rays, model), words.split(threat)
    found = [(name, along(own, kind)) for kind, (name, _) in KINDS.items()]
    middle = medians(probe.rays, model)
    told = f"Share of rays that have crossed, over distance in {words.norm(norm)}. Medians: " + "; ".join(
        f"{name} {number(middle[kind])}" for kind, (name, _) in KINDS.items()
    )
    picture = drawn.crossed(found, words.eps(threat), radius, words.norm(norm), key)
    counted = probe.about["models"][model]
    note = f"the {words.of(counted['correct'], counted['n'])} examples that it gets right"
    return Chart(model, note, Markup(picture), told, [name for name, _ in found])


def class_rows(probe: Probe, model: str, names: Names) -> tuple[list[ClassRow], str]:
    """The classes that are nearest to the boundary, where they are too many for all; and a note that says so."""
    own = of_model(probe.rays, model)
    kind, label, distance = (own[name].to_numpy() for name in ("kind", "label", "distance"))
    wanted = ("attack", "means", random_kind(probe.about))
    each = {k: [_middle(distance[(kind == w) & (label == k)]) for w in wanted] for k in np.unique(label).tolist()}
    shown = sorted(sorted(each, key=lambda k: each[k][0])[:WORST_CLASSES])
    note = f"the {WORST_CLASSES} nearest of {len(each):,}" if len(each) > WORST_CLASSES else ""
    rows = []
    for k in shown:
        near, *others = each[k]
        cells = [(number(near), ""), *((number(far), _ratio(far, near)) for far in others)]
        rows.append(ClassRow(names(k), f"{int(((kind == 'attack') & (label == k)).sum()):,}", cells))
    return rows, note


def _middle(distance: np.ndarray) -> float:
    return float(np.median(distance)) if len(distance) else math.inf


def _ratio(far: float, near: float) -> str:
    return f"{times(far, near)} ×" if math.isfinite(far) and near > 0 else ""


def over_dimensions(probe: Probe, model: str) -> str:
    """How the gap compares with that of a flat boundary in so many dimensions."""
    shape = probe.about["data"]["shape"]
    root, middle = math.sqrt(math.prod(shape)), medians(probe.rays, model)
    random = random_kind(probe.about)
    if not math.isfinite(middle[random]) or middle["attack"] <= 0:
        return f"{model}: more than half of the random rays never cross, so no ratio of medians can be told."
    part = middle[random] / middle["attack"] / root
    return (
        f"{model}: random directions are {times(middle[random], middle['attack'])} times as far as the attack's, "
        f"{words.number(float(f'{part:.2g}'))} of √{math.prod(shape):,}, which is {words.number(float(f'{root:.3g}'))}."
    )

"""How does a probe read as one page that needs nothing else?"""

import math
import shlex
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from reports import figures, words
from reports.pages import base
from reports.pages.base import Chart, Headline, Picture
from reports.pages.shares import Names, Share, share
from reports.probing import drawn
from reports.probing.saved import Probe

KINDS = {  # the order of the lines and rows
    "attack": ("the attack's", "towards the adversarial example found"),
    "gradient": ("the gradient's", "straight along the slope of the margin at the example"),
    "means": ("to class means", "towards the mean of each other class"),
    "examples": ("to other examples", "towards examples of other classes"),
    "signs": ("random signs", "every value by the same amount, up or down"),
    "gaussian": ("random", "Gaussian noise"),
}
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


@dataclass(frozen=True)
class Map:
    svg: Markup
    told: str
    caption: str
    detail: str


@dataclass(frozen=True)
class Local:
    """The margin round the examples of one model, in medians."""

    rows: list[tuple[str, str, str]]  # what, its meaning, its value
    chart: Chart
    said: list[str]


@dataclass(frozen=True)
class Walked:
    chart: Chart
    strip: list[Picture]
    said: str


@dataclass(frozen=True)
class ModelPart:
    name: str
    kinds: list[KindRow]
    chart: Chart
    classes: list[ClassRow]
    class_note: str
    maps: list[Map]
    local: Local
    walked: Walked | None


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
        said=[_dimension(probe, name) for name in models],
        cost=[(name, [_passes(about["models"][name]["passes"][part]) for part in told]) for name in models],
        parts=told,
        facts=_facts(probe),
        versions=[(name, str(version)) for name, version in about["versions"].items()],
        command=_command(asked),
    )


def _of(table: pd.DataFrame, model: str) -> pd.DataFrame:
    return pd.DataFrame(table.loc[table["model"] == model])


def _along(rays: pd.DataFrame, kind: str) -> np.ndarray:
    """The distances along one kind of direction."""
    return rays.loc[rays["kind"] == kind, "distance"].to_numpy()


def _random(about: dict) -> str:
    """The kind of random direction that belongs to the norm."""
    return "signs" if words.split(about["configuration"]["threat"])[0] == "linf" else "gaussian"


def medians(rays: pd.DataFrame, model: str) -> dict[str, float]:
    """Of each kind the median distance; inf where more than half do not cross."""
    own = _of(rays, model)
    return {kind: float(np.median(_along(own, kind))) for kind in KINDS}


def _headline(probe: Probe) -> Headline:
    asked, first = probe.about["configuration"], next(iter(probe.about["models"]))
    middle, random = medians(probe.rays, first), _random(probe.about)
    eps, norm = words.eps(asked["threat"]), words.norm(words.split(asked["threat"])[0])
    counts = _within(probe, first, eps)
    if math.isfinite(middle[random]):
        title = f"Noise must be {_times(middle[random], middle['attack'])} times as large as an attack to cross."
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
        others.append(f"{name}: {_number(found['attack'])} by the attack and {_number(found[random])} at random")
    detail += [f"The medians of {words.listed(others)}."] if others else []
    facts = [
        ("examples", f"{probe.about['data']['n']:,}"),
        ("rays", f"{len(probe.rays):,}"),
        ("dimensions", f"{math.prod(probe.about['data']['shape']):,}"),
    ]
    return Headline(title, detail, facts)


def _within(probe: Probe, model: str, eps: float) -> dict[str, Share]:
    own = _of(probe.rays, model)
    each = {kind: _along(own, kind) for kind in KINDS}
    return {kind: share((d <= eps).sum(), len(d)) for kind, d in each.items()}


def _times(far: float, near: float) -> str:
    return words.number(float(f"{far / near:.2g}")) if near > 0 and math.isfinite(far) else words.NOTHING


def _number(value: float) -> str:
    return words.number(float(f"{value:.3g}")) if math.isfinite(value) else "never"


def _model(probe: Probe, k: int, name: str, names: Names) -> ModelPart:
    rays = _of(probe.rays, name)
    rows, note = _classes(rays, _random(probe.about), names)
    return ModelPart(
        name=name,
        kinds=_kinds(probe, name),
        chart=_chart(probe, name, f"crossed{k}"),
        classes=rows,
        class_note=note,
        maps=_maps(probe, name, names),
        local=_local(probe, name, f"local{k}"),
        walked=_walked(probe, k, name, names),
    )


def _kinds(probe: Probe, model: str) -> list[KindRow]:
    eps = words.eps(probe.about["configuration"]["threat"])
    own, middle = _of(probe.rays, model), medians(probe.rays, model)
    rows = []
    for series, (kind, (name, meaning)) in enumerate(KINDS.items()):
        distance = _along(own, kind)
        times = "" if kind == "attack" else f"{_times(middle[kind], middle['attack'])} ×"
        rows.append(
            KindRow(
                series, name, meaning, _number(middle[kind]), times if math.isfinite(middle[kind]) else "",
                share((distance <= eps).sum(), len(distance)), share(np.isfinite(distance).sum(), len(distance)),
            )
        )  # fmt: skip
    return rows


def _chart(probe: Probe, model: str, key: str) -> Chart:
    threat = probe.about["configuration"]["threat"]
    own, (norm, radius) = _of(probe.rays, model), words.split(threat)
    found = [(name, _along(own, kind)) for kind, (name, _) in KINDS.items()]
    middle = medians(probe.rays, model)
    told = f"Share of rays that have crossed, over distance in {words.norm(norm)}. Medians: " + "; ".join(
        f"{name} {_number(middle[kind])}" for kind, (name, _) in KINDS.items()
    )
    picture = drawn.crossed(found, words.eps(threat), radius, words.norm(norm), key)
    counted = probe.about["models"][model]
    note = f"the {words.of(counted['correct'], counted['n'])} examples that it gets right"
    return Chart(model, note, Markup(picture), told, [name for name, _ in found])


def _classes(rays: pd.DataFrame, random: str, names: Names) -> tuple[list[ClassRow], str]:
    """The classes whose examples are nearest to the boundary first, where they are too many for all."""
    wanted = ["attack", "means", random]
    each = {kind: rays.loc[rays["kind"] == kind].groupby("label")["distance"].median() for kind in wanted}
    table = pd.DataFrame(each)
    counts = rays.loc[rays["kind"] == "attack"].groupby("label").size()
    shown = table.sort_values("attack").index[:WORST_CLASSES]
    note = f"the {WORST_CLASSES} nearest of {len(table):,}" if len(table) > WORST_CLASSES else ""
    rows = []
    for label in sorted(shown):
        near = float(table.attack[label])
        cells = [
            (_number(float(table[kind][label])), "" if kind == "attack" else _ratio(float(table[kind][label]), near))
            for kind in wanted
        ]
        rows.append(ClassRow(names(int(label)), f"{int(counts[label]):,}", cells))
    return rows, note


def _ratio(far: float, near: float) -> str:
    return f"{_times(far, near)} ×" if math.isfinite(far) and near > 0 else ""


def _dimension(probe: Probe, model: str) -> str:
    """How the gap compares with that of a flat boundary in so many dimensions."""
    shape = probe.about["data"]["shape"]
    root, middle = math.sqrt(math.prod(shape)), medians(probe.rays, model)
    random = _random(probe.about)
    if not math.isfinite(middle[random]) or middle["attack"] <= 0:
        return f"{model}: more than half of the random rays never cross, so no ratio of medians can be told."
    times = middle[random] / middle["attack"]
    return (
        f"{model}: random directions are {_times(middle[random], middle['attack'])} times as far as the attack's, "
        f"{words.number(float(f'{times / root:.2g}'))} of √{math.prod(shape):,} = {words.number(float(f'{root:.3g}'))}."
    )


def _maps(probe: Probe, model: str, names: Names) -> list[Map]:
    eps = words.eps(probe.about["configuration"]["threat"])
    maps = []
    for k, told in enumerate(probe.about["planes"]):
        if told["model"] != model:
            continue
        arrays = {name: probe.pictures[f"plane{k}_{name}"] for name in ("classes", "margin", "size")}
        letters = "CAR" if told["kind"] == "random" else "123"
        marks = [(x, y, letter) for (x, y), letter in zip(told["marks"], letters, strict=True)]
        svg = drawn.plane_map(
            **arrays, own=told["labels"][0], eps=eps, marks=marks, extent=told["extent"], name=names, key=f"plane{k}"
        )
        own = names(told["labels"][0])
        shares = {int(c): float((arrays["classes"] == c).mean()) for c in np.unique(arrays["classes"])}
        listed = [f"{names(c)} {words.share(s)}" for c, s in sorted(shares.items(), key=lambda pair: -pair[1])]
        if told["kind"] == "random":
            caption, detail = f"Example {told['ids'][0]}, a {own}", "C the example, A adversarial, R as far at random"
        else:
            which = [
                f"{k} is example {i}, a {names(c)}" for k, i, c in zip("123", told["ids"], told["labels"], strict=True)
            ]
            caption, detail = "Three examples", "; ".join(which)
        maps.append(Map(Markup(svg), f"{caption}. {detail}. Of the picture: {words.listed(listed)}", caption, detail))
    return maps


def _local(probe: Probe, model: str, key: str) -> Local:
    own = _of(probe.geometry, model)
    norm = words.norm(words.split(probe.about["configuration"]["threat"])[0])
    there = pd.DataFrame(own.loc[np.isfinite(own["found"])])
    ratio = there["found"] / there["linear"]
    middle, middle_ratio = own.median(numeric_only=True), _signed(float(ratio.median()))
    rows = [
        ("margin", "how far the label's logit leads", _signed(-middle.margin)),
        ("slope", f"how fast the lead can fall per unit of {norm}", _signed(middle.slope)),
        ("margin over slope", "where the boundary would be, were the model linear", _signed(middle.linear)),
        ("found over that", "how much further, or nearer, it is", middle_ratio),
        (
            "missed by the slope",
            "of the margin's fall on the way to the adversarial example, what the slope does not foretell",
            words.share(float(there["missed"].abs().median())),
        ),
        (
            "bend",
            "how much the slope changes over the linear way, as a share of it: by finite differences",
            _signed(middle.bend),
        ),
        ("curvature, finite differences", "along the gradient, in logits per squared L2", _signed(middle.curvature)),
        ("curvature, Hessian", "the same at the example itself, by a Hessian-vector product", _signed(middle.hessian)),
    ]
    flat = int((own.hessian == 0).sum())
    said = []
    if flat > len(own) / 2:
        said.append(
            f"For {words.of(flat, len(own))} examples the Hessian is exactly zero: between its kinks the network is "
            "linear, and finite differences see the kinks alone."
        )
    nearer = int((ratio < 1).sum())
    said.append(
        f"For {words.of(nearer, len(ratio))} examples the boundary was found nearer than a linear model would have it; "
        f"for half of them it was at {_signed(float(ratio.quantile(0.25)))} to {_signed(float(ratio.quantile(0.75)))} "
        "times that distance."
    )
    svg = drawn.foretold(own.linear.to_numpy(), own.found.to_numpy(), norm, key)
    told = f"Smallest perturbation found against margin over slope, {len(ratio)} examples; median ratio {middle_ratio}"
    chart = Chart("Found against foretold", "", Markup(svg), told, [])
    return Local(rows, chart, said)


def _signed(value: float) -> str:
    if not math.isfinite(value):
        return words.NOTHING
    text = words.number(abs(float(f"{value:.3g}")))
    return f"−{text}" if value < 0 else text


def _walked(probe: Probe, k: int, model: str, names: Names) -> Walked | None:
    own = _of(probe.walks, model)
    if not len(own):
        return None
    near = _of(probe.geometry, model).set_index("id")["found"]
    own = own.assign(times=own["size"] / own["id"].map(near.to_dict()))
    own = pd.DataFrame(own.loc[np.isfinite(own["times"])])
    if not len(own):
        return None
    ends = own.groupby("queries").times.agg(["min", "median", "max"])
    last, first = ends.index[-1], ends.iloc[0]
    svg = drawn.walked(
        ends.index.to_numpy(), *(ends[name].to_numpy() for name in ("min", "median", "max")), key=f"walk{k}"
    )
    walkers = int(own["id"].nunique())
    said = (
        f"{words.plural(walkers, 'walk')}, each from an example of another class. In the median they begin "
        f"{_times(first['median'], 1)} times as far as the attack's example, and after {last:,} decisions are "
        f"{_times(ends['median'].iloc[-1], 1)} times as far ({_times(ends['min'].iloc[-1], 1)} to "
        f"{_times(ends['max'].iloc[-1], 1)})."
    )
    chart = Chart(model, "times the attack's distance: median, and all between least and most", Markup(svg), said, [])
    return Walked(chart, _strip(probe, k, model, names), said)


def _strip(probe: Probe, k: int, model: str, names: Names) -> list[Picture]:
    """The first walk as pictures, the example itself at the end."""
    if f"walk{k}_x" not in probe.pictures:
        return []
    arrays = {name: probe.pictures[f"walk{k}_{name}"] for name in ("x", "queries", "size")}
    if not np.isfinite(arrays["size"]).all():
        return []
    label = int(_of(probe.walks, model)["label"].iloc[0])
    images = [figures.pixels(image) for image in arrays["x"]]
    if images[0] is None:
        return []
    looks = [
        (f"{_number(float(s))} away", f"{q:,} asked") for q, s in zip(arrays["queries"], arrays["size"], strict=True)
    ]
    looks.append(("the example", f"a {names(label)}"))
    return [
        Picture(figures.png(image), f"{caption}, {detail}", caption, detail)
        for image, (caption, detail) in zip(images, looks, strict=True)
        if image is not None
    ]


def _passes(told: dict) -> tuple[str, str]:
    return f"{told['forwards']:,}", f"{told['backwards']:,}"


def _command(asked: dict) -> str:
    """One option a line; empty where it was not run from the command."""
    if "model" not in asked:
        return ""
    names = (
        "model",
        "weights",
        "data",
        "image_size",
        "examples",
        "threat",
        "attack",
        "directions",
        "side",
        "walk",
        "seed",
    )
    told = [(name.replace("_", "-"), asked[name]) for name in names if asked.get(name) is not None]
    return " \\\n  ".join(["advgan probe", *(f"--{name} {shlex.quote(str(value))}" for name, value in told)])


def _facts(probe: Probe) -> list[tuple[str, str]]:
    about = probe.about
    asked = about["configuration"]
    facts = [(name, str(value)) for name, value in asked.items() if value is not None]
    facts += [("shape of an input", " × ".join(map(str, about["data"]["shape"])))]
    facts += [("sha256 of the data", about["data"]["sha256"])]
    facts += [(f"sha256 of {name}", model["sha256"]) for name, model in about["models"].items()]
    return facts

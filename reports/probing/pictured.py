"""What is seen of a boundary: planes through examples, and walks along it."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from reports import figures, words
from reports.pages.base import Chart, Picture
from reports.pages.shares import Names
from reports.probing import drawn
from reports.probing.numbers import number, of_model, times
from reports.probing.saved import Probe


@dataclass(frozen=True)
class Map:
    svg: Markup
    told: str
    caption: str
    detail: str


@dataclass(frozen=True)
class Walked:
    chart: Chart
    strip: list[Picture]
    said: str


def maps(probe: Probe, model: str, names: Names) -> list[Map]:
    planes = [(k, told) for k, told in enumerate(probe.about["planes"]) if told["model"] == model]
    return [_map(probe, k, told, names) for k, told in planes]


def _map(probe: Probe, k: int, told: dict, names: Names) -> Map:
    arrays = {name: probe.pictures[f"plane{k}_{name}"] for name in ("classes", "margin", "size")}
    letters = "CAR" if told["kind"] == "random" else "CDE"
    svg = drawn.plane_map(
        **arrays, own=told["labels"][0], eps=words.eps(probe.about["configuration"]["threat"]),
        marks=[(x, y, letter) for (x, y), letter in zip(told["marks"], letters, strict=True)],
        extent=told["extent"], name=names, key=f"plane{k}",
    )  # fmt: skip
    labels, counts = np.unique(arrays["classes"], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    listed = [f"{names(int(labels[i]))} {words.share(float(counts[i] / counts.sum()))}" for i in order]
    which = [f"example {i} (class {names(label)})" for i, label in zip(told["ids"], told["labels"], strict=True)]
    caption, detail = f"E{which[0][1:]}", "C the example, A adversarial, R as far at random"
    if told["kind"] != "random":
        caption = "Three examples"
        detail = "; ".join(f"{letter} {one}" for letter, one in zip(letters, which, strict=True))
    return Map(Markup(svg), f"{caption}. {detail}. Of the picture: {words.listed(listed)}", caption, detail)


def walked(probe: Probe, k: int, model: str, names: Names) -> Walked | None:
    """The walks of the k-th model; None where none was made, or none from a point that was adversarial."""
    table = of_model(probe.walks, model)
    queries, ids, size = (table[name].to_numpy() for name in ("queries", "id", "size"))
    near = of_model(probe.geometry, model)
    found = dict(zip(near["id"].tolist(), near["found"].tolist(), strict=True))
    ratio = np.array([s / found[i] for i, s in zip(ids.tolist(), size.tolist(), strict=True)])
    there = np.isfinite(ratio) & (ratio > 0)
    if not there.any():
        return None
    looks = np.unique(queries[there]).astype(int)
    low, middle, high = (
        np.array([of(ratio[there & (queries == look)]) for look in looks]) for of in (np.min, np.median, np.max)
    )
    said = (
        f"{words.plural(len(np.unique(ids[there])), 'walk')}, each from an example of another class. In the median "
        f"they begin {times(middle[0], 1)} times as far as the attack's example, and after {looks[-1]:,} decisions are "
        f"{times(middle[-1], 1)} times as far ({times(low[-1], 1)} to {times(high[-1], 1)})."
    )
    svg = drawn.walked(looks, low, middle, high, key=f"walk{k}")
    chart = Chart(model, "times the attack's distance: median, and all between least and most", Markup(svg), said, [])
    return Walked(chart, _strip(probe, k, model, names), said)


def _strip(probe: Probe, k: int, model: str, names: Names) -> list[Picture]:
    """The first walk as pictures, the example itself at the end."""
    if f"walk{k}_x" not in probe.pictures:
        return []
    arrays = {name: probe.pictures[f"walk{k}_{name}"] for name in ("x", "queries", "size")}
    if not np.isfinite(arrays["size"]).all():
        return []
    label = int(of_model(probe.walks, model)["label"].iloc[0])
    images = [figures.pixels(image) for image in arrays["x"]]
    if images[0] is None:
        return []
    looks = [
        (f"{number(float(s))} away", f"{q:,} asked") for q, s in zip(arrays["queries"], arrays["size"], strict=True)
    ]
    looks.append(("the example", names(label)))
    return [
        Picture(figures.png(image), f"{caption}, {detail}", caption, detail)
        for image, (caption, detail) in zip(images, looks, strict=True)
        if image is not None
    ]

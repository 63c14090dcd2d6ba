"""How flat is the margin between the examples and their boundary?"""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from reports import words
from reports.pages.base import Chart
from reports.probing import drawn
from reports.probing.numbers import of_model, signed
from reports.probing.saved import Probe

TOLD = ("margin", "slope", "linear", "found", "missed", "curvature", "hessian", "bend")


@dataclass(frozen=True)
class Local:
    """The margin round the examples of one model, in medians."""

    rows: list[tuple[str, str, str]]  # what, its meaning, its value
    chart: Chart
    said: list[str]


def local(probe: Probe, model: str, key: str) -> Local:
    """Medians over the examples, the chart of what was found against what was foretold, and what both say."""
    table = of_model(probe.geometry, model)
    columns = {name: table[name].to_numpy(dtype=float) for name in TOLD}
    norm = words.norm(words.split(probe.about["configuration"]["threat"])[0])
    there = np.isfinite(columns["found"]) & np.isfinite(columns["linear"]) & (columns["linear"] > 0)
    ratio = columns["found"][there] / columns["linear"][there]
    middle = {name: float(np.median(values)) for name, values in columns.items()}
    quarters = np.quantile(ratio, (0.25, 0.5, 0.75)) if len(ratio) else np.full(3, np.nan)
    quarter, half, three = (signed(float(q)) for q in quarters)
    missed = float(np.median(np.abs(columns["missed"][there]))) if len(ratio) else None
    rows = [
        ("margin", "how far the label's logit leads", signed(-middle["margin"])),
        ("slope", f"how fast the lead can fall per unit of {norm}", signed(middle["slope"])),
        ("margin over slope", "where the boundary would be, were the model linear", signed(middle["linear"])),
        ("found over that", "how much further, or nearer, it is", half),
        (
            "missed by the slope",
            "of the margin's fall on the way there, what the slope does not foretell",
            words.share(missed),
        ),
        ("bend", "how much the slope changes over the linear way, by finite differences", signed(middle["bend"])),
        ("curvature, finite differences", "along the gradient, in logits per squared L2", signed(middle["curvature"])),
        (
            "curvature, Hessian",
            "the same at the example itself, by a Hessian-vector product",
            signed(middle["hessian"]),
        ),
    ]
    flat, nearer = int((columns["hessian"] == 0).sum()), int((ratio < 1).sum())
    said = [
        f"For {words.of(nearer, len(ratio))} examples the boundary was found nearer than a linear model would have it; "
        f"for half of them it was at {quarter} to {three} times that distance."
        if len(ratio)
        else "The margin has no slope at any example that was fooled, so a linear model foretells nothing."
    ]
    if flat > len(table) / 2:
        said.append(
            f"For {words.of(flat, len(table))} examples the Hessian is exactly zero: between its kinks the network is "
            "linear, and finite differences see the kinks alone."
        )
    svg = drawn.foretold(columns["linear"], columns["found"], norm, key)
    told = f"Smallest perturbation found against margin over slope, {len(ratio)} examples; median ratio {half}"
    return Local(rows, Chart("Found against foretold", "", Markup(svg), told, []), said)

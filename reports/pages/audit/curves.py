"""How does robust accuracy fall with eps, drawn and in numbers?"""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from reports import figures, words
from reports.pages.base import Chart
from reports.pages.shares import Share, share
from reports.summary import Curve, Sweep


@dataclass(frozen=True)
class CurveRow:
    series: int
    model: str
    eps: str
    curve: Share
    suite: Share | None  # what the attacks at that eps left standing


@dataclass(frozen=True)
class CurveChart(Chart):
    rows: list[CurveRow]


def charts(
    models: list[str], sweeps: dict[str, dict[str, Sweep]], curves: dict[str, dict[str, Curve]]
) -> list[CurveChart]:
    """A chart for each norm that has a curve."""
    norms = dict.fromkeys(norm for by_norm in curves.values() for norm in by_norm)
    return [_chart(norm, f"chart{k}", models, sweeps, curves) for k, norm in enumerate(norms, 1)]


def _chart(norm: str, key: str, models: list[str], sweeps: dict, curves: dict[str, dict[str, Curve]]) -> CurveChart:
    lines = [(k, curves[model][norm]) for k, model in enumerate(models) if norm in curves.get(model, {})]
    tested = [
        figures.Tested(k, words.eps(threat), words.split(threat)[1], float(sweep.robust.mean()))
        for k, model in enumerate(models)
        for threat, sweep in sweeps[model].items()
        if words.split(threat)[0] == norm and words.eps(threat) < np.inf
    ]
    rows = [_curve_row(k, curve, "0", 0.0, None) for k, curve in lines]
    for text, eps in sorted({(one.text, one.eps) for one in tested}, key=lambda pair: pair[1]):
        for k, curve in lines:
            found = [s for t, s in sweeps[curve.model].items() if words.split(t) == (norm, text)]
            rows.append(_curve_row(k, curve, text, eps, found[0] if found else None))
    said = ", ".join(f"{row.model} {row.curve.percent} at {row.eps}" for row in rows)
    return CurveChart(
        title=words.norm(norm),
        note=f"one run of {words.listed(list(dict.fromkeys(curve.attack for _, curve in lines)))}",
        svg=Markup(figures.curve_chart(lines, tested, key)),
        told=f"Share of all examples still standing as eps grows, {words.norm(norm)}: {said}.",
        legend=[],  # one stands beside all charts
        rows=rows,
    )


def _curve_row(series: int, curve: Curve, text: str, eps: float, sweep: Sweep | None) -> CurveRow:
    suite = share(sweep.robust.sum(), sweep.n) if sweep else None
    return CurveRow(series, curve.model, text, share(int(curve.standing(eps)), curve.n), suite)

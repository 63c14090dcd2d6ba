"""The numbers of a probe that more than one part of its page tells, and how they are written."""

import math

import numpy as np
import pandas as pd

from reports import words
from reports.pages.shares import Share, share
from reports.probing.saved import Probe

KINDS = {  # the order of the lines and rows
    "attack": ("the attack's", "towards the adversarial example found"),
    "gradient": ("the gradient's", "straight along the slope of the margin at the example"),
    "means": ("to class means", "towards the mean of each other class"),
    "examples": ("to other examples", "towards examples of other classes"),
    "signs": ("random signs", "every value by the same amount, up or down"),
    "gaussian": ("random", "Gaussian noise"),
}


def of_model(table: pd.DataFrame, model: str) -> pd.DataFrame:
    return pd.DataFrame(table.loc[table["model"] == model])


def along(rays: pd.DataFrame, kind: str) -> np.ndarray:
    """The distances along one kind of direction."""
    return rays.loc[rays["kind"] == kind, "distance"].to_numpy()


def random_kind(about: dict) -> str:
    """The kind of random direction that belongs to the norm."""
    return "signs" if words.split(about["configuration"]["threat"])[0] == "linf" else "gaussian"


def medians(rays: pd.DataFrame, model: str) -> dict[str, float]:
    """Of each kind the median distance; inf where more than half do not cross."""
    own = of_model(rays, model)
    return {kind: float(np.median(along(own, kind))) for kind in KINDS}


def within(probe: Probe, model: str, eps: float) -> dict[str, Share]:
    own = of_model(probe.rays, model)
    each = {kind: along(own, kind) for kind in KINDS}
    return {kind: share((d <= eps).sum(), len(d)) for kind, d in each.items()}


def times(far: float, near: float) -> str:
    return words.number(float(f"{far / near:.2g}")) if near > 0 and math.isfinite(far) else words.NOTHING


def number(value: float) -> str:
    return words.number(float(f"{value:.3g}")) if math.isfinite(value) else "never"


def signed(value: float) -> str:
    if not math.isfinite(value):
        return words.NOTHING
    text = words.number(abs(float(f"{value:.3g}")))
    return f"−{text}" if value < 0 else text

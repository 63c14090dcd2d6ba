"""Which pictures stand on a perturber's page: examples as they were, as they became, and under noise; and what is added."""

from dataclasses import dataclass

import numpy as np

from reports import figures, words
from reports.pages.base import Picture
from reports.pages.shares import Names
from reports.training.saved import SavedRun

KINDS = ("universal", "per_class")


@dataclass(frozen=True)
class Card:
    truth: str
    pictures: list[tuple[Picture, bool]]  # and whether the model is wrong about it


def cards(run: SavedRun, names: Names) -> list[Card]:
    """Clean, perturbation, adversarial, noise as long; the perturbations of all on one scale."""
    kept = run.pictures
    if "x" not in kept or not _is_picture(kept["x"]):
        return []
    factor = scale(kept["adversarial"] - kept["x"])
    return [_card(kept, k, names, factor, _bounds(run)) for k in range(len(kept["x"]))]


def note(run: SavedRun, shown: list[Card]) -> str:
    if shown:
        count = words.plural(len(shown), "example")
        return f"{count}: of each class the first ones held out that the model gets right, fooled or not."
    if not run.about.get("results"):
        return "Training has not come to its end, so nothing was tried on the examples held out."
    return "The inputs are no images, so there are no pictures."


def alone(run: SavedRun, names: Names) -> list[Picture]:
    """The one perturbation for all inputs, or that of each class; amplified."""
    kept = run.pictures.get("perturbation")
    if kept is None or not _is_picture(kept):
        return []
    factor, several = scale(kept), len(kept) > 1
    return [
        Picture(
            _png(_about_grey(delta, factor)),
            f"The perturbation {f'for class {names(k)}' if several else 'for all inputs'}, {_amplified(factor)}",
            f"class {names(k)}" if several else "",
        )
        for k, delta in enumerate(kept)
    ]


def alone_note(run: SavedRun) -> str:
    kept = run.pictures.get("perturbation")
    if kept is None or not _is_picture(kept):
        return ""
    return f"As it moves a mid-grey input, {_amplified(scale(kept))}."


def _card(kept: dict[str, np.ndarray], k: int, names: Names, factor: float, bounds: tuple[float, float]) -> Card:
    label = int(kept["label"][k])
    change = kept["adversarial"][k] - kept["x"][k]
    added = Picture(
        _png(_about_grey(change, factor)),
        f"The perturbation, {_amplified(factor)}",
        "change",
        f"× {words.number(factor)}",
    )
    called = {"x": "Clean input", "adversarial": "Adversarial input", "noise": "Input with noise as long"}
    seen = {name: _seen(kept, name, what, k, names, bounds) for name, what in called.items()}
    wrong = {name: int(kept[f"{name}_class"][k]) != label for name in called}
    order = [
        (seen["x"], wrong["x"]),
        (added, False),
        (seen["adversarial"], wrong["adversarial"]),
        (seen["noise"], wrong["noise"]),
    ]
    return Card(f"truly {names(label)}", order)


def _seen(
    kept: dict[str, np.ndarray], name: str, what: str, k: int, names: Names, bounds: tuple[float, float]
) -> Picture:
    answer, sure = names(int(kept[f"{name}_class"][k])), words.confidence(float(kept[f"{name}_sure"][k]))
    image = figures.pixels(kept[name][k], bounds)
    assert image is not None
    return Picture(figures.png(image), f"{what}, taken for {answer} with confidence {sure}", answer, sure)


def scale(changes: np.ndarray) -> float:
    """By how much the changes [n, ...] are multiplied, all alike, so that the largest is just not cut."""
    return figures.amplified(np.zeros_like(changes), changes)[1]


def _about_grey(change: np.ndarray, factor: float) -> np.ndarray:
    return 0.5 + factor * change.astype(np.float64)


def _amplified(factor: float) -> str:
    return f"multiplied by {words.number(factor)}, mid-grey where nothing changes"


def _png(x: np.ndarray) -> str:
    image = figures.pixels(x)
    assert image is not None
    return figures.png(image)


def _is_picture(x: np.ndarray) -> bool:
    return len(x) > 0 and figures.pixels(x[0]) is not None


def _bounds(run: SavedRun) -> tuple[float, float]:
    return float(run.config.get("low", 0.0)), float(run.config.get("high", 1.0))

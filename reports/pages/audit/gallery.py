"""What do adversarial examples look like beside the clean ones?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reports import figures, words
from reports.pages.base import Picture
from reports.pages.shares import Names

if TYPE_CHECKING:
    from reports.record import Audit

CARDS = 24  # examples shown as pictures, over all models and threats


@dataclass(frozen=True)
class Card:
    title: str
    truth: str
    pictures: list[Picture]


@dataclass(frozen=True)
class Gallery:
    model: str
    cards: list[Card]


def gallery(audit: "Audit", names: Names) -> tuple[list[Gallery], str]:
    """The pictures of each model, and what is said of them, or of why there are none."""
    kept, data = audit.gallery, audit.about["data"]
    low, high = data.get("bounds") or (0.0, 1.0)
    bounds = (float(low), float(high))
    total = len(kept["id"])
    if not total:
        return [], "No example was broken, so there is none to show."
    if figures.pixels(kept["x"][0], bounds) is None:
        shape = " × ".join(map(str, kept["x"].shape[1:]))
        return [], f"The inputs are not images (shape {shape}), so there are no pictures. gallery.npz holds {total}."
    chosen = _spread(kept, min(CARDS, total))
    models = dict.fromkeys(str(kept["model"][k]) for k in chosen)
    cards = {m: [_card(kept, k, names, bounds) for k in chosen if str(kept["model"][k]) == m] for m in models}
    note = f"{len(chosen)} of the {total} examples in gallery.npz" if len(chosen) < total else f"{total} examples"
    note += ", not chosen for their looks; all adversarial inputs are in the folder adversarial."
    return [Gallery(model, cards[model]) for model in models], note


def _spread(kept: dict[str, np.ndarray], most: int) -> list[int]:
    """Which examples are shown: one of each model and threat in turn, until there are enough."""
    groups: dict[tuple[str, str], list[int]] = {}
    for k in range(len(kept["id"])):
        groups.setdefault((str(kept["model"][k]), str(kept["threat"][k])), []).append(k)
    turns = [(turn, g, k) for g, members in enumerate(groups.values()) for turn, k in enumerate(members)]
    return sorted(k for _, _, k in sorted(turns)[:most])


def _card(kept: dict[str, np.ndarray], k: int, names: Names, bounds: tuple[float, float]) -> Card:
    x, x_adv = kept["x"][k], kept["x_adv"][k]
    change, factor = figures.amplified(x, x_adv, bounds)
    clean, adversarial = names(int(kept["clean_prediction"][k])), names(int(kept["adversarial_prediction"][k]))
    sure = words.confidence(float(kept["clean_confidence"][k]))
    deceived = words.confidence(float(kept["adversarial_confidence"][k]))
    label, number = names(int(kept["label"][k])), words.number(factor)
    return Card(
        title=f"{words.threat(str(kept['threat'][k]))} · {kept['attack'][k]}",
        truth=f"example {int(kept['id'][k]):,}, truly {label}",
        pictures=[
            Picture(_png(x, bounds), f"Clean input, predicted {clean} with confidence {sure}", clean, sure),
            Picture(
                _png(change, bounds),
                f"The perturbation, multiplied by {number}; grey is no change",
                "change",
                f"× {number}",
            ),
            Picture(
                _png(x_adv, bounds),
                f"Adversarial input, predicted {adversarial} with confidence {deceived}",
                adversarial,
                deceived,
            ),
        ],
    )


def _png(x: np.ndarray, bounds: tuple[float, float]) -> str:
    image = figures.pixels(x, bounds)
    assert image is not None
    return figures.png(image)

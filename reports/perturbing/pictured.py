"""What is kept of a finished perturber to be shown, and what is shown of it?"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from reports.perturbing.compared import Held

SHOWN = 12  # examples
AT_ONCE = 256


def kept(held: Held, own: Tensor, noise: Tensor) -> dict[str, np.ndarray]:
    """Of the first examples that count, of all classes in turn: x, adversarial, noise [m, ...], what the model says.

    own, noise: [n, ...], the generator's and the noise's versions of all of held.x.
    """
    chosen = _of_each_class(held)
    arrays = {"label": held.labels[chosen].cpu().numpy()}
    for name, x in (("x", held.x), ("adversarial", own), ("noise", noise)):
        with torch.no_grad():
            likely = held.model(x[chosen]).softmax(1).max(1)
        arrays |= {
            name: x[chosen].cpu().numpy(),
            f"{name}_class": likely.indices.cpu().numpy(),
            f"{name}_sure": likely.values.float().cpu().numpy(),
        }
    return arrays


def _of_each_class(held: Held) -> Tensor:
    """[m <= SHOWN] places: of each class the first example that counts, then of each the second, and so on."""
    places = held.counted.nonzero().squeeze(1)
    if not len(places):
        return places
    labels = held.labels[places]
    nth = torch.nn.functional.one_hot(labels).cumsum(0).gather(1, labels[:, None]).squeeze(1)
    order = (nth * (labels.max() + 1) + labels).argsort(stable=True)[:SHOWN]
    return places[order[labels[order].argsort(stable=True)]]

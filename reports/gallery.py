"""Which examples are shown as pictures? The first few that were broken, spread over the classes."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from attacks import Result
from reports.answers import Answers
from reports.sources.dataset import Batch

PICTURES = 6  # per model and threat

Example = dict[str, Any]


class Smallest:
    """Of what several attacks found for each row of a batch, the smallest perturbation."""

    def __init__(self, batch: Batch):
        self.size = torch.full((len(batch.x),), torch.inf, dtype=torch.float64, device=batch.x.device)
        self.x_adv = batch.x.clone()
        self.attack = [""] * len(batch.x)
        self.prediction = torch.zeros_like(batch.labels)
        self.confidence = torch.zeros_like(self.size)

    def look(self, attack: str, result: Result, answers: Answers) -> None:
        better = (result.step > 0) & (result.size < self.size)
        self.size = torch.where(better, result.size, self.size)
        self.prediction = torch.where(better, answers.prediction, self.prediction)
        self.confidence = torch.where(better, answers.confidence, self.confidence)
        self.x_adv[better] = result.x_adv[better]
        for row in better.nonzero().flatten().tolist():
            self.attack[row] = attack


class Gallery:
    """The first few broken examples per threat: of each class one, and the next ones where classes are lacking.

    Of galleries of consecutive examples, a gallery that is offered all that they keep is the gallery of them all.
    """

    def __init__(self):
        self.chosen: dict[str, list[Example]] = {}
        self.spare: dict[str, list[Example]] = {}

    def choose(self, threat: str, batch: Batch, clean: Answers, shown: Smallest) -> None:
        for row in shown.size.isfinite().nonzero().flatten().tolist():
            place = self._place(threat, int(batch.labels[row]))
            if place is not None:
                place.append(_example(threat, row, batch, clean, shown))

    def offer(self, examples: Iterable[Example]) -> None:
        """Examples in the order of their ids."""
        for example in examples:
            place = self._place(example["threat"], example["label"])
            if place is not None:
                place.append(example)

    def kept(self) -> list[Example]:
        """Whatever may be shown, in the order of the ids, threat by threat."""
        return [
            example
            for threat, chosen in self.chosen.items()
            for example in sorted([*chosen, *self.spare[threat]], key=lambda example: example["id"])
        ]

    def shown(self) -> Iterator[Example]:
        for threat, chosen in self.chosen.items():
            yield from [*chosen, *self.spare[threat]][:PICTURES]

    def _place(self, threat: str, label: int) -> list[Example] | None:
        chosen, spare = self.chosen.setdefault(threat, []), self.spare.setdefault(threat, [])
        if len(chosen) == PICTURES:
            return None
        if all(example["label"] != label for example in chosen):
            return chosen
        return spare if len(spare) < PICTURES else None


def _example(threat: str, row: int, batch: Batch, clean: Answers, shown: Smallest) -> Example:
    return {
        "x": batch.x[row].cpu().numpy().copy(),
        "x_adv": shown.x_adv[row].cpu().numpy().copy(),
        "threat": threat,
        "attack": shown.attack[row],
        "id": int(batch.ids[row]),
        "label": int(batch.labels[row]),
        "clean_prediction": int(clean.prediction[row]),
        "clean_confidence": float(clean.confidence[row]),
        "adversarial_prediction": int(shown.prediction[row]),
        "adversarial_confidence": float(shown.confidence[row]),
    }

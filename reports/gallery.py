"""Which examples are shown as pictures? The first few that were broken, spread over the classes."""

from typing import Any

import torch

from attacks import Result
from reports import record
from reports.answers import Answers
from reports.sources.dataset import Batch

PICTURES = 6  # per model and threat


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
    """The first few broken examples per threat: of each class one, and the next ones where classes are lacking."""

    def __init__(self, model: str):
        self.model = model
        self.chosen: dict[str, list[dict[str, Any]]] = {}
        self.spare: dict[str, list[dict[str, Any]]] = {}

    def choose(self, threat: str, batch: Batch, clean: Answers, shown: Smallest) -> None:
        chosen, spare = self.chosen.setdefault(threat, []), self.spare.setdefault(threat, [])
        for row in shown.size.isfinite().nonzero().flatten().tolist():
            if len(chosen) == PICTURES:
                return
            is_new = all(example["label"] != int(batch.labels[row]) for example in chosen)
            if not is_new and len(spare) == PICTURES:
                continue
            (chosen if is_new else spare).append(self._example(threat, row, batch, clean, shown))

    def _example(self, threat: str, row: int, batch: Batch, clean: Answers, shown: Smallest) -> dict[str, Any]:
        return {
            "x": batch.x[row].cpu().numpy().copy(),
            "x_adv": shown.x_adv[row].cpu().numpy().copy(),
            "model": self.model,
            "threat": threat,
            "attack": shown.attack[row],
            "id": int(batch.ids[row]),
            "label": int(batch.labels[row]),
            "clean_prediction": int(clean.prediction[row]),
            "clean_confidence": float(clean.confidence[row]),
            "adversarial_prediction": int(shown.prediction[row]),
            "adversarial_confidence": float(shown.confidence[row]),
        }

    def hang(self, writer: record.Writer) -> None:
        for threat, chosen in self.chosen.items():
            for example in [*chosen, *self.spare[threat]][:PICTURES]:
                writer.add_to_gallery(**example)

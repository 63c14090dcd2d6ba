"""What is written down of an attack on a batch, column by column?"""

import math
from typing import Any

import numpy as np
from torch import Tensor

from attacks import Result
from attacks.doubts import doubts
from reports.answers import Answers
from reports.piece import packed
from reports.record import ROW, UNSEEN
from reports.sources.dataset import Batch

Columns = dict[str, Any]  # [b] each


def of_rows(batch: Batch, clean: Answers, result: Result, answers: Answers) -> Columns:
    """answers: to what was found; clean: to the clean inputs."""
    columns = {
        "id": batch.ids,
        "label": batch.labels,
        "clean_prediction": clean.prediction,
        "correct": clean.prediction == batch.labels,
        "fooled": result.fooled,
        "adversarial_prediction": answers.prediction,
        "size": result.size,
        "margin": answers.margin.double(),
        "queries": result.queries,
        "backwards": result.backwards,
        "passes": result.passes,
    }
    if result.seen is not None:
        columns |= {"stage": result.seen.stage, "doubts": doubts(result.seen), "gap": result.seen.gap.double()}
    rows = {name: tensor.detach().cpu().numpy() for name, tensor in columns.items()}
    for name, value in UNSEEN.items():
        rows.setdefault(name, _filled(name, len(batch.ids), value))
    fooled = rows["fooled"].tolist()
    found = iter(packed(result.x_adv[result.fooled].detach().cpu().numpy()))
    return rows | {"x": [next(found) if hit else None for hit in fooled]}


def of_unanswered_rows(unanswered: Batch) -> Columns:
    """Inputs without a finite answer: clean_prediction is -1, and they count as wrong."""
    ids, x, labels = (tensor.cpu().numpy() for tensor in unanswered)
    said: dict[str, Any] = {"clean_prediction": -1, "correct": False, "fooled": True, "adversarial_prediction": -1}
    said |= {"size": 0.0, "margin": math.inf, "queries": 1, "backwards": 0, "passes": 1}
    said |= {"stage": -1, "doubts": 0, "gap": math.nan}
    rows = {name: _filled(name, len(ids), value) for name, value in said.items()}
    return {"id": ids, "label": labels, **rows, "x": packed(x)}


def of_curve(batch: Batch, correct: Tensor, result: Result) -> Columns:
    columns = {
        "id": batch.ids,
        "correct": correct,
        "size": result.size,
        "queries": result.queries,
        "backwards": result.backwards,
    }
    return {name: tensor.cpu().numpy() for name, tensor in columns.items()}


def of_unanswered_curve(unanswered: Batch) -> Columns:
    said = {"correct": False, "size": 0.0, "queries": 1, "backwards": 0}
    rows = {name: _filled(name, len(unanswered.ids), value) for name, value in said.items()}
    return {"id": unanswered.ids.cpu().numpy(), **rows}


def _filled(name: str, n: int, value: Any) -> Any:
    return np.full(n, value, ROW[name])

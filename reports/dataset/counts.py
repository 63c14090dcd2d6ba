"""What came of each run: counts over all rows of a set."""

from typing import Any

import numpy as np
import pandas as pd

OUTCOMES = ("fooled", "already", "stands", "lost")


class Counts:
    """Rows are added shard by shard; of each only its size is kept."""

    def __init__(self):
        self.counts: dict[str, dict[str, int]] = {}
        self.sizes: dict[str, list[np.ndarray]] = {}

    def add(self, name: str, rows: pd.DataFrame, told: dict[str, int]) -> None:
        """One run's kept rows of a shard, and the counts over all of its examples, kept or not."""
        counts = self.counts.setdefault(name, {})
        for key, value in told.items():
            counts[key] = counts.get(key, 0) + value
        self.sizes.setdefault(name, []).append(rows["size"].to_numpy()[rows.outcome == "fooled"])

    def of(self, name: str) -> dict[str, Any]:
        sizes = np.concatenate(self.sizes.get(name) or [np.zeros(0)])
        middle = {"median": float(np.median(sizes)), "largest": float(sizes.max())} if len(sizes) else {}
        return {**self.counts.get(name, {}), "size": middle}


def counted(rows: pd.DataFrame, kept: np.ndarray) -> dict[str, int]:
    """Of one run's rows of a shard; kept [n] bool are in the set."""
    fooled = rows.outcome == "fooled"
    return {
        "examples": len(rows),
        "rows": int(kept.sum()),
        "correct": int((rows.clean_prediction == rows.label).sum()),
        **{name: int((rows.outcome == name).sum()) for name in OUTCOMES},
        "mended": int((fooled & rows.mended).sum()),
        "outside": int((fooled & ~rows.inside).sum()),
        "unverified": int((~rows.verified[kept]).sum()),
        "queries": int(rows.queries.sum()),
        "backwards": int(rows.backwards.sum()),
    }

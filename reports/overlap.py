"""Was a generator trained on the very examples that it is audited on, or for another threat?"""

from collections.abc import Iterator

import torch
from torch import Tensor

from reports import words
from reports.generated import FromRun
from reports.sources.dataset import Batch


class Overlap:
    """Counts, for one model and generator, what it broke of examples that it was trained on and of others."""

    def __init__(self, attack: FromRun):
        self.attack = attack
        self.counts: dict[str, Tensor] = {}  # threat -> [seen or not, counted or broken] int64
        self.seen: dict[str, tuple[int, int]] = {}  # threat -> how many were trained on, of how many

    def see(self, threat: str, batch: Batch, correct: Tensor, fooled: Tensor) -> None:
        """correct, fooled: [b] bool, right when clean and what the attack broke."""
        known = self.attack.trained_on(batch.x)
        counts = [[int((part & rows).sum()) for rows in (correct, correct & fooled)] for part in (known, ~known)]
        self.counts[threat] = self.counts.get(threat, torch.zeros(2, 2, dtype=torch.int64)) + torch.tensor(counts)
        of = self.seen.get(threat, (0, 0))
        self.seen[threat] = of[0] + int(known.sum()), of[1] + len(known)

    def notes(self) -> Iterator[tuple[str, str]]:
        """(threat, a sentence): where it was not trained for the threat, and where it knew examples."""
        for threat, counts in self.counts.items():
            misfit, (known, of) = self.attack.misfit(threat), self.seen[threat]
            if misfit:
                yield threat, misfit
            if known:
                (own, broken), (new, broken_new) = counts.tolist()
                rest = f"; of the others {_broken(broken_new, new)}" if new else "; there are no others"
                yield (
                    threat,
                    f"generated:{self.attack.run} was trained on {words.of(known, of)} of these examples. Of those "
                    f"that were right when clean it broke {_broken(broken, own)}{rest}. Only the others say what it "
                    "does to inputs that it has not seen; that robust accuracy is at most this holds all the same.",
                )


def _broken(count: int, total: int) -> str:
    return f"{words.of(count, total)} ({words.percent(count, total)})"

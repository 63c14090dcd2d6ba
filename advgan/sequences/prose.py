"""How good is a generator of lines? Beside lines held out, and beside what the same measures give for real lines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from attacks.errors import InputError

from ..theory import Estimate
from .bleu import References, bleu, distinct, self_bleu
from .measures import AT_ONCE
from .model import Model
from .sampling import MEASURING, sample
from .text import END, UNKNOWN, until_end

COUNT = 1000  # lines
REFERENCES = 2000  # at most
DISTINCT = (1, 2, 3)


@dataclass(frozen=True, eq=False)
class Ruler:
    """Lines as tokens, [N, T] int64 each; what was held out shares no line with training."""

    training: Tensor
    held_out: Tensor

    def measure(self, generator: Model, count: int = COUNT, seed: int = 0) -> dict[str, float]:
        """Of `count` lines, or of as many as there are to learn from, and of all that were held out.

        By name, with the error as NAME_error where there is one:

        perplexity of a token held out, END among them and UNKNOWN left out; bleu_n with those lines as references,
        self_bleu_n, distinct_n; `copied`: the share of lines that stand in training, `different`: that no other equals.
        """
        count = min(count, len(self.training))  # self-BLEU grows with it, and real lines are measured likewise
        tokens = sample(generator, count, self.training.shape[1], seed, purpose=MEASURING)
        return perplexity(generator, self.held_out) | self._of_lines(until_end(tokens)) | {"samples": float(count)}

    def real(self, count: int = COUNT) -> dict[str, float]:
        """What lines of the training data score, as many where there are; no `copied`."""
        scored = self._of_lines(until_end(spaced(self.training, count)))
        return {name: value for name, value in scored.items() if not name.startswith("copied")}

    def _of_lines(self, lines: Sequence[list[int]]) -> dict[str, float]:
        estimates: dict[str, Estimate] = {f"bleu_{n}": each for n, each in bleu(lines, self._references).items()}
        if len(lines) > 1:
            estimates |= {f"self_bleu_{n}": each for n, each in self_bleu(lines).items()}
        found = {name: each.value for name, each in estimates.items()}
        found |= {f"{name}_error": each.error for name, each in estimates.items()}
        found |= {f"distinct_{n}": share for n in DISTINCT if (share := distinct(lines, n)) is not None}
        known = {tuple(line) for line in lines}
        found["copied"] = sum(tuple(line) in self._trained for line in lines) / len(lines)
        return found | {"different": len(known) / len(lines)}

    @cached_property
    def _references(self) -> References:
        return References.of(until_end(spaced(self.held_out, REFERENCES)))

    @cached_property
    def _trained(self) -> set[tuple[int, ...]]:
        return {tuple(line) for line in until_end(self.training)}


def perplexity(model: Model, tokens: Tensor) -> dict[str, float]:
    """e to the mean NLL of the tokens of lines [n, T], each line's END among them: with its error.

    UNKNOWN is read and not counted; "unknown" is its share. Raises InputError where nothing is left.
    """
    read = (tokens == END).cumsum(1) - (tokens == END).long() == 0  # up to the first END, and it
    counts = read & (tokens != UNKNOWN)
    device = model.out.device
    nll = torch.cat([-model.log_likelihood(some.to(device)).double().cpu() for some in tokens.split(AT_ONCE)])
    each, number = (nll * counts.cpu()).sum(1), counts.sum(1).double().cpu()
    if not number.sum():
        raise InputError("No token of the lines held out is known, so there is no perplexity.")
    mean = float(each.sum() / number.sum())
    spread = float((each - mean * number).square().sum().sqrt() / number.sum())
    score = math.exp(mean) if mean < math.log(1e300) else math.inf
    unknown = float((read & (tokens == UNKNOWN)).sum() / read.sum())
    return {"perplexity": score, "perplexity_error": score * spread, "unknown": unknown}


def spaced(rows: Tensor, count: int) -> Tensor:
    """At most `count` of the rows, evenly spaced: the data may be in an order."""
    return rows if len(rows) <= count else rows[torch.linspace(0, len(rows) - 1, count).round().long()]

"""Sequences of an oracle, whose likelihood is known: how are they drawn, and a generator of them measured?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advgan.sequences import oracle
from advgan.sequences.beginning import fingerprint
from advgan.sequences.lstm import Lstm
from advgan.sequences.measures import COUNT, compare, critic_gap
from advgan.sequences.model import Model
from advgan.sequences.sampling import sample
from attacks.errors import InputError

SMALL = {"vocabulary": 50, "embedding": 16, "hidden": 16}  # the oracle where no file is named
SMALL_LENGTH, LENGTH = 8, 20  # tokens; SeqGAN's 20
SMALL_SEQUENCES, SEQUENCES = 10_000, 9_984
AT_MARKS = 1000  # sequences
SEED = 0  # of an oracle that is drawn, and of what it writes


@dataclass(frozen=True, eq=False)
class Truth:
    """The oracle and what it wrote, [N, T]."""

    name: str
    oracle: Lstm
    training: Tensor

    @classmethod
    def of(cls, spec: str, length: int | None, sequences: int | None, device: torch.device) -> "Truth":
        """spec: `oracle`, one drawn from a seed, or `oracle:FILE`. InputError for a file that holds none."""
        _, colon, file = spec.partition(":")
        if colon and not file:
            raise InputError(f"--data {spec} names no file. Write oracle:FILE.npz, or oracle for a small one.")
        usual = (LENGTH, SEQUENCES) if file else (SMALL_LENGTH, SMALL_SEQUENCES)
        model = (oracle.load(Path(file)) if file else oracle.drawn(SEED, **SMALL)).to(device)
        ids = torch.arange(sequences or usual[1], device=device)
        return cls(spec, model, sample(model, ids, length or usual[0], SEED))

    @property
    def vocabulary(self) -> int:
        return self.oracle.vocabulary

    @property
    def length(self) -> int:
        return self.training.shape[1]

    @property
    def absent(self) -> tuple[int, ...]:
        return ()

    @property
    def about(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": "oracle",
            "shape": [self.length],
            "training": len(self.training),
            "vocabulary": self.vocabulary,
            "at_marks": AT_MARKS,
        }

    @property
    def config(self) -> dict[str, Any]:
        return {"oracle": fingerprint(self.oracle)}

    def keep(self, folder: Path) -> None:
        """Nothing: its tokens are their numbers."""

    def measure(self, generator: Model) -> dict[str, float]:
        return compare(self.oracle, generator, self.length, AT_MARKS).numbers()

    def examine(self, generator: Model, critic: nn.Module | None) -> dict[str, float]:
        found = compare(self.oracle, generator, self.length, COUNT)
        told = found.numbers() | {"entropy": found.nll_gen.value - found.kl.value, "samples": float(COUNT)}
        if critic is not None:
            gap = critic_gap(critic, self.oracle, generator, self.length, AT_MARKS)
            told |= {"critic_gap": gap.value, "critic_gap_error": gap.error}
        return told

    def shown(self, tokens: Tensor) -> dict[str, np.ndarray]:
        """`nll` [n], of a token in the mean, under the oracle."""
        return {"nll": -self.oracle.log_likelihood(tokens).mean(1).cpu().numpy()}

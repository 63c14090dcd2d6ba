"""How do sequences read: as lines of text, or as rows of tokens?"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from advgan.sequences.text import Vocabulary, visible
from reports.sequencing.lines import VOCABULARY


@dataclass(frozen=True)
class Reader:
    """vocabulary: None where tokens are numbers."""

    vocabulary: Vocabulary | None

    @classmethod
    def of(cls, folder: Path) -> "Reader":
        """Of a run. InputError for a vocabulary that is damaged."""
        path = folder / VOCABULARY
        return cls(Vocabulary.load(path) if path.is_file() else None)

    def lines(self, tokens: np.ndarray) -> list[str]:
        """A line for each row of tokens [n, T], as it is."""
        if self.vocabulary is None:
            return [" ".join(map(str, row)) for row in tokens.tolist()]
        return self.vocabulary.decode(torch.from_numpy(tokens))

    def shown(self, tokens: np.ndarray) -> list[str]:
        """The same, fit for a terminal and a page: whatever would steer them is escaped."""
        return [visible(line) for line in self.lines(tokens)]

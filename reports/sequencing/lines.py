"""Lines of text: which are learnt, which are held out, and how is a generator of them measured?"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advgan.sequences import text
from advgan.sequences.model import Model
from advgan.sequences.prose import Ruler
from advgan.sequences.text import UNKNOWN, Vocabulary, pieces, until_end
from attacks.errors import InputError

VOCABULARY = "vocabulary.json"
HELD_OUT = 5  # one in so many different lines is kept from training
FEWEST = 10  # different lines
LONGEST = 256  # tokens of a line, where nothing is said of it
PARTED = f"every {HELD_OUT}th of the different lines, in the order of the file, is held out with all its copies"


@dataclass(frozen=True, eq=False)
class Lines:
    """training, held_out: [N, T] each, no line in both."""

    name: str
    words: Vocabulary
    training: Tensor
    held_out: Tensor
    were_cut: int
    digest: str

    @classmethod
    def of(
        cls, path: Path, kind: str | None, size: int | None, longest: int | None, cut: bool, device: torch.device
    ) -> "Lines":
        """InputError for a file that cannot be read or learnt from, and for lines beyond `longest` tokens, unless they
        are to be cut."""
        lines = text.read(path)
        kind, most = kind or text.usual_kind(lines), longest or LONGEST
        whole = [pieces(line, kind) for line in lines]
        long = sum(len(each) > most for each in whole)
        if long and not cut:
            raise InputError(_refusal(path, lines, whole, kind, most))
        between = " " if kind == "words" else ""
        training, held = parted([between.join(each[:most]) for each in whole], path)
        words = Vocabulary.of(training, kind, text.LARGEST if size is None else size)
        length = 1 + min(most, max(map(len, whole)))
        learnt, kept = (words.encode(part, length).to(device) for part in (training, held))
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        return cls(str(path), words, learnt, kept, long, digest)

    @property
    def vocabulary(self) -> int:
        return len(self.words)

    @property
    def absent(self) -> tuple[int, ...]:
        """Where every word that is learnt has a number, UNKNOWN stands only for words of lines held out."""
        return () if bool((self.training == UNKNOWN).any()) else (UNKNOWN,)

    @property
    def about(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.words.kind,
            "shape": [self.training.shape[1]],
            "training": len(self.training),
            "held_out": len(self.held_out),
            "parted": PARTED,
            "vocabulary": self.vocabulary,
            "cut": self.were_cut,
            "sha256": self.digest,
        }

    @property
    def config(self) -> dict[str, Any]:
        return {"vocabulary": self.words.kind, "text": self.digest[:16]}

    def keep(self, folder: Path) -> None:
        self.words.save(folder / VOCABULARY)

    def measure(self, generator: Model) -> dict[str, float]:
        return self.ruler.measure(generator)

    def examine(self, generator: Model, critic: nn.Module | None) -> dict[str, float]:
        return self.measure(generator) | {f"real_{name}": value for name, value in self.ruler.real().items()}

    def shown(self, tokens: Tensor) -> dict[str, np.ndarray]:
        """`copied` [n] bool: does the line stand in training?"""
        known = {tuple(row) for row in until_end(self.training)}
        return {"copied": np.array([tuple(row) in known for row in until_end(tokens)], dtype=bool)}

    @cached_property
    def ruler(self) -> Ruler:
        return Ruler(self.training, self.held_out)


def parted(lines: list[str], path: Path) -> tuple[list[str], list[str]]:
    """Those to learn from and those held out, no line in both. InputError for too few different ones."""
    different = list(dict.fromkeys(lines))
    if len(different) < FEWEST:
        only = f"It has {len(different)} different line{'s' if len(different) > 1 else ''}"
        raise InputError(
            f"{path} is too little to learn from. {only}, and {FEWEST} are needed, one of {HELD_OUT} to be held out."
        )
    held = set(different[HELD_OUT // 2 :: HELD_OUT])
    return [line for line in lines if line not in held], [line for line in lines if line in held]


def _refusal(path: Path, lines: list[str], whole: list[list[str]], kind: str, most: int) -> str:
    sizes = [len(each) for each in whole]
    worded = max(len(line.split()) for line in lines)
    other = f", or --vocabulary words, of which they have at most {worded}" if kind == "characters" else ""
    return (
        f"{path}: {sum(size > most for size in sizes):,} of {len(lines):,} lines have more than {most:,} {kind}, the "
        f"longest {max(sizes):,}. Cut them with --cut, or take them whole with --length {max(sizes)}{other}."
    )

"""Which tokens is a line of text made of, and how is it read out of tokens again?

A line is its tokens and then END, again and again until all lines are equally long. So a model that is read before its
first token starts from the end of a line, and what it writes after an END is not read out.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Self

import torch
from torch import Tensor

from attacks.errors import InputError, unknown

from ..checkpoint import FORMAT, write

END, UNKNOWN = 0, 1  # the tokens that no text is made of
SPECIAL = 2
KINDS = ("words", "characters")
LARGEST = 5000  # known tokens; as many as SeqGAN's oracle has
UNREADABLE = "\N{REPLACEMENT CHARACTER}"
UTF16 = (b"\xff\xfe", b"\xfe\xff")
FEW_WORDS = 3  # in a line; with fewer it is spelled


@dataclass(frozen=True)
class Vocabulary:
    """tokens: those of the numbers 2, 3, ...; kind: `words` (what stands between white space) or `characters`
    (code points)."""

    kind: str
    tokens: tuple[str, ...]

    @classmethod
    def of(cls, lines: Iterable[str], kind: str, largest: int = LARGEST) -> Self:
        """The tokens of the lines, the most frequent first, as many as `largest`. InputError for fewer than two."""
        if kind not in KINDS:
            raise unknown("vocabulary", kind, KINDS)
        if largest < 2:
            raise InputError(f"A vocabulary of {largest}. It takes 2 tokens or more.")
        counts = Counter(piece for line in lines for piece in pieces(line, kind))
        if len(counts) < 2:
            only = f"the only one is {visible(next(iter(counts)))!r}" if counts else "there is none"
            raise InputError(f"There is nothing to learn from fewer than two different {kind}: {only}.")
        ordered = sorted(counts, key=lambda token: (-counts[token], token))
        return cls(kind, tuple(ordered[:largest]))

    def __len__(self) -> int:
        """With END and UNKNOWN."""
        return SPECIAL + len(self.tokens)

    @cached_property
    def numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens, SPECIAL)}

    def encode(self, lines: Sequence[str], length: int) -> Tensor:
        """[n, length] int64. Raises InputError for a line of as many tokens or more: END must have room."""
        rows = torch.full((len(lines), length), END)
        for row, line in zip(rows, lines, strict=True):
            numbers = [self.numbers.get(piece, UNKNOWN) for piece in pieces(line, self.kind)]
            if len(numbers) >= length:
                raise InputError(
                    f"A line has {len(numbers)} {self.kind}, and at most {length - 1} were learnt: {_beginning(line)}"
                )
            row[: len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
        return rows

    def decode(self, tokens: Tensor) -> list[str]:
        """The lines of tokens [n, T], each up to its first END. Raises InputError for tokens of other vocabularies."""
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < len(self):
            raise InputError(
                f"This vocabulary has the tokens 0 to {len(self) - 1}, and these lie within {int(tokens.min())} and "
                f"{int(tokens.max())}."
            )
        named = ("", UNREADABLE, *self.tokens)
        between = " " if self.kind == "words" else ""
        return [between.join(named[number] for number in row) for row in until_end(tokens)]

    def save(self, path: Path) -> None:
        told = {"format": FORMAT, "kind": self.kind, "tokens": self.tokens}
        write(path, (json.dumps(told, ensure_ascii=True) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises InputError for a file that is missing or that `save` did not write."""
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"There is no file {path}.") from None
        except ValueError as error:
            raise InputError(f"{path} is not JSON ({error}): it is damaged. Train again.") from error
        if not isinstance(told, dict) or told.get("format") != FORMAT or told.get("kind") not in KINDS:
            raise InputError(f"{path} is no vocabulary of a format that this version reads.")
        tokens = told.get("tokens")
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise InputError(f"{path} has no list of tokens: it is damaged. Train again.")
        return cls(told["kind"], tuple(tokens))


def pieces(line: str, kind: str) -> list[str]:
    """The tokens of a line, as they are written."""
    return line.split() if kind == "words" else list(line)


def until_end(tokens: Tensor) -> list[list[int]]:
    """The numbers of each row [n, T] before its first END."""
    rows = tokens.tolist()
    return [row[: row.index(END)] if END in row else row for row in rows]


def usual_kind(lines: Sequence[str]) -> str:
    """Words where half of the lines have three or more, else characters: names are spelled, sentences worded."""
    return "words" if median(len(line.split()) for line in lines) >= FEW_WORDS else "characters"


def read(path: Path) -> list[str]:
    """The lines of a UTF-8 file that are not blank, without their ends. Raises InputError where there are none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder. Name a file of text, a line for each sequence.") from None
    if content.startswith(UTF16):
        raise InputError(f"{path} looks like UTF-16. Save it as UTF-8: iconv -f utf-16 -t utf-8.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.start + content.startswith(b"\xef\xbb\xbf") * 3
        raise InputError(
            f"{path} is not UTF-8: byte {at:,} (of line {content[:at].count(10) + 1:,}) is 0x{content[at]:02x}, "
            f"{error.reason}. Save it as UTF-8, say iconv -f latin1 -t utf-8."
        ) from error
    lines = [line for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n") if line.strip()]
    if not lines:
        raise InputError(f"{path} has no line of text. Name a file with a line for each sequence.")
    return lines


def visible(text: str) -> str:
    """The same on one line, with an escape for each character that would steer a terminal or a page.

    Those are controls, ends of lines, and marks that turn the direction of what follows; the rest stays as it is.
    """
    return "".join(f"\\x{ord(c):02x}" if _steers(c) and ord(c) < 256 else _long(c) if _steers(c) else c for c in text)


def _steers(character: str) -> bool:
    number = ord(character)
    return number < 32 or 127 <= number < 160 or number in range(0x2028, 0x202F) or number in range(0x2066, 0x206A)


def _long(character: str) -> str:
    return f"\\u{ord(character):04x}"


def _beginning(line: str) -> str:
    return visible(line[:40]) + ("..." if len(line) > 40 else "")

"""What is a data set to hold, and how is it to be written? Checked before anything is attacked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from attacks import Attack, ThreatModel
from attacks.errors import InputError, unknown
from reports.options import described, named_attacks

FORMATS = ("parquet", "imagefolder", "npz", "webdataset")
ENCODINGS = ("png", "jpeg", "uint8", "float32")
OF_FORMAT = {name: ("uint8", "float32") if name == "npz" else ("png", "jpeg") for name in FORMATS}
TARGETS = ("random", "next", "least-likely")
LEVELS = 255


@dataclass(frozen=True)
class Run:
    """One attack under one threat."""

    name: str  # part of file names; no two runs have the same
    threat: str
    attack: str
    model: ThreatModel
    search: Attack


@dataclass(frozen=True)
class Asked:
    """format: of FORMATS; encoding: of ENCODINGS, None for the format's own.

    target: None, "random", "next", "least-likely" or a class number as text.
    successes: keep only what was right when clean and was fooled; pairs: keep the clean inputs too.
    shard: examples in a file; batch_size: examples attacked at a time.
    """

    runs: tuple[Run, ...]
    format: str = "parquet"
    encoding: str | None = None
    target: str | None = None
    successes: bool = False
    pairs: bool = False
    seed: int = 0
    shard: int = 1000
    batch_size: int = 256

    @classmethod
    def of(cls, threats: Sequence[str], attacks: Sequence[str | Attack], **options: Any) -> "Asked":
        """InputError for what is unknown, there twice, or does not go together."""
        asked = cls(_runs(threats, named_attacks(attacks)), **options)
        if asked.format not in FORMATS:
            raise unknown("format", asked.format, FORMATS)
        if asked.encoding is not None:
            _check_encoding(asked.format, asked.encoding)
        if asked.target is not None and asked.target not in TARGETS and not asked.target.isdecimal():
            raise unknown("target", asked.target, (*TARGETS, "a class number"))
        if not 0 <= asked.seed < 2**63:
            raise InputError(f"The seed is {asked.seed}; it must be a whole number from 0 to 2**63 - 1.")
        for name, value in {"shard": asked.shard, "batch size": asked.batch_size}.items():
            if value < 1:
                raise InputError(f"The {name} is {value}; at least one example is needed.")
        return asked

    def settled(self, shape: tuple[int, ...], on_grid: bool) -> "Asked":
        """With the encoding that such data have; InputError where the one asked for cannot hold them.

        on_grid: whether the inputs are 8-bit, each k / 255.
        """
        images = len(shape) == 3
        what = f"inputs of shape {list(shape)}"
        if not images and self.format != "npz":
            raise InputError(
                f"--format {self.format} holds images, and these are {what}. Take --format npz, which holds any array."
            )
        own = ("uint8" if on_grid else "float32") if self.format == "npz" else "png"
        encoding = self.encoding or own
        if encoding == "jpeg" and shape[0] == 4:
            raise InputError("JPEG has no opacity, and these images have 4 channels. Take --encoding png.")
        if encoding != "float32" and not on_grid:
            raise InputError(
                f"The inputs are not 8-bit (each k / 255), so {encoding} would change them. "
                "Take --format npz --encoding float32, or give 8-bit images."
            )
        return replace(self, encoding=encoding)

    @property
    def levels(self) -> int | None:
        """255 where examples are written in 8 bits, so that they must be found there."""
        return None if self.encoding == "float32" else LEVELS

    def described(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        return {
            "threats": list(dict.fromkeys(run.threat for run in self.runs)),
            "attacks": {run.attack: described(run.search) for run in self.runs},
            **{name: getattr(self, name) for name in ("format", "encoding", "target", "successes", "pairs", "seed")},
            **{name: getattr(self, name) for name in ("shard", "batch_size")},
        }


def slug(text: str, most: int = 40) -> str:
    """What may stand in any file's name: letters, digits, - and _; never empty, no dot, no slash."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")[:most] or "x"


def _runs(threats: Sequence[str], attacks: dict[str, Attack]) -> tuple[Run, ...]:
    if not threats:
        raise InputError("No threat is named; a data set needs at least one, say linf:8/255.")
    threats = [text.strip().lower() for text in threats]
    if len(set(threats)) < len(threats):
        raise InputError(f"A threat is there twice: {', '.join(threats)}.")
    runs: list[Run] = []
    for threat in threats:
        model = ThreatModel.parse(threat)
        for name, attack in attacks.items():
            stem = f"{slug(threat)}-{slug(name)}"
            taken = {run.name for run in runs}
            free = next(
                f"{stem}{end}" for end in ("", *(f"-{k}" for k in range(2, 999))) if f"{stem}{end}" not in taken
            )
            runs.append(Run(free, threat, name, model, attack))
    return tuple(runs)


def _check_encoding(format_: str, encoding: str) -> None:
    if encoding not in ENCODINGS:
        raise unknown("encoding", encoding, ENCODINGS)
    if encoding not in OF_FORMAT[format_]:
        raise InputError(
            f"--format {format_} does not hold {encoding}: it has {' and '.join(OF_FORMAT[format_])}. "
            f"Formats with {encoding}: {', '.join(name for name in FORMATS if encoding in OF_FORMAT[name])}."
        )

"""Which trained generator does a text such as `generated:RUN:tries=4` name, and does it fit what is audited?"""

import hashlib
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from advgan.perturb import Generated, load_perturber
from advgan.perturber import Reads
from advgan.run import GENERATOR
from attacks.card import Card
from attacks.errors import InputError, unknown
from attacks.loop import Search
from attacks.passes.layers import layer_named
from attacks.rows import Rows
from reports import words
from reports.provenance import row_digests

NAME = "generated"
FORM = "Write generated:RUN or generated:RUN:tries=4, RUN being a folder of `advgan train perturber`."
TRAINED_ON = "trained_on.npz"  # digest [n] uint64: by which the examples are known again


@dataclass(frozen=True, eq=False)
class FromRun:
    """A trained generator of perturbations as an attack, with what makes an audit of it repeatable."""

    run: str
    sha256: str  # of the generator's file
    trained_for: str  # a threat
    kind: str
    target: int | str | None
    reads: Reads | None
    attack: Generated = field(repr=False)

    @classmethod
    def load(cls, run: str, tries: int = 1) -> "FromRun":
        """InputError for a folder that holds no generator of perturbations, or one that is damaged."""
        perturber = load_perturber(run)
        digest = hashlib.sha256((Path(run) / GENERATOR).read_bytes()).hexdigest()
        threat = perturber.threat
        told = f"{threat.norm.name}:{float(threat.eps):g}"
        attack = Generated(perturber, tries)
        return cls(run, digest, told, perturber.kind, perturber.target, perturber.reads, attack)

    @property
    def card(self) -> Card:
        return self.attack.card

    def search(self, rows: Rows) -> Search:
        self.attack.perturber.to(rows.x.device)
        yield from self.attack.search(rows)

    def check(self, shape: tuple[int, ...], classes: int, model: nn.Module) -> None:
        """Raises InputError where it was trained for other inputs, classes, or a model with a layer that this lacks."""
        try:
            self.attack.perturber.check(shape, classes)
            if self.reads is not None:
                layer_named(model, self.reads.layer)
        except InputError as error:
            raise InputError(f"{NAME}:{self.run} cannot be used here. {error}") from error

    def trained_on(self, x: Tensor) -> Tensor:
        """[b] bool: which of the inputs [b, ...] were among those that it learnt from, as far as its folder tells."""
        return torch.from_numpy(np.isin(row_digests(x), self._digests)).to(x.device)

    @cached_property
    def _digests(self) -> np.ndarray:
        file = Path(self.run) / TRAINED_ON
        if not file.is_file():
            return np.zeros(0, dtype=np.uint64)
        try:
            with np.load(file, allow_pickle=False) as archive:
                return archive["digest"]
        except Exception as error:  # zipfile, zlib and numpy each raise their own
            raise InputError(f"{file} is not a whole npz file ({error or type(error).__name__}).") from error

    def stranger(self, sha256: str) -> str:
        """What is to be said where it reads a layer of a model other than this; empty where it is this one or none."""
        if self.reads is None or self.reads.sha256 == sha256:
            return ""
        return (
            f"{NAME}:{self.run} reads the layer {self.reads.layer} of the model with the sha256 "
            f"{self.reads.sha256[:16]}, and this one has {sha256[:16]}: what it reads here means something else, and "
            "that it breaks little says nothing. Train one against this model, or carry it over: from Python, "
            "attacks.Transferred."
        )

    def misfit(self, threat: str) -> str:
        """What is to be said of it under a threat that it was not trained for; empty where it was."""
        norm, _ = words.split(threat)
        eps, trained = words.eps(threat), words.eps(self.trained_for)
        if norm != words.split(self.trained_for)[0] or abs(eps - trained) <= 1e-6 * trained:
            return ""
        return (
            f"{NAME}:{self.run} was trained for {words.threat(self.trained_for)}; here what it makes is scaled to "
            f"{words.threat(threat)}. Trained for it, it may do better: advgan train perturber --threat {threat}."
        )


def from_text(text: str) -> FromRun:
    """The attack of `generated:RUN` or `generated:RUN:tries=4`; a folder's name may hold colons and commas."""
    run, options = parted(text.partition(":")[2].strip())
    if not run:
        raise InputError(f"{text!r} names no folder. {FORM}")
    tries = 1
    for part in filter(None, (part.strip() for part in options.split(","))):
        option, _, value = (piece.strip() for piece in part.partition("="))
        if option != "tries":
            raise unknown(f"option of {NAME}", option, ["tries"])
        if not value.isdecimal() or int(value) < 1:
            raise InputError(f"{text!r}: tries is {value!r}; a whole number from 1 up is needed.")
        tries = int(value)
    return FromRun.load(run, tries)


def parted(rest: str) -> tuple[str, str]:
    """The folder, and the options that follow its last colon; what is a folder as a whole has none."""
    found = None if Path(rest).is_dir() else re.fullmatch(r"(.+?):((?:\w+\s*=[^/:]*)?)", rest)
    return (found[1], found[2]) if found else (rest, "")

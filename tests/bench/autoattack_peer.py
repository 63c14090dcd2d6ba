"""What does the published AutoAttack leave standing, and what does it cost? (arXiv 2003.01690; L1: 2103.01208)"""

import importlib.metadata
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import torch
from kept import Arrays, fingerprint, fingerprint_of, kept
from race import passes_of
from torch import Tensor, nn

import attacks
from attacks.victim import borrowed

PEER = "pyautoattack"
NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
CHUNK = 250  # rows at a time, its own batch size; each chunk is kept as soon as it is done


@dataclass
class Outcome:
    """B rows, in the order they came."""

    clean: np.ndarray  # [B] bool: right when clean
    robust: np.ndarray  # [B] bool: right and not fooled
    forwards: float  # a row, over all rows
    backwards: float
    seconds: float

    @classmethod
    def joined(cls, parts: list["Outcome"]) -> "Outcome":
        sizes = [len(part.clean) for part in parts]
        return cls(
            np.concatenate([part.clean for part in parts]),
            np.concatenate([part.robust for part in parts]),
            float(np.average([part.forwards for part in parts], weights=sizes)),
            float(np.average([part.backwards for part in parts], weights=sizes)),
            sum(part.seconds for part in parts),
        )

    def arrays(self) -> Arrays:
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def read(cls, arrays: Arrays) -> "Outcome":
        named = {field.name: arrays[field.name] for field in fields(cls)}
        return cls(**{name: value if value.ndim else float(value) for name, value in named.items()})


def installed() -> str | None:
    """Its version, where it is here."""
    try:
        return importlib.metadata.version(PEER)
    except importlib.metadata.PackageNotFoundError:
        return None


def autoattack(model: nn.Module, x: Tensor, labels: Tensor, threat: str, passes: int = 1, seed: int = 0) -> Outcome:
    """The standard version, and for a random model "rand".

    passes: for a random model, the fresh passes of which more than half must be wrong for a row to count as fooled.
    Its checks for random and dynamic models cost 7 forwards a row.
    """
    return Outcome.joined(list(chunks(model, x, labels, threat, passes, seed)))


def chunks(model: nn.Module, x: Tensor, labels: Tensor, threat: str, passes: int, seed: int) -> Iterator[Outcome]:
    for first in range(0, len(x), CHUNK):
        some, named = x[first : first + CHUNK], labels[first : first + CHUNK]
        key = {
            "model": fingerprint(model),
            "data": fingerprint_of(some, named),
            "threat": threat,
            "passes": passes,
            "seed": seed,
            "peer": f"{PEER} {installed()}",
        }
        run = partial(_run, model, some, named, threat, passes, seed)
        yield Outcome.read(kept("autoattack", key, run))


def _run(model: nn.Module, x: Tensor, labels: Tensor, threat: str, passes: int, seed: int) -> Arrays:
    import pyautoattack

    norm, _, _ = threat.partition(":")
    eps = float(attacks.ThreatModel.parse(threat).eps)
    version = "standard" if passes == 1 else "rand"
    attack = pyautoattack.AutoAttack(model, norm=NORMS[norm], eps=eps, seed=seed, version=version)
    found: list[Tensor] = []
    with borrowed(model, seed):
        start = time.perf_counter()
        cost = passes_of(
            model, lambda: found.append(attack.run_standard_evaluation(x, labels, batch_size=CHUNK)[0]), at=model
        )
        seconds = time.perf_counter() - start
        clean, robust = (~mostly_wrong(model, each, labels, passes) for each in (x, found[0]))
    forwards, backwards = (count / len(x) for count in cost)
    return Outcome(clean.numpy(), (clean & robust).numpy(), forwards, backwards, seconds).arrays()


def mostly_wrong(model: nn.Module, x: Tensor, labels: Tensor, passes: int) -> Tensor:
    """[B] bool: another class comes out of more than half of the passes."""
    with torch.no_grad():
        return sum((model(x).argmax(1) != labels).long() for _ in range(passes)) * 2 > passes

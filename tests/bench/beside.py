"""What do AutoAttack, its twin here, the verdict and the certificate say of the same rows, and for how many passes?"""

import inspect
import time
from dataclasses import dataclass
from pathlib import Path

import autoattack_peer as peer
import numpy as np
from autoattack_peer import Outcome
from everything import everything
from kept import Arrays, digest, fingerprint, fingerprint_of, kept
from masking import MASKING
from outside import MNIST, data_of, outside, rows_of
from race import passes_of
from rich.table import Table
from torch import Tensor, nn

import attacks
from attacks.certify import certify
from attacks.doubts import doubts

BATCH = 250  # AutoAttack's
EVERYTHING_ROWS = 200


@dataclass(frozen=True)
class Pair:
    """A model and a threat, tried on the first rows of its data."""

    model: str  # in models.py, or in masking.MASKING
    threat: str
    rows: int = 1000
    twin: int = 0  # rows on which our own autoattack runs too
    certify: int = 0  # rows that are certified: a deep network takes many seconds for one

    def __str__(self) -> str:
        return f"{self.model} {self.threat}"

    @property
    def masks(self) -> bool:
        return self.model in MASKING or self.model == "advertorch_adv"

    @property
    def passes(self) -> int:
        return MASKING[self.model].passes if self.model in MASKING else 1

    def make(self) -> nn.Module:
        return MASKING[self.model].make() if self.model in MASKING else outside(self.model)

    def data(self) -> tuple[Tensor, Tensor]:
        return rows_of(MNIST if self.model in MASKING else data_of(self.model), 0, self.rows)


@dataclass
class Line:
    """What came out for one pair. None: not to be had here."""

    pair: Pair
    published: Outcome
    twin: Outcome | None
    verdict: Outcome
    certified: np.ndarray | None  # [pair.certify] bool
    doubted: float | None  # share of the rows that the verdict leaves and has doubts about
    everything: np.ndarray | None  # [EVERYTHING_ROWS] bool: what AutoAttack and all others leave of a masking model

    @property
    def beyond(self) -> int:
        """Rows that AutoAttack fools and the verdict does not."""
        return int((self.verdict.robust & ~self.published.robust).sum())

    @property
    def fewer(self) -> tuple[float, float]:
        """How many times fewer forwards and gradients the verdict takes."""
        forwards = self.published.forwards / self.verdict.forwards
        return forwards, self.published.backwards / max(self.verdict.backwards, 1e-9)


def measured(pair: Pair) -> Line:
    model, (x, labels) = pair.make(), pair.data()
    published = peer.autoattack(model, x, labels, pair.threat, pair.passes)
    certified = whole = None
    verdict, result = attacked("verdict", model, x, labels, pair)
    assert result.seen is not None
    doubted = float((doubts(result.seen)[~result.fooled] != 0).double().mean()) if (~result.fooled).any() else None
    if pair.certify:
        certified = certify(model, x[: pair.certify], labels[: pair.certify], pair.threat).certified.numpy()
    if pair.model in MASKING:
        each = MASKING[pair.model]
        some = slice(EVERYTHING_ROWS)
        whole = everything(model, x[some], labels[some], pair.threat, each.aids, pair.passes)["robust"]
        whole = whole & published.robust[some]
    return Line(pair, published, _twin(model, x, labels, pair), verdict, certified, doubted, whole)


def attacked(name: str, model: nn.Module, x: Tensor, labels: Tensor, pair: Pair) -> tuple[Outcome, attacks.Result]:
    """An attack of ours with its default options, its passes counted by hooks as AutoAttack's are."""
    victim = attacks.Victim(model, passes=pair.passes)
    found: list[attacks.Result] = []

    def call() -> None:
        found.append(attacks.run(name, victim, x, labels, pair.threat, batch_size=BATCH))

    start = time.perf_counter()
    forwards, backwards = passes_of(model, call, at=model)
    seconds = time.perf_counter() - start
    clean, robust = found[0].step != 0, ~found[0].fooled
    return Outcome(clean.numpy(), robust.numpy(), forwards / len(x), backwards / len(x), seconds), found[0]


def _twin(model: nn.Module, x: Tensor, labels: Tensor, pair: Pair) -> Outcome | None:
    """Our own AutoAttack on the first `pair.twin` rows, kept for as long as its code stays as it is."""
    if not pair.twin:
        return None
    x, labels = x[: pair.twin], labels[: pair.twin]
    key = {
        "model": fingerprint(model),
        "data": fingerprint_of(x, labels),
        "threat": pair.threat,
        "passes": pair.passes,
        "attack": repr(attacks.CATALOG["autoattack"]()),
        "code": _code_of("autoattack", "apgd", "fab", "square"),
    }

    def compute() -> Arrays:
        return attacked("autoattack", model, x, labels, pair)[0].arrays()

    return Outcome.read(kept("twin", key, compute))


def _code_of(*names: str) -> str:
    """Of the files in which these attacks are written."""
    files = {inspect.getfile(attacks.CATALOG[name]) for name in names}
    return digest({Path(file).name: Path(file).read_text() for file in files})


def table(lines: list[Line]) -> Table:
    columns = ["model", "threat", "rows", "clean", "AutoAttack", "ours", "verdict", "certified", "catalogue"]
    columns += ["beyond", "AutoAttack's passes", "verdict's passes", "times fewer", "seconds"]
    grid = Table(*columns, title="Robust accuracy in %, passes a row over all rows (forwards, gradients)")
    for line in lines:
        grid.add_row(*_cells(line))
    return grid


def _cells(line: Line) -> list[str]:
    published, verdict = line.published, line.verdict
    return [
        line.pair.model + (" (masks)" if line.pair.masks else ""),
        line.pair.threat,
        str(line.pair.rows),
        _percent(published.clean),
        _percent(published.robust),
        _percent(line.twin and line.twin.robust) + (f" of {line.pair.twin}" if line.twin else ""),
        _percent(verdict.robust) + ("" if line.doubted is None else f", {line.doubted:.0%} doubted"),
        _percent(line.certified) + (f" of {line.pair.certify}" if line.pair.certify else ""),
        _percent(line.everything) + (f" of {len(line.everything)}" if line.everything is not None else ""),
        str(line.beyond),
        f"{published.forwards:.0f}, {published.backwards:.0f}",
        f"{verdict.forwards:.1f}, {verdict.backwards:.1f}",
        "{:.0f}, {:.0f}".format(*line.fewer),
        f"{published.seconds:.0f}, {verdict.seconds:.1f}",
    ]


def _percent(rows: np.ndarray | None) -> str:
    return "" if rows is None else f"{100 * rows.mean():.2f}"


def geometric(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))

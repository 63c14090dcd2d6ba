"""How near do generators of sequences come to SeqGAN's oracle, and what does it cost?

Length 20, one fixed set of 9,984 sequences of the oracle to train on, temperature 1, measured on 9,984 others. The
published figures are those of the log beside SeqGAN's code, on sequences of its own from the same oracle. The
likelihood under the oracle has no lower end that means anything: the rank is by Jeffreys divergence and
the next token's JS.
"""

import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from kept import Arrays, digest, fingerprint_of, kept
from outside import SHARED
from record import Book
from rich.table import Table
from torch import Tensor

import advgan.sequences
from advgan.sequences import oracle
from advgan.sequences.likelihood import Likelihood, Recipe
from advgan.sequences.loop import train
from advgan.sequences.lstm import Lstm
from advgan.sequences.measures import Measures, compare
from advgan.sequences.sampling import sample

FILE = SHARED / "seqgan_oracle.npz"
LENGTH, SEQUENCES = 20, 9984
GLANCE = 2000  # sequences for the curve
MINUTES = 20  # of CPU time, to train by maximum likelihood
PUBLISHED = {"likelihood": 9.07, "seqgan": 8.683}
OFF = 0.05
TEMPERATURES = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
CHOOSING, REPORTING = 1, 0  # seeds: what a temperature is chosen by, and what is reported of it


@pytest.fixture(autouse=True)
def one_thread(threads) -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def truth() -> Lstm:
    if not FILE.exists():
        pytest.skip(f"the oracle's file is not there: {FILE}")
    return oracle.load(FILE)


@pytest.fixture(scope="module")
def data(truth: Lstm) -> Tensor:
    return sample(truth, SEQUENCES, LENGTH, seed=0)


@pytest.fixture(scope="module")
def lines(tables: list[Table]) -> list[tuple[str, Measures]]:
    found: list[tuple[str, Measures]] = []
    yield found  # type: ignore[misc]
    tables.append(table(found))


@pytest.fixture(scope="module")
def likelihood(truth: Lstm, data: Tensor, tmp_path_factory) -> tuple[Lstm, Arrays]:
    """The generator, and how it came to be: `minutes`, `steps`, `curve`."""
    recipe = Recipe()
    names = ("lstm", "model", "vocabulary", "likelihood")
    files = [Path(advgan.sequences.__file__).parent / f"{name}.py" for name in names]
    key = {
        "recipe": asdict(recipe),
        "data": fingerprint_of(data),
        "code": digest({f.name: f.read_text() for f in files}),
    }

    def compute() -> Arrays:
        method, start = Likelihood(recipe, data, truth.vocabulary), time.process_time()
        rows = train(
            method,
            tmp_path_factory.mktemp("likelihood") / "run",
            every=20 * SEQUENCES // recipe.batch,
            measure=lambda generator: compare(truth, generator, LENGTH, GLANCE).numbers(),
        )
        about = {name: np.array([row[name] for row in rows]) for name in ("step", "nll_oracle", "jeffreys")}
        weights = {f"weight.{name}": value.numpy() for name, value in method.generator.state_dict().items()}
        return {"minutes": np.array((time.process_time() - start) / 60), **about, **weights}

    arrays = kept("likelihood", key, compute)
    generator = Lstm(truth.vocabulary, recipe.embedding, recipe.hidden)
    prefix = "weight."
    weights = {k.removeprefix(prefix): torch.from_numpy(v) for k, v in arrays.items() if k.startswith(prefix)}
    generator.load_state_dict(weights)
    return generator.eval().requires_grad_(False), arrays


def test_the_oracle_beside_itself(truth: Lstm, lines, book: Book):
    found = compare(truth, truth, LENGTH, SEQUENCES)
    lines.append(("the oracle", found))
    write_down("oracle", found, "nll_oracle", book, reference=5.757, reference_is="the file's own, computed elsewhere")
    assert abs(found.nll_oracle.value - 5.757) <= 0.01 + 2 * found.nll_oracle.error


def test_maximum_likelihood_reproduces_the_row_of_seqgans_log(likelihood, truth: Lstm, lines, book: Book):
    generator, about = likelihood
    found = compare(truth, generator, LENGTH, SEQUENCES, REPORTING)
    lines.append(("maximum likelihood", found))
    curve = ", ".join(f"{nll:.2f} at {step}" for step, nll in zip(about["step"], about["nll_oracle"], strict=True))
    published = {"reference": PUBLISHED["likelihood"], "reference_is": "published: SeqGAN's log", "bar": OFF}
    for name in Measures.__dataclass_fields__:
        more = {**published, "note": f"NLL under the oracle by step: {curve}"} if name == "nll_oracle" else {}
        write_down("maximum likelihood", found, name, book, **more)
    minutes = float(about["minutes"])
    book.add(
        suite="sequences",
        measured="maximum likelihood: CPU minutes on one thread",
        unit="min",
        repeats=1,
        ours=minutes,
        bar=MINUTES,
        note="120 epochs, 18,720 batches of 64, with the curve's measures",
    )
    assert minutes <= MINUTES
    assert abs(found.nll_oracle.value - PUBLISHED["likelihood"]) <= OFF


def test_maximum_likelihood_at_its_best_temperature(likelihood, truth: Lstm, lines, book: Book):
    """Chosen by Jeffreys divergence on other samples than are reported."""
    generator = likelihood[0]
    scores = {tau: compare(truth, generator.at_temperature(tau), LENGTH, GLANCE, CHOOSING) for tau in TEMPERATURES}
    best = min(scores, key=lambda tau: scores[tau].jeffreys.value)
    found = compare(truth, generator.at_temperature(best), LENGTH, SEQUENCES, REPORTING)
    lines.append((f"maximum likelihood at temperature {best}", found))
    swept = ", ".join(f"{s.jeffreys.value:.3f} ({s.nll_oracle.value:.2f}) at {tau}" for tau, s in scores.items())
    for name in Measures.__dataclass_fields__:
        more = {"note": f"Jeffreys (NLL under the oracle) by temperature: {swept}"} if name == "jeffreys" else {}
        write_down(f"maximum likelihood, temperature {best}", found, name, book, **more)


def write_down(who: str, found: Measures, name: str, book: Book, note: str = "", **more) -> None:
    value, error = getattr(found, name)
    book.add(
        suite="sequences",
        measured=f"{who}: {name}",
        unit="nats" if name == "js" else "nats a token",
        repeats=1,
        ours=float(value),
        note=f"s.e. {error:.2g} over {SEQUENCES} sequences{'; ' if note else ''}{note}",
        **more,
    )


def table(lines: list[tuple[str, Measures]]) -> Table:
    names = list(Measures.__dataclass_fields__)
    grid = Table("generator", *(name.replace("_", " ") for name in names), title="nats a token; js: nats a sequence")
    for who, found in lines:
        told = [f"{getattr(found, name).value:.3f}±{getattr(found, name).error:.3f}" for name in names]
        grid.add_row(who, *told)
    return grid

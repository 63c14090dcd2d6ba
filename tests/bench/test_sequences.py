"""How near do generators of sequences come to SeqGAN's oracle, and what does it cost?

Length 20, one fixed set of 9,984 sequences of the oracle to train on, temperature 1, measured on 9,984 others. The
published figures are those of the log beside SeqGAN's code, on sequences of its own from the same oracle. The
likelihood under the oracle has no lower end that means anything: the rank is by Jeffreys divergence and
the next token's JS.
"""

import time
from collections.abc import Callable
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
from advgan.sequences import oracle, policy, rollouts
from advgan.sequences.likelihood import Likelihood, Recipe
from advgan.sequences.loop import train
from advgan.sequences.lstm import Lstm
from advgan.sequences.measures import Measures, compare
from advgan.sequences.policy import Policy
from advgan.sequences.sampling import sample

FILE = SHARED / "seqgan_oracle.npz"
LENGTH, SEQUENCES = 20, 9984
GLANCE = 2000  # sequences for the curve
MINUTES = 20  # of CPU time, to train by maximum likelihood
PUBLISHED = {"likelihood": 9.07, "seqgan": 8.683}
OFF = 0.05
FASTER = 10  # times, than a loop over beginnings and rollouts
TEMPERATURES = (0.8, 1.0, 1.4, 1.8, 2.2, 2.6, 3.0, 3.5)
EARLY = 5  # epochs
GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
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


def test_maximum_likelihood_stopped_early(truth: Lstm, data: Tensor, lines, book: Book):
    """Where 700 other sequences of the oracle are likeliest: of 3, 6, 10 and 15 epochs the first two, both at 7.65.

    The rest of the 120 epochs is learning by heart, which the likelihood under the oracle rewards.
    """
    method = Likelihood(Recipe(epochs=EARLY), data, truth.vocabulary)
    for step in range(method.steps):
        method.advance(step)
    found = compare(truth, method.generator, LENGTH, SEQUENCES, REPORTING)
    lines.append((f"maximum likelihood, {EARLY} epochs", found))
    for name in Measures.__dataclass_fields__:
        write_down(f"maximum likelihood, {EARLY} epochs", found, name, book)
    assert found.jeffreys.value < 5  # 6.47 after 120 epochs


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
def test_a_step_of_the_policy_takes_a_tenth_of_what_a_loop_over_beginnings_and_rollouts_takes(
    device: str, truth: Lstm, data: Tensor, book: Book, repeats: int, monkeypatch
):
    """Both score with the smaller critic; in the loop are what a state says next, torch.multinomial, and the score."""
    game = Policy(policy.Recipe(critic="small"), data.to(device), truth.vocabulary, truth.to(device))

    def seconds(values: Callable[..., Tensor]) -> float:
        monkeypatch.setattr(policy, "values", values)
        start = time.perf_counter()
        assert game.move(0)["reward"].isfinite()  # waits for the device
        return time.perf_counter() - start

    both = (looped, rollouts.values)
    for values in both:
        seconds(values)
    times = np.array([[seconds(values) for values in both] for _ in range(min(repeats, 5))])
    ratios = np.quantile(times[:, 0] / times[:, 1], (0.25, 0.5, 0.75))
    book.add(
        suite="sequences",
        measured=f"SeqGAN's step of the generator, 64 sequences, 16 rollouts, all beginnings: {device}",
        unit="s",
        repeats=len(times),
        ours=float(np.median(times[:, 1])),
        reference=float(np.median(times[:, 0])),
        reference_is="a loop over beginnings and rollouts",
        **dict(zip(("ratio_low", "ratio", "ratio_high"), map(float, ratios), strict=True)),
        bar=FASTER,
        note=torch.cuda.get_device_name() if device == "cuda" else "the smaller critic scores",
    )
    assert ratios[1] >= FASTER


def looped(generator: Lstm, score: Callable[[Tensor], Tensor], tokens: Tensor, uniform: Tensor) -> Tensor:
    """`rollouts.values` as one would write it first."""
    worth = [score(tokens)]
    with torch.no_grad():
        given = generator.states(tokens)
        for known in range(tokens.shape[1] - 1, 0, -1):
            total = torch.zeros_like(worth[0])
            for _ in range(uniform.shape[2]):
                whole, state = tokens.clone(), tuple(each[:, known] for each in given)
                for t in range(known, tokens.shape[1]):
                    whole[:, t] = torch.multinomial(generator.logits(state[0]).softmax(1), 1)[:, 0]
                    state = generator.read(whole[:, t], state)
                total += score(whole)
            worth.append(total / uniform.shape[2])
    return torch.stack(worth[::-1], 1)


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

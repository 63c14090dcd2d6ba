"""Are the measures of sequences what enumeration says they are, within their own errors?"""

import math

import pytest
import torch
from enumerated import EVERY, LENGTH, VOCABULARY, probabilities, tiny

from advgan.sequences import oracle
from advgan.sequences.lstm import Lstm
from advgan.sequences.measures import compare, critic_gap, judged, sweep
from attacks import InputError

O, G = tiny(11), tiny(12)  # noqa: E741
COUNT = 4000


@pytest.fixture(scope="module")
def exact() -> dict[str, float]:
    """Counted out over all sequences, and over all prefixes."""
    p, q = (probabilities(model).detach() for model in (O, G))
    kl, reverse = (p * (p / q).log()).sum() / LENGTH, (q * (q / p).log()).sum() / LENGTH
    middle = (p + q) / 2
    js = ((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum()) / 2
    token_js = 0.0
    for weights in (p, q):
        for position in range(LENGTH):
            a, b = (model.logits(model.states(EVERY)[0][:, position]).softmax(1).detach() for model in (O, G))
            m = (a + b) / 2
            each = ((a * (a / m).log()).sum(1) + (b * (b / m).log()).sum(1)) / 2
            token_js += (weights * each).sum() / LENGTH / 2
    found = {
        "nll_oracle": -(q * p.log()).sum() / LENGTH,
        "nll_gen": -(p * q.log()).sum() / LENGTH,
        "kl": kl,
        "reverse_kl": reverse,
        "jeffreys": kl + reverse,
        "token_js": token_js,
        "js": js,
    }
    return {name: float(value) for name, value in found.items()}


def test_measures_are_within_their_errors_of_enumeration_whatever_the_seed(exact):
    off = []
    for seed in range(20):
        found = compare(O, G, LENGTH, COUNT, seed)
        off.append([(getattr(found, name).value - value) / getattr(found, name).error for name, value in exact.items()])
    z = torch.tensor(off)
    assert z.abs().max() < 4.5
    assert ((z.square().mean(0) > 0.35) & (z.square().mean(0) < 2.2)).all(), "errors are too small or too large"
    assert exact["kl"] > 0.05
    assert exact["token_js"] > 0.01


def test_the_oracle_is_at_no_distance_from_itself():
    found = compare(O, O, LENGTH, 50)
    for name in ("kl", "reverse_kl", "jeffreys", "token_js", "js"):
        assert getattr(found, name).value == pytest.approx(0, abs=1e-12)
        assert getattr(found, name).error == pytest.approx(0, abs=1e-12)


def test_a_generator_that_repeats_the_likeliest_has_the_best_likelihood_and_the_worst_divergence():
    cold = sweep(O, O, LENGTH, (0.1, 1.0), COUNT)
    assert cold[0.1].nll_oracle.value < cold[1.0].nll_oracle.value - 0.1
    assert cold[0.1].jeffreys.value > 0.5
    assert cold[1.0].jeffreys.value == pytest.approx(0, abs=1e-12)


def test_far_models_are_at_the_ends_of_the_scales():
    far = [oracle.drawn(seed, vocabulary=50, embedding=4, hidden=8) for seed in (1, 2)]
    found = compare(far[0].at_temperature(0.05), far[1].at_temperature(0.05), 12, 200)
    assert found.js.value == pytest.approx(math.log(2), abs=1e-6)
    assert 0.5 < found.token_js.value <= math.log(2)
    assert all(math.isfinite(number) for number in found.numbers().values())


def test_the_best_critic_has_no_gap_and_a_blind_one_has_what_there_is_to_see(exact):
    best = critic_gap(lambda tokens: judged(O, G, tokens).ratio, O, G, LENGTH, 500)  # type: ignore[arg-type]
    assert best.value == pytest.approx(0, abs=1e-12)
    blind = critic_gap(lambda tokens: torch.zeros(len(tokens)), O, G, LENGTH, COUNT)  # type: ignore[arg-type]
    assert blind.value == pytest.approx(exact["js"], abs=4 * blind.error)
    assert blind.error < 0.1 * blind.value


def test_numbers_name_each_value_and_its_error():
    found = compare(O, G, LENGTH, 10)
    numbers = found.numbers()
    assert numbers["kl"] == found.kl.value
    assert numbers["kl_error"] == found.kl.error
    assert len(numbers) == 14


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="3 tokens, and the generator 4"):
        compare(O, Lstm(VOCABULARY + 1, 2, 4), LENGTH)
    with pytest.raises(InputError, match="2 or more"):
        compare(O, G, LENGTH, 1)

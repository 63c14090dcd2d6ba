"""Do relaxed tokens tend to tokens, does their gradient reach the generator, does the game get back where it was?"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from enumerated import EVERY, LENGTH, VOCABULARY, probabilities, tiny
from scipy.stats import chisquare

from advgan.sequences import generators
from advgan.sequences.gumbel import Gumbel, Recipe, relaxed, relaxed_sequences
from advgan.sequences.loop import train
from advgan.sequences.lstm import Lstm
from advgan.sequences.memory import Memory
from advgan.sequences.sampling import sample
from attacks import InputError, noise

SHORT = Recipe(epochs=1, batch=8, embedding=4, hidden=4, rounds=6, critic_moves=2)
DATA = sample(tiny(1), 32, LENGTH, seed=0)
LOGITS = noise.normal(1, torch.arange(50), 0, (7,), torch.float64)
UNIFORM = noise.uniform(2, torch.arange(50), 0, (7,), torch.float64)


def method(recipe: Recipe = SHORT, start: Lstm | Memory | None = None) -> Gumbel:
    return Gumbel(recipe, DATA, VOCABULARY, start)


def one_hot(shares: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(shares.argmax(-1), shares.shape[-1]).to(shares.dtype)


def test_as_tau_falls_shares_become_single_tokens():
    apart = [
        (relaxed(LOGITS, UNIFORM, tau, False) - one_hot(LOGITS - (-UNIFORM.log()).log())) for tau in (1, 0.1, 1e-4)
    ]
    distance = [each.abs().max().item() for each in apart]
    assert distance[0] > 0.5
    assert distance[0] > distance[1] > distance[2]
    assert distance[2] < 1e-6


def test_straight_through_shows_single_tokens_and_has_the_gradient_of_the_shares():
    logits, weights = LOGITS.clone().requires_grad_(), noise.normal(3, torch.arange(50), 0, (7,), torch.float64)
    soft, hard = (relaxed(logits, UNIFORM, 0.7, each) for each in (False, True))
    assert torch.equal(hard.detach(), one_hot(soft))
    slopes = [torch.autograd.grad((shown * weights).sum(), logits)[0] for shown in (soft, hard)]
    assert torch.equal(*slopes)
    assert slopes[0].abs().min() > 0


def test_numbers_at_the_ends_give_finite_shares():
    ends = torch.tensor([[0.0, 1 - 2**-24, 0.5]])
    logits = torch.zeros(1, 3, requires_grad=True)
    shares = relaxed(logits, ends, 0.01, True)
    shares[0, 0].backward()
    assert shares.tolist() == [[0.0, 1.0, 0.0]]
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("model", [tiny(3), Memory.drawn(3, VOCABULARY, 2, slots=2, width=4).double()])
def test_single_tokens_come_as_often_as_the_model_says(model):
    """At any tau: the argmax of logits and Gumbel noise is a draw of the softmax."""
    uniform = noise.uniform(6, torch.arange(20_000), 0, (LENGTH, VOCABULARY), torch.float64)
    with torch.no_grad():
        tokens = relaxed_sequences(model, uniform, 0.5, hard=True).argmax(2)
    counts = np.bincount((tokens @ torch.tensor([9, 3, 1])).numpy(), minlength=27)
    shares = model.log_likelihood(EVERY).sum(1).exp().numpy()
    assert chisquare(counts, 20_000 * shares).pvalue > 0.001


def test_the_gradient_reaches_every_weight_through_what_was_shown_before():
    model = tiny(3)
    uniform = noise.uniform(6, torch.arange(4), 0, (LENGTH, VOCABULARY), torch.float64)
    for hard in (False, True):
        shown = relaxed_sequences(model, uniform, 1.0, hard)
        slopes = torch.autograd.grad(shown[:, 2, 0].sum(), list(model.parameters()))
        assert all(slope.abs().max() > 0 for slope in slopes)


def test_tau_falls_evenly_from_its_first_value_to_its_last():
    recipe = Recipe(rounds=5, tau=2.0, tau_last=0.125)
    assert [recipe.tau_at(number) for number in range(5)] == pytest.approx([2, 1, 0.5, 0.25, 0.125])


@pytest.mark.parametrize("slots", [1, 2])
def test_a_memorys_probabilities_of_all_sequences_add_up_to_one(slots):
    model = Memory.drawn(7, VOCABULARY, 2, slots=slots, width=4).double()
    likelihood = model.log_likelihood(EVERY).sum(1).exp()
    assert likelihood.sum().item() == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(likelihood, probabilities(model).detach())
    assert likelihood.max() > 1.2 * likelihood.min()


def test_a_memory_tells_the_order_of_what_it_has_read():
    model = Memory.drawn(7, VOCABULARY, 2, slots=2, width=4).double()
    hidden = model.states(torch.tensor([[0, 1, 0], [1, 0, 0]]))[0][:, 2]
    assert (hidden[0] - hidden[1]).abs().max() > 1e-2


def test_a_memorys_gradient_is_that_of_differences():
    model = Memory.drawn(7, VOCABULARY, 2, slots=2, width=4).double()
    names = [name for name, _ in model.named_parameters()]

    def nll(*weights: torch.Tensor) -> torch.Tensor:
        given = dict(zip(names, weights, strict=True))
        hidden = torch.func.functional_call(model, given, (EVERY[::5],))
        return (hidden @ given["out"] + given["out_bias"]).log_softmax(-1)[..., 0].sum()

    model.forward = lambda tokens: model.states(tokens)[0]
    assert torch.autograd.gradcheck(nll, tuple(model.parameters()))


@pytest.mark.parametrize("kind", ["lstm", "memory"])
def test_an_interrupted_game_ends_bit_for_bit_where_an_uninterrupted_one_does(tmp_path, kind):
    recipe = replace(SHORT, generator=kind, hard=kind == "lstm")

    def interrupt(step: int, row: dict) -> None:
        if step == 4:
            raise KeyboardInterrupt

    whole = method(recipe)
    straight = train(whole, tmp_path / "whole", every=2)
    with pytest.raises(KeyboardInterrupt):
        train(method(recipe), tmp_path / "broken", every=2, progress=interrupt)
    again = method(recipe)
    resumed = train(again, tmp_path / "broken", every=2, resume=True)
    for name, net in whole.nets.items():
        for key, value in net.state_dict().items():
            assert torch.equal(again.nets[name].state_dict()[key], value), f"{name}.{key}"
    assert [{**row, "seconds": 0} for row in resumed] == [{**row, "seconds": 0} for row in straight]
    kept = generators.load(tmp_path / "broken")
    assert kept.about() == whole.generator.about()
    assert torch.equal(kept.log_likelihood(EVERY), whole.generator.log_likelihood(EVERY))


@pytest.mark.parametrize("hard", [False, True])
def test_the_game_finds_the_data(hard):
    data = torch.tensor([[2, 0, 1]]).expand(64, LENGTH).contiguous()
    recipe = replace(SHORT, batch=32, rounds=200, hard=hard, game_lr=0.01, critic_lr=1e-3, critic_moves=1, tau_last=0.3)
    game = Gumbel(recipe, data, VOCABULARY, tiny(5, 0.1).float())
    before = game.generator.log_likelihood(data[:1]).sum().exp().item()
    for step in range(game.steps):
        game.advance(step)
    assert before < 0.1
    assert game.generator.log_likelihood(data[:1]).sum().exp().item() > 0.5


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tau_last": 0.0}, "Both are above 0"),
        ({"objective": "none"}, "objective 'none'"),
        ({"critic_moves": 0}, "critic_moves = 0"),
        ({"generator": "memory", "hidden": 5}, "cannot share a width of 5"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(changed, said):
    with pytest.raises(InputError, match=said):
        method(replace(SHORT, **changed))

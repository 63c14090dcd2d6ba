"""Does the policy climb the reward's exact gradient, do its controls stand still, and does it find its way back?"""

from dataclasses import replace
from functools import partial

import pytest
import torch
from enumerated import EVERY, LENGTH, VOCABULARY, probabilities, tiny
from test_rollouts import exact_value, score
from torch import Tensor

from advgan.sequences import generators
from advgan.sequences.critic import build
from advgan.sequences.loop import train
from advgan.sequences.lstm import Lstm
from advgan.sequences.measures import critic_gap
from advgan.sequences.model import Model
from advgan.sequences.policy import Policy, Recipe, rewarded
from advgan.sequences.sampling import sample
from attacks import InputError, noise

SHORT = Recipe(
    epochs=1,
    batch=8,
    embedding=4,
    hidden=4,
    rounds=4,
    rollouts=2,
    critic="small",
    critic_batch=16,
    critic_first=1,
    critic_sets=2,
    critic_epochs=1,
)
DATA = sample(tiny(1), 32, LENGTH, seed=0)


def method(recipe: Recipe = SHORT, data: Tensor = DATA, start: Model | None = None) -> Policy:
    return Policy(recipe, data, VOCABULARY, start)


def gradient(model: Lstm, loss: Tensor) -> Tensor:
    return torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(model.parameters()))])


def slope_of_the_mean_score(model: Lstm) -> Tensor:
    return gradient(model, (probabilities(model) * score(EVERY)).sum())


def test_the_policys_gradient_is_that_of_the_mean_score_counted_out():
    """Over all sequences, each as often as it is drawn, its tokens weighted by the exact values of its beginnings."""
    model = tiny(3)
    worth = torch.stack([exact_value(model, EVERY, k) for k in (1, 2, 3)], 1)
    shares = probabilities(model).detach()[:, None]
    expected = slope_of_the_mean_score(model)
    torch.testing.assert_close(-gradient(model, model.weighted_nll(EVERY, shares * worth)), expected)
    torch.testing.assert_close(-gradient(model, model.weighted_nll(EVERY, shares * (worth - 7.0))), expected)
    assert expected.norm() > 0.1


def mean_gradient(model: Lstm, recipe: Recipe) -> Tensor:
    """Of a batch of two, over all pairs of sequences, each as often as it is drawn; a reward is the whole's score."""
    shares, total = probabilities(model).detach(), torch.zeros(())
    for other, share in zip(EVERY, shares, strict=True):
        pairs = torch.stack((EVERY, other.expand_as(EVERY)))  # [2, 27, 3]
        worth = score(pairs.flatten(0, 1)).view(2, 27, 1).expand(2, 27, LENGTH)
        weights = rewarded(worth.flatten(1), recipe, 0).view(2, 27, LENGTH)
        joint = (shares * share)[None, :, None]
        total = total - gradient(model, model.weighted_nll(pairs.flatten(0, 1), (joint * weights).flatten(0, 1)))
    return total


@pytest.mark.parametrize("baseline", [False, True])
def test_a_baseline_changes_nothing_in_the_mean(baseline):
    model = tiny(3)
    expected = 2 * slope_of_the_mean_score(model)
    torch.testing.assert_close(mean_gradient(model, replace(SHORT, baseline=baseline)), expected)


@pytest.mark.parametrize("rewards", ["constant", "permuted"])
def test_a_control_moves_nothing_in_the_mean(rewards):
    found = mean_gradient(tiny(3), replace(SHORT, rewards=rewards))
    assert found.norm() < 1e-12


def test_a_permuted_reward_is_another_sequences_and_so_is_what_it_is_compared_with():
    worth = torch.tensor([[1.0], [10.0], [100.0]])
    permuted = replace(SHORT, rewards="permuted")
    found = {number: rewarded(worth, permuted, number)[:, 0].tolist() for number in range(8)}
    assert {tuple(each) for each in found.values()} == {(100.0, 1.0, 10.0), (10.0, 100.0, 1.0)}
    for number, given in found.items():
        less = rewarded(worth, replace(permuted, baseline=True), number)[:, 0]
        assert less.tolist() == [2 * g + w - 111 for g, w in zip(given, worth[:, 0].tolist(), strict=True)]


def test_a_baseline_is_the_mean_of_the_others():
    worth = torch.tensor([[1.0], [10.0], [100.0]])
    found = rewarded(worth, replace(SHORT, baseline=True), 0)
    assert found[:, 0].tolist() == [1 - 55, 10 - 50.5, 100 - 5.5]


def test_constant_rewards_less_their_baseline_leave_the_generator_as_it_was():
    start = tiny(4).float()
    still = method(replace(SHORT, rewards="constant", baseline=True), start=start)
    moved = method(replace(SHORT, rewards="constant"), start=start)
    for game in (still, moved):
        for step in range(game.steps):
            game.advance(step)
    assert torch.equal(still.generator.out, start.out)
    assert not torch.equal(moved.generator.out, start.out)


def test_the_game_finds_the_data_and_permuted_rewards_do_not():
    """The data are one sequence of three tokens; only the critic's reward says which."""
    data = torch.tensor([[2, 0, 1]]).expand(64, LENGTH).contiguous()
    start = tiny(5, 0.1).float()
    recipe = replace(SHORT, batch=64, lr=0.05, rounds=40, critic_first=3, critic_sets=1, critic_lr=3e-3, baseline=True)
    likelihood = {}
    for rewards in ("critic", "permuted"):
        game = method(replace(recipe, rewards=rewards), data, start)
        for step in range(game.steps):
            game.advance(step)
        likelihood[rewards] = game.generator.log_likelihood(data[:1]).sum().exp().item()
    assert likelihood["critic"] > 0.5
    assert likelihood["permuted"] < 0.2


@pytest.mark.parametrize("keeps", [0.0, 0.8])
def test_an_interrupted_game_ends_bit_for_bit_where_an_uninterrupted_one_does(tmp_path, keeps):
    recipe = replace(SHORT, rollout_keeps=keeps, critic_sequences=20)

    def interrupt(step: int, row: dict, at: int) -> None:
        if step == at:
            raise KeyboardInterrupt

    whole = method(recipe)
    straight = train(whole, tmp_path / "whole", every=1)
    for at in (1, 3, 5):  # after the epoch, and between rounds
        with pytest.raises(KeyboardInterrupt):
            train(method(recipe), tmp_path / f"{at}", every=1, progress=partial(interrupt, at=at))
        again = method(recipe)
        resumed = train(again, tmp_path / f"{at}", every=1, resume=True)
        for name, net in whole.nets.items():
            for key, value in net.state_dict().items():
                assert torch.equal(again.nets[name].state_dict()[key], value), f"{name}.{key}"
        assert [{**row, "seconds": 0} for row in resumed] == [{**row, "seconds": 0} for row in straight]
    assert {"nll", "critic", "reward"} <= set().union(*straight)


def test_a_rollout_policy_follows_at_its_rate():
    game = method(replace(SHORT, rollout_keeps=0.8, critic_first=0), start=tiny(4).float())
    before = game.generator.out.detach().clone()
    game.advance(0)
    torch.testing.assert_close(game.rollout_policy.out, 0.8 * before + 0.2 * game.generator.out)
    published = method()
    assert published.rollout_policy is published.generator


def test_a_game_begins_where_another_run_ended(tmp_path):
    first = method()
    train(first, tmp_path)
    start = generators.load(tmp_path)
    game = method(start=start)
    assert game.steps == SHORT.critic_first + SHORT.rounds
    assert torch.equal(game.generator.out, first.generator.out)
    assert game.generator.out.requires_grad
    assert not start.out.requires_grad
    assert game.config["start"] != method(start=tiny(4).float()).config["start"]
    with pytest.raises(InputError, match="3 tokens to begin with, and the data have 4"):
        Policy(SHORT, DATA, 4, start)


def test_the_critic_learns_what_can_be_told():
    """From 0.69 towards the best critic's loss, which is known."""
    oracle, generator = tiny(1).float(), tiny(2).float()
    data = sample(oracle, 1000, LENGTH, seed=0)
    recipe = replace(SHORT, critic_lr=1e-2, critic_batch=64, critic_keep=1.0, critic_l2=0.0, critic_epochs=5)
    game = method(recipe, data, generator)
    gaps = [critic_gap(game.nets["critic"], oracle, generator, LENGTH, 2000).value]
    for number in range(3):
        game.lesson(number)
        gaps.append(critic_gap(game.nets["critic"], oracle, generator, LENGTH, 2000).value)
    assert gaps[0] > 0.1
    assert -0.005 < gaps[-1] < 0.03


def test_a_score_depends_on_every_token_and_shares_of_tokens_are_scored_alike():
    critic = build("seqgan", VOCABULARY, LENGTH)
    assert critic.features == 500  # of widths 1 to 3
    scores = critic(EVERY)
    assert len(scores.unique()) == 27
    shares = torch.nn.functional.one_hot(EVERY, VOCABULARY).float()
    torch.testing.assert_close(critic(shares), scores)
    torch.testing.assert_close(critic.scores(EVERY), scores.detach())
    assert build("seqgan", 5, 20).features == 1720


@pytest.mark.parametrize("length", [3, 20])
def test_all_filters_in_one_product_answer_as_they_do_in_a_convolution_for_each_width(length):
    critic = build("seqgan", VOCABULARY, length).double()
    embedded = noise.normal(0, torch.arange(4), 0, (length, 64), torch.float64).requires_grad_()
    found = [answers(embedded) for answers in (critic.answers, critic.answers_at_once)]
    torch.testing.assert_close(*found)
    weights = noise.normal(1, torch.arange(4), 0, (critic.features,), torch.float64)
    ours, theirs = (torch.autograd.grad((each * weights).sum(), (embedded, critic.filters)) for each in found)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rewards": "none"}, "kind of rewards 'none'"),
        ({"rollouts": 0}, "rollouts = 0"),
        ({"rollout_keeps": 1.0}, "keeps 1.0"),
        ({"batch": 1, "baseline": True}, "compare 2 or more"),
        ({"batch": 2, "baseline": True, "rewards": "permuted"}, "compare 3 or more"),
        ({"critic": "none"}, "critic 'none'"),
        ({"generator": "none"}, "generator 'none'"),
        ({"critic_batch": 100}, "100 at a time, and has 64"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(changed, said):
    with pytest.raises(InputError, match=said):
        method(replace(SHORT, **changed)).lesson(0)

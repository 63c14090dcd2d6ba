"""Does an attack stop exactly at its budget, do the counts agree with the model's, and what is a randomised success?"""

import pytest
import torch
from short import SHORT
from test_every_attack import ElementwiseNet, task
from torch import nn
from trained import EVERY

import attacks
from attacks import Access, Victim, card_of
from attacks.losses import margin
from attacks.victim import gradient, scores


def hooked(model):
    """The model and what passes through it: rows forward, rows backward."""
    seen = {"forward": 0, "backward": 0}
    model.register_forward_hook(lambda _, inputs, __: seen.__setitem__("forward", seen["forward"] + len(inputs[0])))
    model.register_full_backward_hook(lambda _, __, out: seen.__setitem__("backward", seen["backward"] + len(out[0])))
    return seen


def threat_for(name):
    card = card_of(EVERY[name](**SHORT.get(name, {})))
    norm = card.norms[0]
    eps = {"linf": 0.03, "l2": 0.2, "l1": 2, "l0": 6}[norm]
    return f"{norm}:inf" if card.eps == "inf" else f"{norm}:{eps}"


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(("queries", "backwards"), [(1, None), (7, None), (None, 0), (None, 5), (9, 4), (None, None)])
def test_a_row_stops_at_its_budget_and_the_counts_are_the_models(name, queries, backwards):
    model = ElementwiseNet(192, 10)
    x, labels = task(model, rows=6)
    attack = EVERY[name](**SHORT.get(name, {}))
    free = attacks.run(attack, model, x, labels, threat_for(name))
    for row in range(len(x)):
        lone = slice(row, row + 1)
        seen = hooked(model)
        result = attacks.run(
            attack, model, x[lone], labels[lone], threat_for(name),
            ids=torch.tensor([row]), max_queries=queries, max_backwards=backwards,
        )  # fmt: skip
        assert (seen["forward"], seen["backward"]) == (int(result.queries), int(result.backwards))
        spent = free.queries[row], free.backwards[row]
        for count, most, unlimited in zip((result.queries, result.backwards), (queries, backwards), spent, strict=True):
            assert most is None or int(count) <= most
            if queries is None and backwards is None:
                assert int(count) == int(unlimited)
        if queries is not None and backwards is None and int(spent[0]) >= queries:
            assert int(result.queries) == queries  # not one pass less than it might


def test_a_budget_takes_from_the_end_and_changes_nothing_before():
    model = ElementwiseNet(192, 10)
    x, labels = task(model)
    free = attacks.run("pgd", model, x, labels, "linf:0.03")
    for most in (1, 3, 10, 41):
        within = attacks.run("pgd", model, x, labels, "linf:0.03", max_queries=most)
        assert torch.equal(within.fooled, free.fooled & (free.queries <= most))


def test_the_curve_over_passes_is_what_each_budget_finds():
    model = ElementwiseNet(192, 10)
    x, labels = task(model)
    for attack in ("pgd", "fmn", "square"):
        result = attacks.run(attack, model, x, labels, "linf:0.03")
        assert result.fooled[4:].any()
        assert (result.passes[~result.fooled] == -1).all()
        assert (result.passes[:4] == 1).all()
        budgets = torch.tensor([0, 1, 2, 3, 5, 9, 100000])
        curve = result.fooled_within(budgets)
        assert curve.tolist() == [
            float(((result.passes > 0) & (result.passes <= most)).double().mean()) for most in budgets
        ]
        assert curve[-1] == result.fooled.double().mean()


def test_many_tries_in_one_query_are_what_single_ones_give():
    model = ElementwiseNet(192, 10)
    x, labels = task(model, rows=5)
    goal, tries = attacks.Goal(labels), torch.stack([x, x * 0.9, x * 0.5])
    many = Victim(model).answer(gradient(tries, margin, many=True), goal, goal)
    slope = torch.eye(10)[labels].expand(3, -1, -1)
    grads, ofs = many.grad_of(slope), many.grad()
    assert many.backwards == 6
    for i, each in enumerate(tries):
        one = Victim(model).answer(gradient(each, margin), goal, goal)
        assert many.logits is not None
        assert one.logits is not None
        assert torch.equal(many.logits[i], one.logits)
        assert torch.equal(many.loss[i], one.loss)
        assert torch.equal(many.fooled[i], one.fooled)
        assert torch.equal(grads[i], one.grad_of(slope[i]))
        assert torch.equal(ofs[i], one.grad())
    told = Victim(model, Access.SCORES).answer(scores(tries, margin, many=True), goal, goal)
    assert torch.equal(told.loss, many.loss)


class Coin(nn.Module):
    """Gives class 1 with a chance that grows with how far the input has moved from 0, else class 0."""

    def forward(self, x):
        chance = x.flatten(1).mean(1)
        heads = (torch.rand(len(x)) < chance).to(x.dtype) - 0.5 + 0 * chance
        return torch.stack((-heads, heads), 1) + 1e-3 * x.flatten(1).sum(1, keepdim=True)


def test_a_randomised_success_is_judged_on_fresh_passes():
    x, labels = torch.full((200, 4), 0.01), torch.zeros(200, dtype=torch.int64)
    once = attacks.run("gaussian_noise", Coin(), x, labels, "linf:0.4")
    often = attacks.run("gaussian_noise", Victim(Coin(), passes=25), x, labels, "linf:0.4")
    assert once.fooled.double().mean() > 0.5  # ten tries, each at a chance of 0.1 or so
    assert often.fooled.double().mean() < 0.05
    sure = attacks.run("fgsm", Victim(Sure(), passes=5), x, labels, "linf:0.9")
    assert sure.fooled.all()
    assert (sure.queries == 2 + 1 + 5).all()  # clean, where the gradient is taken, the step; and what confirms it


class Sure(nn.Module):
    def forward(self, x):
        mean = x.flatten(1).mean(1)
        return torch.stack((0.5 - mean, mean), 1)


def test_confirming_counts_as_queries_and_respects_the_budget():
    model = Coin()
    seen = hooked(model)
    x, labels = torch.full((1, 4), 0.4), torch.zeros(1, dtype=torch.int64)
    for most in (3, 8, 20, 60):
        seen.update(forward=0)
        victim = Victim(model, passes=7)
        result = attacks.run("uniform_noise", victim, x, labels, "linf:0.1", max_queries=most)
        assert int(result.queries) == seen["forward"] <= most

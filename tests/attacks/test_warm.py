"""Does a search that was given a first guess judge it, count it, and set out from it only where that is fair?"""

from dataclasses import dataclass, replace

import linear
import pytest
import torch
from test_every_attack import ElementwiseNet, task
from torch import Tensor

import attacks
from attacks import APGD, CATALOG, Access, InputError, Victim, Warm, card_of
from attacks.card import Card
from attacks.verdict import Verdict
from attacks.victim import decision

EPS = 0.05
SEARCHES = {"apgd": APGD(20), "pgd": attacks.pgd(10), "verdict": Verdict(rounds=2, queries=30)}

each_search = pytest.mark.parametrize("then", SEARCHES.values(), ids=SEARCHES)


@dataclass(frozen=True, eq=False)
class Guess:
    """For each example of the data set its own guesses [q, N, ...], shown one after the other."""

    at: Tensor
    card = Card(Access.DECISION)

    def search(self, rows):
        for tried in self.at:
            yield decision(tried[rows.ids])


def problem(rows=40):
    """A linear model, inputs, labels, and the best way off each [rows, features] for a move in L-inf."""
    model, x, labels = linear.make(4, 20, rows, seed=5)
    rival = model(x).scatter(1, labels[:, None], -torch.inf).argmax(1)
    return model, x, labels, (model.weight[rival] - model.weight[labels]).detach().sign()


def moved(x, way, share):
    return (x + way * EPS * share).clamp(0, 1)


def assert_same(one, other, *, but=()):
    for field in ("fooled", "queries", "backwards", "step", "size", "x_adv", "passes"):
        if field not in but:
            assert torch.equal(getattr(one, field), getattr(other, field)), field


@each_search
def test_a_guess_that_fools_costs_two_forwards_and_no_gradient(then):
    model, x, labels, way = problem()
    guesses = moved(x, way, 0.999)
    result = attacks.run(Warm(Guess(guesses[None]), then), model, x, labels, attacks.linf(EPS))
    hit = model(guesses).argmax(1) != labels
    assert 5 < hit.sum() < 40
    assert torch.equal(result.x_adv[hit], guesses[hit])
    assert (result.queries[hit] == 2).all()
    assert (result.backwards[hit] == 0).all()
    assert (result.step[hit] == 1).all()


@each_search
def test_a_guess_outside_the_set_changes_nothing_but_the_count(then):
    model, x, labels, way = problem()
    alone = attacks.run(then, model, x, labels, attacks.linf(EPS), seed=3)
    guessed = attacks.run(Warm(Guess(moved(x, way, 8)[None]), then), model, x, labels, attacks.linf(EPS), seed=3)
    assert (model(moved(x, way, 8)).argmax(1) != labels).all()  # it would fool, were it allowed
    assert_same(alone, guessed, but=("queries", "step", "passes"))
    assert torch.equal(guessed.queries, alone.queries + 1)


@each_search
def test_a_guess_that_is_worse_than_the_input_changes_nothing_but_the_count(then):
    model, x, labels, way = problem()
    alone = attacks.run(then, model, x, labels, attacks.linf(EPS), seed=3)
    guessed = attacks.run(Warm(Guess(moved(x, way, -1)[None]), then), model, x, labels, attacks.linf(EPS), seed=3)
    assert_same(alone, guessed, but=("queries", "step", "passes"))


@each_search
def test_the_search_sets_out_from_the_best_of_several_guesses(then):
    model, x, labels, way = problem()
    guesses = torch.stack([moved(x, way, share) for share in (0.1, 0.4, 0.2)])
    standing = model(guesses[1]).argmax(1) == labels
    shown = []
    model.register_forward_pre_hook(lambda _, given: shown.append(given[0].detach().clone()))
    attacks.run(Warm(Guess(guesses), then), model, x, labels, attacks.linf(EPS), compact_below=0.0)
    assert len(shown) > 5
    assert standing.sum() > 5
    assert torch.equal(shown[4][standing], guesses[1][standing])


@each_search
def test_the_counts_are_what_the_model_saw(then):
    model, x, labels, way = problem()
    farthest = attacks.run("fmn", model, x, labels, "linf:inf").size.argmax()
    row = slice(int(farthest), int(farthest) + 1)
    forwards, gradients = [], []

    def count(module, given, logits):
        forwards.append(True)
        if logits.requires_grad:
            logits.register_hook(lambda _: gradients.append(True))

    model.register_forward_hook(count)
    guess = Guess(moved(x, way, 0.02)[None])
    ids = torch.arange(len(x))[row]
    result = attacks.run(Warm(guess, then), model, x[row], labels[row], attacks.linf(EPS / 50), ids=ids)
    assert not result.fooled.any()
    assert int(result.queries) == len(forwards) > 2
    assert int(result.backwards) == len(gradients) > 0


def test_a_budget_holds_for_guess_and_search_together():
    model, x, labels, way = problem()
    guess = Guess(moved(x, way, 0.1)[None])
    result = attacks.run(Warm(guess, APGD(20)), model, x, labels, attacks.linf(EPS / 50), max_queries=7)
    assert not result.fooled.all()
    assert (result.queries[~result.fooled] == 7).all()


@each_search
@pytest.mark.parametrize("threat", ["linf:0.05", "l2:0.3", "l1:3"])
def test_batch_order_and_company_change_no_bit(then, threat):
    model = ElementwiseNet(192, 10)
    x, labels = task(model)
    attack = Warm(CATALOG["uniform_noise"](tries=3), then)
    whole = attacks.run(attack, model, x, labels, threat, seed=3)
    assert whole.fooled[4:].any()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(5))
    shuffled = attacks.run(attack, model, x[order], labels[order], threat, seed=3, ids=order)
    assert_same(whole.keep(order), shuffled)
    assert_same(whole, attacks.run(attack, model, x, labels, threat, seed=3, batch_size=5))
    assert_same(whole, attacks.run(attack, model, x, labels, threat, seed=3, compact_below=0.0))


def test_a_good_guess_saves_the_verdict_gradients_and_loses_no_row():
    model, x, labels, way = problem(rows=80)
    alone = attacks.run("verdict", model, x, labels, attacks.linf(EPS))
    warm = attacks.run(Warm(Guess(moved(x, way, 0.9)[None]), Verdict()), model, x, labels, attacks.linf(EPS))
    assert torch.equal(alone.fooled, warm.fooled)
    assert warm.backwards.sum() < alone.backwards.sum()


def test_it_needs_what_its_two_attacks_need():
    card = card_of(Warm(CATALOG["uniform_noise"](), APGD()))
    assert card.access is Access.GRADIENT
    assert card.norms == ("linf", "l2", "l1")
    model, x, labels, _ = problem()
    with pytest.raises(InputError, match="GRADIENT"):
        attacks.run(Warm(CATALOG["uniform_noise"](), APGD()), Victim(model, Access.SCORES), x, labels, "linf:0.1")


@pytest.mark.parametrize("name", ["square", "fmn", "uniform_noise", "autoattack"])
def test_an_attack_without_a_start_cannot_be_warmed(name):
    with pytest.raises(InputError, match=r"no `start`.*APGD"):
        Warm(attacks.fgsm(), CATALOG[name]())


def test_a_start_that_does_not_exist_is_refused_when_the_verdict_is_made():
    with pytest.raises(InputError, match="randm"):
        replace(Verdict(), start="randm")

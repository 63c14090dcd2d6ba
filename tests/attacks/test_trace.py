"""Does the trace measure what it names, on models of which the answer is known?"""

import linear
import pytest
import torch
from test_every_attack import ElementwiseNet, task
from torch import nn

import attacks
from attacks.doubts import MEANINGS, Doubt, doubts, has
from attacks.gradient.pgd import GradientAscent
from attacks.trace import Seen
from attacks.victim import decision, gradient, scores

NORMS = ("linf", "l2", "l1")


def watched(attack, model, x, labels, threat, **options):
    seen = attacks.run(attack, model, x, labels, threat, watch=True, **options).seen
    assert seen is not None
    return seen


@pytest.mark.parametrize(("norm", "eps"), [("linf", 1e-3), ("l2", 5e-3), ("l1", 1e-2)])
def test_on_a_linear_model_promises_are_kept_to_the_letter(norm, eps):
    """Two classes, the box out of reach: the gap is that of the distance to the boundary."""
    model, x, labels = linear.make(2, 30, 25, seed=5)
    x = 0.1 + 0.8 * x
    labels = model(x).argmax(1)
    attack = GradientAscent("margin", share=1.0, start="input", steps=3)
    seen = watched(attack, model, x, labels, f"{norm}:{eps}")
    distance = linear.distance(norm, model, x, labels, 1 - labels, 0.0, 1.0)
    standing = distance > 2 * eps
    assert standing.sum() > 10
    one = torch.ones(int(standing.sum()), dtype=torch.float64)
    torch.testing.assert_close(seen.kept[standing], one, rtol=1e-6, atol=0)
    torch.testing.assert_close(seen.agreement[standing], one, rtol=1e-6, atol=0)
    assert (seen.missed[standing] < 1e-6).all()
    if norm != "l1":  # there a step moves one coordinate at a time, and three get not quite to the ball's corner
        torch.testing.assert_close(seen.gap[standing], (distance / eps - 1)[standing], rtol=1e-3, atol=1e-3)


def test_the_lead_is_the_margin_of_the_best_candidate_inside():
    model, x, labels = linear.make(3, 8, 6, seed=1)

    class Moves:
        """Three candidates: a good one, one that is better and outside, a worse one."""

        def search(self, rows):
            answer = yield gradient(rows.x, attacks.losses.margin)
            rows.way = answer.grad().sign() * 1e-4
            for share in (0.5, 3.0, -0.5):
                yield scores(rows.x + share * rows.way)

    goal = attacks.Goal(labels)
    seen = watched(Moves(), model, x, labels, "linf:1e-4")
    logits = model(x)
    slope = attacks.losses.margin(logits, goal).slope
    way = (slope @ model.weight).sign() * 1e-4
    wanted = attacks.losses.margin(model(x + 0.5 * way), goal).value
    torch.testing.assert_close(seen.lead, wanted.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(seen.first, attacks.losses.margin(logits, goal).value.detach())
    assert not seen.strayed.any()


def test_a_goal_reached_outside_alone_is_noted():
    model, x, labels = linear.make(2, 8, 6, seed=1)

    class Leaps:
        def search(self, rows):
            answer = yield gradient(rows.x, attacks.losses.margin)
            yield scores(rows.x + 100 * answer.grad())

    seen = watched(Leaps(), model, x, labels, "linf:1e-6")
    assert seen.strayed.all()
    assert has(doubts(seen), Doubt.STRAYED).all()


def test_zero_gradients_are_counted():
    class Flat(nn.Module):
        def forward(self, x):
            return model(x.round() + 0 * x)

    model = ElementwiseNet(192, 10)
    x, _ = task(model)
    labels = Flat()(x).argmax(1)
    seen = watched(GradientAscent("margin", steps=4, start="input"), Flat(), x, labels, "linf:0.01")
    assert (seen.gradients == 4).all()
    assert (seen.flat == 4).all()
    assert seen.kept.isnan().all()
    flags = doubts(seen)
    assert has(flags, Doubt.ZERO_GRADIENT).all()
    assert has(flags, Doubt.NO_RISE).all()
    assert not has(flags, Doubt.BROKEN_PROMISE, Doubt.NOISY_GRADIENT).any()  # nothing was promised


def test_gradients_of_no_meaning_disagree():
    class Shattered(nn.Module):
        def forward(self, x):
            return model(x + 1e-5 * (x * 1e6).sin())

    model = ElementwiseNet(192, 10, torch.float64)
    x, _ = task(model, torch.float64)
    labels = Shattered()(x).argmax(1)
    seen = watched(GradientAscent("margin", steps=6, start="input"), Shattered(), x, labels, "linf:0.003")
    standing = seen.lead < 0
    assert standing.any()
    assert has(doubts(seen), Doubt.NOISY_GRADIENT)[standing].all()
    assert has(doubts(seen), Doubt.BROKEN_PROMISE)[standing].all()


def test_an_attack_that_asks_for_decisions_alone_is_not_judged():
    class Blind:
        def search(self, rows):
            yield decision(rows.x)

    model = ElementwiseNet(192, 10)
    x, _ = task(model)
    seen = watched(Blind(), model, x, model(x).argmax(1), "linf:0.01")
    assert (seen.lead == seen.first).all()
    assert (doubts(seen) == 0).all()


def test_a_search_cut_short_was_still_rising():
    model = ElementwiseNet(192, 10)
    x, _ = task(model)
    labels = model(x).argmax(1)
    short, long = (
        watched(GradientAscent("margin", share=0.02, start="input", steps=steps), model, x, labels, "linf:0.02")
        for steps in (10, 400)
    )
    rising = has(doubts(short), Doubt.STILL_RISING)
    assert rising.any()
    assert not has(doubts(long), Doubt.STILL_RISING).any()


def test_every_doubt_has_a_meaning_and_a_remedy():
    assert set(MEANINGS) == set(Doubt)
    assert all(meaning.what and meaning.remedy.endswith(".") for meaning in MEANINGS.values())


def test_nothing_seen_is_no_doubt():
    assert (doubts(Seen.nothing(torch.zeros(3, 2))) == 0).all()


def test_what_was_seen_is_cut_and_joined_row_by_row():
    model = ElementwiseNet(192, 10)
    x, labels = task(model)
    seen = watched("pgd", model, x, labels, "linf:0.01")
    order = torch.tensor([3, 0, 2])
    joined = Seen.joined([seen.keep(order[:1]), seen.keep(order[1:])])
    assert torch.equal(joined.lead, seen.lead[order])
    assert torch.equal(joined.gradients, seen.gradients[order])

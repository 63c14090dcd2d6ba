"""Does `attacks.run(..., watch=True)` tell what the loop saw, and change nothing else?"""

import pytest
import torch
from short import SHORT
from test_every_attack import ElementwiseNet, task

import attacks
from attacks import CATALOG, Access, Victim
from attacks.doubts import Doubt, doubts

WATCHED = ("pgd", "apgd", "fmn", "square", "boundary")


@pytest.mark.parametrize("name", WATCHED)
def test_watching_changes_nothing_and_costs_no_pass(name):
    model = ElementwiseNet(192, 10)
    x, labels = task(model, rows=6)
    attack, threat = CATALOG[name](**SHORT.get(name, {})), "l2:0.2"
    alone = attacks.run(attack, model, x, labels, threat)
    watched = attacks.run(attack, model, x, labels, threat, watch=True)
    assert alone.seen is None
    assert watched.seen is not None
    for field in ("x_adv", "fooled", "queries", "backwards", "step", "passes"):
        assert torch.equal(getattr(alone, field), getattr(watched, field))
    assert torch.equal(watched.seen.gradients > 0, watched.backwards > 0)
    assert (watched.seen.lead >= watched.seen.first).all()


def test_what_was_seen_does_not_depend_on_the_batches():
    model = ElementwiseNet(192, 10)
    x, labels = task(model, rows=7)
    whole, parts = (
        attacks.run("pgd", model, x, labels, "linf:0.02", batch_size=size, watch=True).seen for size in (7, 3)
    )
    assert whole is not None
    assert parts is not None
    assert torch.equal(whole.moves, parts.moves)
    torch.testing.assert_close(whole.lead, parts.lead)


def test_a_gradient_that_is_zero_is_a_doubt_about_every_row():
    class Rounded(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = ElementwiseNet(192, 10)

        def forward(self, x):
            return self.inner((x * 8).round() / 8)

    model = Rounded()
    x, labels = task(model.inner, rows=6)
    labels = model(x).argmax(1)
    result = attacks.run("pgd", model, x, labels, "linf:0.02", watch=True)
    assert result.seen is not None
    assert ((doubts(result.seen) & Doubt.ZERO_GRADIENT) != 0)[~result.fooled].all()
    assert (~result.fooled).any()


def test_who_reveals_decisions_alone_is_not_seen_into():
    model = ElementwiseNet(192, 10)
    x, labels = task(model, rows=3)
    attack = CATALOG["boundary"](**SHORT["boundary"])
    result = attacks.run(attack, Victim(model, Access.DECISION), x, labels, "l2:0.2", watch=True)
    assert result.seen is not None
    assert (result.seen.gradients == 0).all()

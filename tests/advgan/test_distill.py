"""Does a copy come to answer as its victim does, from no more than that reveals, and is every question counted?"""

import copy as copies
from typing import Any

import pytest
import torch
from torch import nn

from advgan.distill import Distilling, agreement, distill
from advgan.networks.classifier import classifier
from attacks import Access, InputError, Victim
from attacks.models import FromCallable

LABELS, SCORES = Access.DECISION, Access.SCORES
CLASSES = 4


class Counting(nn.Module):
    """A linear victim that counts the rows that it is shown; `scale` is how sure it is."""

    def __init__(self, features=6, scale=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(CLASSES, features, generator=generator) * 4 * scale)
        self.bias = nn.Parameter(-self.weight.sum(1).detach() / 2)
        self.rows = 0

    def forward(self, x):
        self.rows += len(x)
        return x.flatten(1) @ self.weight.T + self.bias


def data(rows=600, shape=(6,), seed=1):
    return torch.rand(rows, *shape, generator=torch.Generator().manual_seed(seed))


def linear_copy():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Linear(6, CLASSES)


def centred(layer):
    """Weights [K, d], of which adding the same to each class changes nothing."""
    return (layer.weight - layer.weight.mean(0)).detach()


def test_the_scores_of_a_linear_victim_give_its_weights_away():
    victim = Counting()
    found = distill(Victim(victim, SCORES), data(), Distilling(epochs=300, lr=0.05), copy=linear_copy())
    assert agreement(found.copy, victim, data(seed=2)) > 0.99
    assert (centred(found.copy) - centred(victim)).abs().max() < 0.02 * centred(victim).abs().max()


@pytest.mark.parametrize(("copy", "lr"), [(linear_copy(), 0.5), (None, 5e-3)], ids=["linear", "ours"])
def test_labels_alone_are_enough_to_agree_with_a_linear_victim(copy, lr):
    victim = Counting()
    found = distill(Victim(victim, LABELS), data(1500), Distilling(epochs=40, lr=lr), copy=copy)
    assert agreement(found.copy, victim, data(seed=2)) > 0.95
    assert found.agreement > 0.97


def test_from_labels_alone_the_copy_cannot_tell_how_sure_the_victim_is():
    sure, unsure = (
        distill(Victim(Counting(scale=scale), LABELS), data(100), Distilling(epochs=2)) for scale in (10.0, 0.1)
    )
    x = data(seed=2)
    assert torch.equal(sure.copy(x), unsure.copy(x))
    by_scores = distill(Victim(Counting(scale=0.1), SCORES), data(100), Distilling(epochs=2))
    assert not torch.equal(by_scores.copy(x), unsure.copy(x))


def test_a_victim_outside_pytorch_that_only_names_classes_will_do():
    inner = Counting()
    victim = FromCallable(lambda x: inner(torch.as_tensor(x)).argmax(1).numpy(), decisions=True, classes=CLASSES)
    found = distill(Victim(victim, LABELS), data(), Distilling(epochs=30, lr=5e-3))
    assert agreement(found.copy, inner, data(seed=2)) > 0.9


def test_the_victim_is_asked_once_for_each_row_and_left_as_it_was():
    victim = Counting().train()
    found = distill(Victim(victim, LABELS), data(300), Distilling(epochs=1), budget=300)
    assert victim.rows == found.asked == 300
    assert (found.queries == 1).all()
    assert victim.training
    assert all(each.requires_grad and each.grad is None for each in victim.parameters())


def test_images_of_uneven_sides_are_learnt_from():
    shape = (3, 7, 5)
    victim = Counting(features=105)
    found = distill(Victim(victim, SCORES), data(300, shape), Distilling(epochs=50, lr=3e-3))
    assert found.copy(data(2, shape)).shape == (2, CLASSES)
    assert found.agreement > 0.9


def test_the_same_seed_gives_the_same_copy_and_leaves_the_callers_luck_alone():
    x, luck = data(200), torch.get_rng_state()
    one, same, other = (
        distill(Victim(Counting(), SCORES), x, Distilling(epochs=2, seed=seed)).copy(x) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), luck)


def test_the_callers_network_is_not_changed():
    given = linear_copy()
    before = copies.deepcopy(given.state_dict())
    found = distill(Victim(Counting(), SCORES), data(50), Distilling(epochs=1), copy=given)
    assert all(torch.equal(before[name], value) for name, value in given.state_dict().items())
    assert not torch.equal(found.copy.state_dict()["weight"], given.weight)


def test_a_copy_is_an_ordinary_victim_with_gradients():
    found = distill(Victim(Counting(), LABELS), data(100), Distilling(epochs=1))
    assert not found.copy.training
    x = data(5).requires_grad_()
    found.copy(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_what_cannot_be_distilled_is_told_why():
    victim, x = Victim(Counting(), LABELS), data(20)

    def refused(match, victim: Any = victim, x=x, **options):
        with pytest.raises(InputError, match=match):
            distill(victim, x, Distilling(epochs=1), **options)

    refused(r"Counting; say what it reveals.*Access\.DECISION", victim=Counting())
    refused("20 rows.*answers 19 times", budget=19)
    refused("at least one example", x=data(0))
    refused("NaN", x=data(5).log().fill_(torch.nan))
    refused("probabilities", victim=Victim(nn.Sequential(Counting(), nn.Softmax(1)), SCORES))
    refused(r"\[20, 2, 3\].*give a `copy`", x=data(20, (2, 3)))
    refused(r"4 classes; the copy gives \[1, 3\]", copy=nn.Linear(6, 3))
    one_class = Counting()
    one_class.bias.data[2] = 1e4
    refused("names class 2 for all 20 rows", victim=Victim(one_class, LABELS))


def test_a_copy_that_does_not_fit_costs_no_more_than_the_first_pass():
    victim = Counting()
    with pytest.raises(InputError, match="4 classes"):
        distill(Victim(victim, LABELS), data(900), copy=nn.Linear(6, 3))
    assert victim.rows < 900


def test_options_that_make_no_sense_are_refused():
    for name in ("epochs", "batch", "width", "lr"):
        with pytest.raises(InputError, match="at least one epoch"):
            Distilling(**{name: 0})
    with pytest.raises(InputError, match="two classes"):
        classifier((4,), 1)

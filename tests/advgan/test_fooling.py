"""Are the losses what the papers say, per row, alive beyond the boundary, and silent about rows that are not theirs?"""

import pytest
import torch
from torch import nn

from advgan.fooling import LOSSES, Adversary, CrossEntropy, Features, Margin, RelativisticCrossEntropy, soft_hinge
from attacks import Goal, InputError

X = torch.zeros(3, 4)


class Answers(nn.Module):
    """The input is the logits."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x):
        return self.layer(x)


def loss_of(loss, logits, labels, targeted=False, clean=None):
    logits = torch.tensor(logits)
    x = torch.zeros_like(logits) if clean is None else torch.tensor(clean)
    return loss(Answers(), x, logits, Goal(torch.tensor(labels), targeted))


def test_the_margin_is_between_the_label_and_the_best_other_even_where_all_others_are_negative():
    logits = [[2.0, -1.0, -3.0], [-5.0, -1.0, -3.0]]
    assert loss_of(Margin(10.0), logits, [0, 0]).tolist() == [3.0, -4.0]
    assert loss_of(Margin(10.0), logits, [2, 2], targeted=True).tolist() == [5.0, 2.0]


def test_the_margin_asks_for_nothing_beyond_its_confidence_and_for_all_before_it():
    for confidence, grows in ((0.0, False), (1.0, False), (5.0, True)):
        logits = torch.tensor([[-2.0, 0.0, -9.0]], requires_grad=True)  # fooled by 2
        loss = Margin(confidence)(Answers(), X, logits, Goal(torch.tensor([0])))
        assert float(loss.detach()) == max(-2.0, -confidence)
        (grad,) = torch.autograd.grad(loss.sum(), logits)
        assert bool(grad.any()) == grows


def test_cross_entropy_and_its_relativistic_twin_in_closed_form():
    logits, clean = [[1.0, 0.0]], [[3.0, 0.0]]
    expected = -torch.log1p(torch.tensor([-1.0]).exp())
    torch.testing.assert_close(loss_of(CrossEntropy(), logits, [0]), expected)
    torch.testing.assert_close(loss_of(CrossEntropy(), logits, [0], targeted=True), -expected)
    moved = -torch.log1p(torch.tensor([2.0]).exp())  # the logits changed by (-2, 0)
    torch.testing.assert_close(loss_of(RelativisticCrossEntropy(), logits, [0], clean=clean), moved)


def test_features_are_driven_apart_in_distance_or_angle_and_towards_no_class():
    fake, clean = [[3.0, 4.0]], [[1.0, 0.0]]
    torch.testing.assert_close(loss_of(Features("layer"), fake, [0], clean=clean), torch.tensor([-10.0]))
    torch.testing.assert_close(loss_of(Features("layer", "cosine"), fake, [0], clean=clean), torch.tensor([0.6 - 1]))
    with pytest.raises(InputError, match="no class"):
        loss_of(Features("layer"), fake, [0], targeted=True)
    with pytest.raises(InputError, match="Did you mean 'layer'"):
        loss_of(Features("layers"), fake, [0])


def test_no_hook_stays_on_the_victim():
    victim = Answers()
    Features("layer")(victim, X, X + 1, Goal(torch.zeros(3, dtype=torch.int64)))
    assert not victim.layer._forward_hooks


@pytest.mark.parametrize("name", LOSSES)
def test_each_row_is_paid_for_itself_alone(name):
    torch.manual_seed(0)
    victim = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    x, fake, labels = torch.randn(5, 4), torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    adversary = Adversary((victim,), LOSSES[name](1.0, "0"), hinge_weight=2.0, hinge=0.5)
    whole = adversary(x, fake, labels)
    alone = torch.cat([adversary(x[[k]], fake[[k]], labels[[k]]) for k in range(5)])
    assert whole.shape == (5,)
    torch.testing.assert_close(whole, alone)


def test_several_victims_are_fooled_on_average():
    one, other = nn.Linear(4, 3), nn.Linear(4, 3)
    x, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    apart = [Adversary((each,), Margin(1.0))(x, x + 1, labels) for each in (one, other)]
    torch.testing.assert_close(Adversary((one, other), Margin(1.0))(x, x + 1, labels), (apart[0] + apart[1]) / 2)


def test_the_hinge_is_on_each_rows_l2_norm():
    x = torch.zeros(3, 1, 1, 2)
    fake = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]).view(3, 1, 1, 2).requires_grad_()
    loss = soft_hinge(x, fake, 1.0)
    torch.testing.assert_close(loss.detach(), torch.tensor([4.0, 0.0, 0.0]))  # of the mean norm, 1.83, it would be 0.83
    (grad,) = torch.autograd.grad(loss.sum(), fake)
    torch.testing.assert_close(grad[0].flatten(), torch.tensor([0.6, 0.8]))
    assert not grad[1:].any()
    (at_rest,) = torch.autograd.grad(soft_hinge(x, fake, 0.0)[2], fake)
    assert at_rest.isfinite().all()

"""Randomised smoothing against classifiers whose smoothed decision is known in closed form."""

import pytest
import torch
from linear import distance, make
from scipy import stats
from torch import nn

from attacks import InputError
from attacks.smoothing import smoothed


def test_the_radius_of_a_linear_model_is_close_to_the_distance_and_seldom_beyond_it():
    """Smoothing a linear classifier of two classes changes no decision."""
    model, x, labels = make(2, 10, 60)
    true = distance("l2", model, x, labels, 1 - labels, -1e3, 1e3)
    result = smoothed(model, x, 0.25, n=4000, alpha=0.01, batch_size=4096)
    sure = result.prediction >= 0
    assert torch.equal(result.prediction[sure], labels[sure])
    assert sure[true > 0.05].all()
    assert not sure.all()
    assert (result.radius[~sure] == 0).all()
    assert int((result.radius > true).sum()) <= 3  # 60 rows, each wrong with probability 0.01: 4 or more is 0.3 %
    near = sure & (true < 0.5)  # beyond two sigma the draws run out
    assert (true - result.radius)[near].max() < 0.1


def test_a_class_that_is_always_the_answer_gives_the_largest_radius_that_the_draws_allow():
    model = nn.Linear(5, 3)
    model.weight.data = torch.zeros(3, 5)
    model.bias.data = torch.tensor([0.0, 1.0, 0.0])
    result = smoothed(model, torch.rand(3, 5), 0.5, n=1000, alpha=0.001)
    assert (result.prediction == 1).all()
    radius = 0.5 * float(stats.norm.ppf(0.001 ** (1 / 1000)))
    torch.testing.assert_close(result.radius, torch.full((3,), radius, dtype=torch.float64), rtol=1e-9, atol=0)
    labels = torch.tensor([1, 1, 0])
    assert result.certified(labels, 0.9 * radius).tolist() == [True, True, False]
    assert not result.certified(labels, radius * 1.001).any()


def test_a_coin_is_left_open_and_counts_as_not_certified():
    """Two classes, the boundary through x."""
    model = nn.Linear(4, 2)
    model.weight.data = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]])
    model.bias.data = torch.zeros(2)
    result = smoothed(model, torch.zeros(20, 4), 1.0, n=500, alpha=0.001)
    assert (result.prediction == -1).all()
    assert not result.certified(torch.zeros(20, dtype=torch.int64), 0.0).any()


def test_a_row_depends_on_the_seed_and_its_id_alone():
    model, x, _ = make(3, 10, 7)
    ids = torch.arange(7) + 100
    whole = smoothed(model, x, 0.5, n=230, n0=30, ids=ids, seed=5)
    for options in ({"batch_size": 1}, {"batch_size": 10_000}):
        other = smoothed(model, x, 0.5, n=230, n0=30, ids=ids, seed=5, **options)
        assert torch.equal(whole.radius, other.radius)
        assert torch.equal(whole.prediction, other.prediction)
    part = smoothed(model, x[3:5], 0.5, n=230, n0=30, ids=ids[3:5], seed=5)
    assert torch.equal(part.radius, whole.radius[3:5])
    assert not torch.equal(smoothed(model, x, 0.5, n=230, n0=30, ids=ids, seed=6).radius, whole.radius)


class Counting(nn.Module):
    """Logits that are NaN in every second answer, and a count of what it was shown."""

    def __init__(self, broken):
        super().__init__()
        self.shown, self.broken = 0, broken
        self.drop = nn.Dropout()

    def forward(self, x):
        self.shown += len(x)
        logits = torch.tensor([1.0, 0.0]).repeat(len(x), 1)
        if self.broken:
            logits[::2] = torch.nan
        return logits


def test_it_shows_as_many_inputs_as_it_was_asked_and_nan_counts_for_no_class():
    model = Counting(broken=False).train()
    assert (smoothed(model, torch.rand(4, 3), 1.0, n0=70, n=330).prediction == 0).all()
    assert model.shown == 4 * 400
    assert model.training
    assert model.drop.training
    assert (smoothed(Counting(broken=True), torch.rand(4, 3), 1.0, n=400).prediction == -1).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sigma": 0.0}, "standard deviation above 0"),
        ({"sigma": float("nan")}, "standard deviation above 0"),
        ({"n": 0}, "at least one draw"),
        ({"alpha": 1.0}, "above 0 and below 1"),
        ({"batch_size": 0}, "at least one row"),
        ({"ids": torch.arange(3)}, "one per input"),
    ],
)
def test_input_that_cannot_be_used_is_refused(options, said):
    model, x, _ = make(2, 5, 4)
    with pytest.raises(InputError, match=said):
        smoothed(model, x, **{"sigma": 0.5, **options})

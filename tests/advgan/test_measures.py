"""Do the measures give what is known: closed forms, sets that are equal, shifted or collapsed, copies, hard numbers?"""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel
from torch import Tensor, nn

from advgan.measures import (
    Recognised,
    compare,
    expected_coverage,
    frechet,
    frechet_bias,
    kernel,
    nearest,
    neighbourhoods,
    penultimate,
    pixels,
    recognised,
)
from attacks import InputError


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def exactly(n: int, mean: Tensor, root: Tensor, seed: int = 0) -> Tensor:
    """[n, d] whose mean and covariance root' root are exact."""
    x = normal(n, len(mean), seed)
    x = x - x.mean(0)
    white = x @ torch.linalg.inv(torch.linalg.cholesky(x.T.cov())).T
    return white @ root + mean


# Frechet distance


def test_frechet_of_gaussians_with_diagonal_covariances_is_the_closed_form():
    """||m - n||^2 + sum (s - t)^2."""
    s, t = torch.tensor([1.0, 2.0, 0.1]).double(), torch.tensor([3.0, 2.0, 0.0]).double()
    m, n = torch.tensor([1.0, 0.0, -1.0]).double(), torch.tensor([0.0, 0.0, 1.0]).double()
    real, fake = exactly(50, m, s.diag(), 1), exactly(70, n, t.diag(), 2)
    assert frechet(real, fake) == pytest.approx(1 + 4 + 4 + 0.01, rel=1e-9)


def test_frechet_of_covariances_that_do_not_commute_is_that_of_the_matrix_root():
    a, b = normal(4, 4, 3), normal(4, 4, 4)
    real, fake = exactly(30, torch.zeros(4).double(), a), exactly(40, torch.ones(4).double(), b, 1)
    cov, other = (a.T @ a).numpy(), (b.T @ b).numpy()
    expected = 4 + np.trace(cov + other) - 2 * np.sqrt(np.linalg.eigvals(cov @ other).real).sum()
    assert frechet(real, fake) == pytest.approx(expected, rel=1e-8)
    assert frechet(fake, real) == pytest.approx(expected, rel=1e-8)


def test_frechet_of_a_set_with_itself_is_0_even_where_the_covariance_is_singular():
    """Where the root of a product of covariances has negative eigenvalues and imaginary parts, by rounding."""
    x = normal(20, 50, 5) * torch.logspace(-8, 4, 50, dtype=torch.float64)
    assert 0 <= frechet(x, x) < 1e-12 * float(x.var(0).sum())


def test_frechet_does_not_drown_in_a_large_mean():
    x = normal(500, 3, 6)
    assert frechet(x + 1e6, 2 * (x - x.mean(0)) + x.mean(0) + 1e6) == pytest.approx(float(x.var(0).sum()), rel=1e-6)


def test_frechet_takes_float32_and_computes_in_float64():
    x, y = normal(100, 5, 7).float(), normal(100, 5, 8).float()
    assert frechet(x, y) == frechet(x.double(), y.double())


@pytest.mark.parametrize(("n", "m"), [(100, 200), (400, 200)])
def test_equal_gaussians_score_the_bias_on_average_and_not_0(n: int, m: int):
    scales = torch.tensor([1.0, 2.0, 0.5, 0.0]).double()
    scores = [frechet(normal(n, 4, 2 * k) * scales, normal(m, 4, 2 * k + 1) * scales) for k in range(400)]
    known = frechet_bias(exactly(n, torch.zeros(4).double(), scales.diag()), m)
    assert np.mean(scores) == pytest.approx(known, abs=float(5 * np.std(scores) / 20 + 0.02 * known))
    assert np.mean(scores) > 10 * np.std(scores) / 20


def test_frechet_falls_as_samples_are_added():
    x, y = normal(4000, 20, 9), normal(4000, 20, 10)
    scores = [frechet(x[:n], y[:n]) for n in (50, 200, 1000, 4000)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 20 * scores[-1]


# Kernel distance


def test_the_kernel_distance_is_its_sums_written_out():
    x, y = normal(600, 3, 11).numpy(), normal(37, 3, 12).numpy() + 0.3  # more than one block
    within_x, within_y, across = (polynomial_kernel(*pair, degree=3) for pair in ((x, x), (y, y), (x, y)))
    pairs = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (within_x, within_y)]
    expected = sum(pairs) - 2 * across.mean()
    assert kernel(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(expected, rel=1e-9)


def test_the_linear_kernel_distance_is_that_of_the_means_without_its_noise():
    x, y = normal(50, 4, 13), normal(60, 4, 14) + 1
    noise = float(x.var(0).sum() / 50 + y.var(0).sum() / 60)
    apart = float((x.mean(0) - y.mean(0)).square().sum())
    assert kernel(x, y, degree=1) == pytest.approx((apart - noise) / 4)


def test_the_kernel_distance_of_equal_distributions_has_mean_0_at_any_size():
    scores = np.array([kernel(normal(12, 3, 2 * k), normal(8, 3, 2 * k + 1)) for k in range(600)])
    assert abs(scores.mean()) < 4 * scores.std() / math.sqrt(600)
    assert (scores < 0).mean() > 0.2


# Precision, recall, density, coverage


def test_a_set_compared_with_itself_scores_1():
    """With `<` in place of `<=` most of these would be lost (clovaai/generative-evaluation-prdc, issue 7)."""
    x = normal(700, 6, 15)
    same = neighbourhoods(x, x.clone())
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert same.density == pytest.approx(6 / 5)  # each is within reach of itself and, on average, of k others


def test_a_set_of_copies_compared_with_itself_scores_1():
    """Every reach is 0, and rounding must not make the distance of a copy larger."""
    x = (1e3 + normal(10, 40, 16)).repeat(30, 1)
    same = neighbourhoods(x, x.flip(0))
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)


def test_on_a_line_they_are_counted_by_hand():
    """k = 1: each real row reaches 1 far, the fakes 0.5, 0.5 and 5."""
    real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    fake = torch.tensor([[0.0], [0.5], [10.0]])
    near = neighbourhoods(real, fake, k=1)
    reach = [0.5, 0.5, 9.5]
    recalled = sum(any(abs(x - y) <= r for y, r in zip((0, 0.5, 10), reach, strict=True)) for x in range(4))
    assert near.precision == pytest.approx(2 / 3)
    assert near.density == pytest.approx((2 + 2 + 0) / 3)
    assert near.coverage == 2 / 4
    assert near.recall == recalled / 4 == 1.0


def test_far_away_nothing_is_precise_recalled_or_covered():
    x = normal(200, 3, 17)
    near = neighbourhoods(x, normal(200, 3, 18) + 100)
    assert (near.precision, near.recall, near.density, near.coverage) == (0, 0, 0, 0)


def test_a_set_collapsed_onto_one_real_row_is_precise_and_recalls_nothing():
    real = normal(300, 3, 19)
    near = neighbourhoods(real, real[7] + 1e-6 * normal(300, 3, 20))
    assert near.precision == 1
    assert near.recall <= 1 / 300
    assert near.coverage < 0.1


def test_half_of_the_modes_cost_half_of_recall_and_coverage_and_nothing_of_precision():
    modes = 50 * torch.eye(4, dtype=torch.float64)
    real = (modes[:, None] + normal(400, 4, 21).reshape(4, 100, 4)).flatten(0, 1)
    fake = (modes[:2, None] + normal(400, 4, 22).reshape(2, 200, 4)).flatten(0, 1)
    near = neighbourhoods(real, fake)
    assert near.precision > 0.9
    assert 0.4 < near.recall <= 0.5
    assert 0.4 < near.coverage <= 0.5


def test_recall_is_precision_with_the_sides_exchanged():
    x, y = normal(300, 4, 23), 0.5 * normal(200, 4, 24)
    assert neighbourhoods(x, y, 3).recall == neighbourhoods(y, x, 3).precision


def test_equal_distributions_score_the_expected_coverage_and_a_density_of_1():
    n, m, k = 60, 90, 5
    scores = [neighbourhoods(normal(n, 3, 2 * j), normal(m, 3, 2 * j + 1), k) for j in range(200)]
    coverage, density = (np.array([getattr(each, name) for each in scores]) for name in ("coverage", "density"))
    assert coverage.mean() == pytest.approx(expected_coverage(n, m, k), abs=4 * coverage.std() / math.sqrt(200))
    assert density.mean() == pytest.approx(1, abs=4 * density.std() / math.sqrt(200))
    assert expected_coverage(n, m, k) == pytest.approx(1 - math.prod((60 - j) / (150 - j) for j in range(1, 6)))


def test_compare_has_all_of_them_with_their_counts():
    real, fake = normal(50, 3, 25), normal(40, 3, 26)
    found = compare(real, fake)
    assert (found["samples"], found["real"], found["features"]) == (40, 50, 3)
    assert found["frechet"] == frechet(real, fake)
    assert found["frechet_bias"] == frechet_bias(real, 40)
    assert found["kernel"] == kernel(real, fake)
    near = neighbourhoods(real, fake)
    assert [found[name] for name in ("precision", "recall", "density", "coverage")] == [
        *(near.precision, near.recall, near.density, near.coverage)
    ]


@pytest.mark.parametrize(
    ("real", "fake", "told"),
    [
        (torch.zeros(9, 3), torch.zeros(9, 4), "3 and 4 features"),
        (torch.zeros(9, 3), torch.zeros(1, 3), "There are 1 samples"),
        (torch.full((9, 3), math.nan), torch.zeros(9, 3), "NaN or infinite"),
    ],
)
@pytest.mark.parametrize("measure", [frechet, kernel, neighbourhoods])
def test_features_that_cannot_be_compared_are_refused(measure, real, fake, told):
    with pytest.raises(InputError, match=told):
        measure(real, fake)


# Classifiers, features, copies


class Signs(nn.Module):
    """Class 1 where the first number is positive. A second linear layer is there, and is used first."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(2, 2, bias=False)
        self.first = nn.Linear(2, 2, bias=False)
        self.noise = nn.Dropout(0.5)
        self.first.weight.data = 3 * torch.eye(2)
        self.last.weight.data = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.noise(self.first(x)))


def test_recognised_counts_what_the_classifier_gives_its_class():
    x = torch.tensor([[1.0, 0.0]]).repeat(1000, 1)
    labels = (torch.arange(1000) < 970).long()
    found = recognised(Signs().train(), x, labels)
    assert (found.count, found.total, found.share) == (970, 1000, 0.97)
    low, high = found.interval
    assert low == pytest.approx(0.9574, abs=1e-4)
    assert high == pytest.approx(0.9797, abs=1e-4)


def test_all_of_n_has_the_interval_of_the_rule_of_three():
    low, high = Recognised(100, 100).interval
    assert low == pytest.approx(0.025 ** (1 / 100))
    assert high == 1


@pytest.mark.parametrize("labels", [torch.zeros(3).long(), torch.zeros(4, 1).long()])
def test_recognised_wants_a_label_for_each_sample(labels):
    with pytest.raises(InputError, match="Each sample has one label"):
        recognised(Signs(), torch.zeros(4, 2), labels)


def test_the_features_before_the_last_layer_are_what_it_sees_and_the_classifier_stays_as_it_was():
    classifier, x = Signs().train(), torch.arange(2400.0).reshape(1200, 2)
    assert torch.equal(penultimate(classifier)(x), 3 * x.double())
    assert classifier.training
    assert all(parameter.requires_grad for parameter in classifier.parameters())
    assert not any(layer._forward_pre_hooks for layer in (classifier.first, classifier.last))


def test_a_classifier_without_a_linear_layer_has_no_such_features():
    with pytest.raises(InputError, match=r"uses no nn\.Linear"):
        penultimate(nn.Sequential(nn.Flatten()))(torch.zeros(3, 1, 2, 2))


def test_pixels_are_rows_in_float64():
    x = torch.rand(3, 1, 4, 4)
    assert torch.equal(pixels(x), x.double().reshape(3, 16))


def test_a_copy_is_found_with_its_distance():
    training = 1e4 + normal(300, 8, 27).reshape(300, 2, 4)
    distance, rows = nearest(training[[5, 250]] + 1e-7, training)
    assert rows.tolist() == [[5], [250]]
    assert distance.flatten().tolist() == pytest.approx([1e-7 * math.sqrt(8)] * 2, rel=1e-3)


def test_the_nearest_come_in_order():
    distance, rows = nearest(torch.zeros(1, 1), torch.tensor([[3.0], [1.0], [-2.0]]), k=3)
    assert rows.tolist() == [[1, 2, 0]]
    assert distance.tolist() == [[1, 2, 3]]


def test_more_neighbours_than_there_are_cannot_be_found():
    with pytest.raises(InputError, match="4 neighbours were asked for, and there are 3"):
        nearest(torch.zeros(1, 1), torch.zeros(3, 1), k=4)

"""How near to the exact optimum does every attack of the catalogue come, on a linear model with ten classes?"""

import numpy as np
import pytest
import torch
from linear import make, optimum
from scipy.optimize import linprog

import attacks
from attacks import CATALOG, Access, EachTarget, card_of
from attacks.norms import NORMS

ROWS = 200
SHAPE = (1, 6, 8)


@pytest.fixture(scope="module")
def task():
    model, x, labels = make(10, 48, ROWS)
    return model, x.reshape(ROWS, *SHAPE), labels


@pytest.fixture(scope="module")
def nearest(task):
    model, x, labels = task
    return {norm: optimum(norm, model, x.flatten(1), labels) for norm in NORMS}


def kinds():
    """(name, norm) of the attacks that stay in a ball, apart from those that look for the smallest perturbation."""
    for name, make_attack in CATALOG.items():
        if name == "transferred":
            continue
        attack = make_attack()
        for norm in card_of(attack).norms if card_of(attack).eps != "inf" else ():
            yield name, norm, getattr(attack, "until", "first"), card_of(attack)


KINDS = list(kinds())
SMALLEST = [(name, norm) for name, norm, until, card in KINDS if until == "smallest" and card.access == Access.GRADIENT]
SURE = [
    (name, norm)
    for name, norm, until, card in KINDS
    if until == "first" and card.access == Access.GRADIENT and name != "fgsm" and norm != "l0" and not card.images
]
BLIND = [(name, norm) for name, norm, _, card in KINDS if card.access < Access.GRADIENT]
CLOSE = {"ddn": 1.01, "fmn": 1.01, "fab": 1.01, "fab_t": 1.01, "cw": 1.01}  # others 1.05


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_the_optimum_is_what_linear_programming_finds(task, nearest, norm):
    model, x, labels = task
    x, weight = x.flatten(1).numpy(), model.weight.detach().numpy()
    logits = model(torch.from_numpy(x)).detach().numpy()
    d = x.shape[1]
    for row in range(6):
        best = np.inf
        for k in set(range(10)) - {int(labels[row])}:
            w, need = weight[k] - weight[labels[row]], logits[row, labels[row]] - logits[row, k]
            if norm == "linf":  # min t: w.delta >= need, |delta_j| <= t
                cost = np.r_[np.zeros(d), 1.0]
                apart = np.c_[np.r_[np.eye(d), -np.eye(d)], -np.ones(2 * d)]
                rows, limits = np.r_[apart, np.r_[-w, 0.0][None]], np.r_[np.zeros(2 * d), -need]
                bounds = [(-v, 1 - v) for v in x[row]] + [(0, None)]
            else:  # delta = up - down, min sum(up + down)
                cost = np.ones(2 * d)
                rows, limits = np.r_[-w, w][None], np.array([-need])
                bounds = [(0, 1 - v) for v in x[row]] + [(0, v) for v in x[row]]
            found = linprog(cost, A_ub=rows, b_ub=limits, bounds=bounds)
            best = min(best, found.fun if found.success else np.inf)
        assert best == pytest.approx(float(nearest[norm][row]), rel=1e-6)


@pytest.mark.parametrize(("name", "norm"), SMALLEST)
def test_a_minimal_attack_ends_close_to_the_optimum_and_never_below(name, norm, task, nearest, capsys):
    model, x, labels = task
    size = attacks.run(name, model, x, labels, f"{norm}:inf").size
    ratio = size / nearest[norm]
    with capsys.disabled():
        quantiles = [round(float(ratio.quantile(q)), 4) for q in (0.5, 0.9, 0.99, 1.0)]
        print(f"\n{name} {norm}: size over the optimum, median, 90 %, 99 %, all: {quantiles}")
    assert (ratio >= 1 - 1e-9).all()
    close = CLOSE.get(name, 1.05)
    if norm == "l0":
        assert (size <= nearest["l0"] * 1.05 + 1).double().mean() >= 0.9
    else:
        assert ratio.median() <= close
        assert ratio.quantile(0.9) <= close


@pytest.mark.parametrize(("name", "norm"), SURE)
def test_attacks_at_a_fixed_eps_fool_what_can_be_fooled_and_claim_nothing_else(name, norm, task, nearest, capsys):
    model, x, labels = task
    eps = float(nearest[norm].median())
    breakable, safe = nearest[norm] < 0.98 * eps, nearest[norm] > eps
    result = attacks.run(name, model, x, labels, f"{norm}:{eps!r}")
    assert not result.fooled[safe].any()
    share = float(result.fooled[breakable].double().mean())
    with capsys.disabled():
        print(f"\n{name} {norm}: {share:.1%} of the {int(breakable.sum())} rows that are breakable at 0.98 eps")
    if "cross_entropy" not in repr(CATALOG[name]()):
        assert share >= 0.98


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", ["pgd", "bim", "apgd"])
@pytest.mark.parametrize("loss", ["margin", "dlr"])
def test_each_target_over_margin_or_dlr_fools_every_breakable_row(name, norm, loss, task, nearest):
    model, x, labels = task
    eps = float(nearest[norm].median())
    threat = f"{norm}:{eps!r}"
    breakable = nearest[norm] < 0.98 * eps
    each = attacks.run(EachTarget(CATALOG[name](loss=loss)), model, x, labels, threat)
    assert each.fooled[breakable].all()
    assert not each.fooled[nearest[norm] > eps].any()
    alone = attacks.run(CATALOG[name](loss=loss), model, x, labels, threat)
    sparse_and_short = name == "bim" and norm == "l1"  # ten steps of few coordinates each
    assert alone.fooled[breakable].double().mean() >= (0.95 if sparse_and_short else 0.98)


@pytest.mark.parametrize(("name", "norm"), BLIND)
def test_no_black_box_attack_claims_a_row_beyond_the_optimum(name, norm, task, nearest, capsys):
    model, x, labels = task
    eps = 1.5 * float(nearest[norm].median())
    result = attacks.run(name, model, x, labels, f"{norm}:{eps!r}", max_queries=600)
    assert not result.fooled[nearest[norm] > eps].any()
    assert (result.size[result.fooled] >= nearest[norm][result.fooled] * (1 - 1e-9)).all()
    with capsys.disabled():
        share = float(result.fooled[nearest[norm] < eps].double().mean())
        print(f"\n{name} {norm}: {share:.1%} of what an eps of 1.5 times the median optimum can break, in 600 queries")


def test_fgsm_and_cross_entropy_are_told_for_what_they_are(task, nearest, capsys):
    model, x, labels = task
    eps = float(nearest["linf"].median())
    breakable = nearest["linf"] < 0.98 * eps
    shares = {}
    for loss in ("cross_entropy", "margin", "dlr"):
        result = attacks.run(attacks.fgsm(loss), model, x, labels, f"linf:{eps!r}")
        shares[loss] = float(result.fooled[breakable].double().mean())
    with capsys.disabled():
        print(f"\nfgsm linf, share of the breakable rows: {shares}")
    assert 0 < min(shares.values()) <= max(shares.values()) < 1

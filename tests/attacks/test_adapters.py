"""Scripts for torchattacks and foolbox, moved over: the calls they make, and what comes back."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import attacks
from attacks import InputError, adapters
from reports import zoo


@pytest.fixture(scope="module")
def case():
    x, y = (part[:40] for part in zoo.held_out())
    return zoo.load()["digits_standard"], x, y


def test_torchattacks_calls_give_what_run_gives(case):
    model, x, y = case
    atk = adapters.torchattacks("PGD", model, eps=0.2, alpha=0.05, steps=10)
    x_adv = atk(x, y)
    same = attacks.run(attacks.pgd(10, 0.25), model, x, y, "linf:0.2")
    assert torch.equal(x_adv, same.x_adv)
    assert atk.result is not None
    assert same.fooled.any()
    assert torch.equal(model(x_adv).argmax(1) != y, atk.result.fooled)
    assert ((x_adv - x).abs() <= 0.2).all()


@pytest.mark.parametrize(("name", "norm"), [("PGDL2", "linf"), ("pgd", "L2"), ("L2PGD", "linf"), ("l2_pgd", "linf")])
def test_a_norm_in_the_name_is_the_norm(case, name: str, norm: str):
    model, x, y = case
    x_adv = adapters.torchattacks(name, model, eps=0.5, norm=norm)(x, y)
    sizes = (x_adv - x).flatten(1).norm(dim=1)
    assert (sizes <= 0.5).all()
    assert (sizes > 0.3).any()


def test_targeted_modes_aim_where_they_are_told(case):
    model, x, y = case
    atk = adapters.torchattacks("apgd", model, eps=0.5)
    atk.set_mode_targeted_by_label()
    targets = (y + 1) % 10
    x_adv = atk(x, targets)
    assert atk.result is not None
    assert (model(x_adv).argmax(1) == targets)[atk.result.fooled].all()
    assert atk.result.fooled.float().mean() > 0.5
    atk.set_mode_targeted_by_function(lambda images, labels: (labels + 1) % 10)
    assert torch.equal(atk(x, y), x_adv)
    atk.set_mode_default()
    assert torch.equal(atk(x, y), adapters.torchattacks("apgd", model, eps=0.5)(x, y))


def test_random_and_least_likely_targets_are_never_the_label(case):
    model, x, y = case
    atk = adapters.torchattacks("apgd", model, eps=0.5, steps=20)
    logits = model(x)
    by_size = logits.scatter(1, y[:, None], torch.inf).argsort(1)
    for kth in (1, 3):
        atk.set_mode_targeted_least_likely(kth_min=kth, quiet=True)
        x_adv = atk(x, y)
        assert atk.result is not None
        assert torch.equal(model(x_adv).argmax(1) == by_size[:, kth - 1], atk.result.fooled)
    atk.set_mode_targeted_least_likely(kth_min=10)
    with pytest.raises(InputError, match="kth_min=10: the model has 9 classes"):
        atk(x, y)
    atk.set_mode_targeted_random()
    x_adv = atk(x, y)
    assert torch.equal(atk(x, y), x_adv)
    reached = model(x_adv).argmax(1)[atk.result.fooled]
    assert (reached != y[atk.result.fooled]).all()
    assert len(((reached - y[atk.result.fooled]) % 10).unique()) > 4
    targets = atk._random(x, y)
    assert torch.equal(targets[:3], atk._random(x[:3], y[:3]))


def test_normalised_images_come_and_go_normalised(case):
    plain, x, y = case
    mean, std = [0.3], [0.2]

    class OfNormalised(nn.Module):
        def forward(self, z):
            return plain(z * 0.2 + 0.3)

    atk = adapters.torchattacks("PGD", OfNormalised(), eps=0.2, alpha=0.05, steps=10)
    z = (x - 0.3) / 0.2
    with pytest.raises(InputError, match="the bounds are 0 to 1"):
        atk(z, y)
    atk.set_normalization_used(mean=mean, std=std)
    z_adv = atk(z, y)
    assert atk.result is not None
    assert atk.result.fooled.any()
    assert torch.equal(atk.model(z_adv).argmax(1) != y, atk.result.fooled)  # type: ignore[operator]
    torch.testing.assert_close(z_adv * 0.2 + 0.3, atk.result.x_adv)
    assert (atk.result.x_adv - x).abs().max() <= 0.2 + 1e-5
    assert 0 <= atk.result.x_adv.min() <= atk.result.x_adv.max() <= 1
    atk.set_mode_targeted_least_likely()
    least = plain(x).scatter(1, y[:, None], torch.inf).argmin(1)
    assert torch.equal(atk.model(atk(z, y)).argmax(1) == least, atk.result.fooled)  # type: ignore[operator]
    with pytest.raises(InputError, match="the bounds are 0 to 1"):
        atk(z + 9, y)


@pytest.mark.parametrize(
    ("name", "norm", "kind"),
    [
        ("MIFGSM", "linf", "GradientAscent"),
        ("AutoAttack", "linf", "AutoAttack"),
        ("CW", "l2", "CW"),
        ("EADL1", "l1", "EAD"),
        ("L2CarliniWagnerAttack", "l2", "CW"),
        ("LInfFMNAttack", "linf", "FMN"),
        ("L2ProjectedGradientDescentAttack", "l2", "GradientAscent"),
        ("DDNAttack", "l2", "DDN"),
        ("HopSkipJumpAttack", "l2", "HopSkipJump"),
    ],
)
def test_their_names_find_the_attack_in_the_norm_that_it_is_made_for(case, name: str, norm: str, kind: str):
    atk = adapters.torchattacks(name, case[0])
    assert (type(atk.attack).__name__, atk.threat.norm.name) == (kind, norm)
    swept = adapters.foolbox(name)
    assert (swept.attack, swept.norm) == (atk.attack, norm)


def test_options_of_theirs_that_mean_the_same_are_taken(case):
    square = adapters.torchattacks("Square", case[0], 0.1, norm="Linf", n_queries=7, p_init=0.5).attack
    assert square == attacks.Square(queries=7, first_share=0.5)
    assert adapters.torchattacks("CW", case[0], kappa=2.0).attack == attacks.CATALOG["cw"](confidence=2.0)
    assert adapters.torchattacks("APGD", case[0], 0.1, loss="ce").attack == attacks.APGD(loss="cross_entropy")


def test_labels_of_any_whole_type_will_do(case):
    model, x, y = case
    assert torch.equal(
        adapters.torchattacks("fgsm", model, 0.1)(x, y.int()), adapters.torchattacks("fgsm", model, 0.1)(x, y)
    )


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: adapters.torchattacks("pgdd", m, 0.1), "Did you mean 'pgd'"),
        (lambda m: adapters.torchattacks("pgd", m, 0.1, norm="l7"), "no norm 'l7'"),
        (lambda m: adapters.torchattacks("pgd", m, 0.1, step=3), "Did you mean 'steps'"),
        (lambda m: adapters.torchattacks("pgd", m, alpha=0.1), "is a share of eps"),
        (lambda m: adapters.torchattacks("fgsm", m, 0.1, alpha=0.1), "no option of fgsm 'alpha'"),
        (lambda m: adapters.foolbox("LinfPDG"), "no attack 'LinfPDG'"),
        (lambda m: adapters.foolbox("pgd")(m, torch.rand(1, 1, 8, 8), [3], epsilons=0.1), "The criterion is list"),
    ],
)
def test_what_is_not_there_is_explained(case, call, said: str):
    with pytest.raises(InputError, match=said):
        call(case[0])


def test_foolbox_calls_give_one_answer_per_eps(case):
    model, x, y = case
    raw, clipped, is_adv = adapters.foolbox("LinfPGD", steps=10, rel_stepsize=0.2)(
        model, x, y, epsilons=[0.0, 0.1, 0.3]
    )
    assert is_adv.shape == (3, 40)
    assert len(raw) == len(clipped) == 3
    shares = is_adv.float().mean(1).tolist()
    assert shares == sorted(shares)
    assert shares[0] == float((model(x).argmax(1) != y).float().mean())
    for each, eps, fooled in zip(clipped, (0.0, 0.1, 0.3), is_adv, strict=True):
        assert ((each - x).abs() <= eps).all()
        assert torch.equal(model(each).argmax(1) != y, fooled)


def test_one_eps_gives_tensors(case):
    model, x, y = case
    raw, clipped, is_adv = adapters.foolbox("pgd")(model, x, y, epsilons=0.2)
    assert raw.shape == clipped.shape == x.shape
    assert is_adv.shape == (40,)


class Counting(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.inner, self.calls = model, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.inner(x)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_several_eps_may_come_in_any_row_of_numbers(case, kind):
    model, x, y = case
    raw, _, is_adv = adapters.foolbox("LinfPGD", steps=3)(model, x, y, epsilons=kind([0.1, 0.2]))
    assert len(raw) == 2
    assert is_adv.shape == (2, 40)
    for one in (kind([0.1, 0.2])[1], 0.2):
        assert torch.equal(adapters.foolbox("LinfPGD", steps=3)(model, x, y, epsilons=one)[2], is_adv[1])


def test_an_attack_for_the_smallest_perturbation_runs_once_for_all_eps(case):
    model, x, y = case
    once, thrice = Counting(model), Counting(model)
    raw, _, _ = adapters.foolbox("fmn", norm="l2", steps=20)(once, x, y, epsilons=None)
    all_raw, clipped, is_adv = adapters.foolbox("fmn", norm="l2", steps=20)(thrice, x, y, epsilons=[0.3, 0.6, None])
    assert once.calls == thrice.calls
    sizes = (raw - x).flatten(1).norm(dim=1)
    for each, eps, inside in zip(clipped, (0.3, 0.6, float("inf")), is_adv, strict=True):
        assert torch.equal(each, torch.where((sizes <= eps)[:, None, None, None], raw, x))
        assert torch.equal(inside, sizes <= eps)
    assert all(torch.equal(each, raw) for each in all_raw)


def test_criteria_are_read_as_foolbox_has_them(case):
    model, x, y = case
    attack = adapters.foolbox("apgd")
    wrong = SimpleNamespace(labels=y)
    assert torch.equal(attack(model, x, wrong, epsilons=0.3)[2], attack(model, x, attacks.Goal(y), epsilons=0.3)[2])
    aimed = SimpleNamespace(target_classes=SimpleNamespace(raw=(y + 1) % 10))  # an eagerpy tensor wraps another
    _, clipped, is_adv = attack(model, x, aimed, epsilons=0.5)
    assert (model(clipped).argmax(1) == (y + 1) % 10)[is_adv].all()
    assert is_adv.any()

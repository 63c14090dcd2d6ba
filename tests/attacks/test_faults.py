"""The faults that other libraries are known for, one test each.

Where a fault concerns what all attacks owe, its test is in test_every_attack.py (already-wrong inputs, batch, order and
shard, claims inside the ball without slack, the size of what is returned, NaN logits, the 8-bit grid, all-black and
all-white images), test_manners.py (train and eval mode, BatchNorm, gradients, the caller's random state),
test_bad_input.py (normalised inputs, logits of the wrong shape), test_norms.py (the L1 projection) or test_budgets.py
(randomised models). Here are the rest.
"""

import pytest
import torch
from linear import make
from short import SHORT
from test_every_attack import ElementwiseNet, task
from torch import nn
from trained import EVERY

import attacks
from attacks import CATALOG, Goal, InputError, card_of
from attacks.autoattack import AutoAttack
from attacks.catalog import attack_named
from attacks.score.square import Square

THREATS = {"linf": "linf:0.08", "l2": "l2:0.6", "l1": "l1:6", "l0": "l0:8"}
ALL = pytest.mark.parametrize("name", EVERY)
# Cross entropy and the probability margin weigh the classes by probabilities, which a scale of the logits changes.
SCALE_FREE = [
    name
    for name in CATALOG
    if not {"cross_entropy", "probability_margin"} & set(repr(attack_named(name, **SHORT.get(name, {}))).split("'"))
]


def short(name, victim=None):
    """With the victim for its surrogate, where the attack searches on one."""
    if name == "transferred" and victim is not None:
        return CATALOG[name](surrogate=victim)
    return EVERY[name](**SHORT.get(name, {}))


def threat_for(name):
    card = card_of(short(name))
    return f"{card.norms[0]}:inf" if card.eps == "inf" else THREATS[card.norms[0]]


class Changed(nn.Module):
    def __init__(self, net, change):
        super().__init__()
        self.net, self.change = net, change

    def forward(self, x):
        return self.change(self.net(x))


@pytest.fixture(scope="module")
def net_and_task():
    model = ElementwiseNet(192, 10, torch.float64)
    return model, *task(model, torch.float64)


def test_every_attack_is_also_asked_with_other_scales_or_uses_cross_entropy():
    assert len(SCALE_FREE) > len(CATALOG) / 3


@ALL
@pytest.mark.parametrize("shift", [-100.0, 1000.0])
def test_a_constant_added_to_all_logits_changes_no_success(name, shift, net_and_task):
    """C&W that masks logits by multiplying with zero fails as soon as they are negative."""
    model, x, labels = net_and_task
    plain = attacks.run(short(name), model, x, labels, threat_for(name))
    other = attacks.run(short(name), Changed(model, lambda z: z + shift), x, labels, threat_for(name))
    assert torch.equal(plain.fooled, other.fooled)


@pytest.mark.parametrize("name", SCALE_FREE)
@pytest.mark.parametrize("power", [-10, 10])
def test_the_scale_of_the_logits_changes_no_success(name, power, net_and_task):
    """C&W with a fixed first constant finds 2 of 16 where it found 15, once the logits are a thousandth."""
    model, x, labels = net_and_task
    plain = attacks.run(short(name), model, x, labels, threat_for(name))
    other = attacks.run(short(name), Changed(model, lambda z: z * 2.0**power), x, labels, threat_for(name))
    assert torch.equal(plain.fooled, other.fooled)


@pytest.mark.parametrize("name", CATALOG)  # a trained generator knows the classes by their numbers
def test_other_names_for_the_classes_change_no_success(name, net_and_task):
    model, x, labels = net_and_task
    order = torch.randperm(10, generator=torch.Generator().manual_seed(2))  # class k is called order[k]
    renamed = Changed(model, lambda z: torch.empty_like(z).index_copy(1, order, z))
    plain = attacks.run(short(name, model), model, x, labels, threat_for(name))
    other = attacks.run(short(name, renamed), renamed, x, order[labels], threat_for(name))
    assert torch.equal(plain.fooled, other.fooled)


def test_success_is_told_by_the_label_and_not_by_a_changed_answer():
    model = ElementwiseNet(192, 10)
    x, _ = task(model)
    wrong = (model(x).argmax(1) + 1) % 10
    result = attacks.run("pgd", model, x, wrong, "linf:0.3")
    assert result.fooled.all()
    assert torch.equal(result.x_adv, x)  # turning an answer right would be no success


@pytest.mark.parametrize("classes", [2, 3, 8, 1000])
def test_autoattack_takes_any_number_of_classes(classes):
    attack = attack_named("autoattack", steps=5, queries=20)
    model = ElementwiseNet(192, classes)
    x, _ = task(ElementwiseNet(192, 10), rows=6)
    labels = model(x).argmax(1)
    result = attacks.run(attack, model, x, labels, "linf:0.1")
    assert result.fooled.any()
    robust = attacks.run(attack, model, x, labels, "linf:0.00001")
    targets = min(9, classes - 1)
    assert (robust.backwards[~robust.fooled] >= 5 + 5 * targets).all()


def test_autoattack_is_autoattack():
    """100 steps and not 10; APGD on cross entropy, APGD-T, FAB-T and Square; nine targets; 5,000 queries."""
    attack = attack_named("autoattack")
    assert isinstance(attack, AutoAttack)
    ce, apgd_t, fab_t, square = attack.parts("l2").attacks
    assert ce == attacks.APGD(steps=100, loss="cross_entropy")
    assert apgd_t == attacks.EachTarget(attacks.APGD(steps=100, loss="dlr"), 9)
    assert fab_t == attacks.EachTarget(attack_named("fab", steps=100), 9)
    assert square == Square(queries=5000)
    ce, apgd_t, fab_t, square = attack.parts("l1").attacks  # five starts, and five classes to aim APGD at
    assert ce == attacks.Restarts(attacks.APGD(steps=100, loss="cross_entropy"), 5)
    assert apgd_t == attacks.EachTarget(attacks.APGD(steps=100, loss="dlr"), 5)
    assert (fab_t, square) == (attacks.EachTarget(attack_named("fab", steps=100), 9), Square(queries=5000))


@pytest.mark.parametrize("name", ["bim", "pgd", "mi_fgsm", "ni_fgsm", "apgd", "pgd_adam", "pma", "square"])
@pytest.mark.parametrize("eps", [0.001, 0.05, 0.4])
def test_the_steps_reach_eps_whatever_it_is(name, eps):
    """Steps of 2/255, or of a thirtieth of eps ten times, leave most of a larger ball unused."""

    class Watched(ElementwiseNet):
        furthest = 0.0

        def forward(self, x):
            self.furthest = max(self.furthest, float((x.detach() - clean).abs().max())) if len(x) == len(clean) else 0.0
            return super().forward(x) * 1e-3 + torch.eye(10)[0] * 100  # never fooled

    clean = 0.5 + torch.zeros(2, 3, 8, 8)
    model = Watched(192, 10)
    attacks.run(name, model, clean, torch.zeros(2, dtype=torch.int64), f"linf:{eps}")
    assert model.furthest == pytest.approx(eps, rel=1e-5, abs=1e-7)  # float32 near 0.5


def test_a_success_on_the_way_is_kept_though_the_search_ends_elsewhere():
    """The wrong class leads only in a narrow band that the search passes through; the last step lies beyond it."""

    class Band(nn.Module):
        def forward(self, x):
            mean = x.flatten(1).mean(1)
            inside = 1 - 50 * (mean - 0.55).abs()
            return torch.stack((torch.zeros_like(mean), torch.where(mean > 0.57, mean - 1.5, inside)), 1)

    x, labels = torch.full((3, 16), 0.5), torch.zeros(3, dtype=torch.int64)
    climbs = attacks.losses.from_function(lambda logits, goal: logits[:, 1] + 10)
    for until in ("first", "smallest"):
        attack = attacks.GradientAscent(climbs, start="input", share=0.25, steps=10)
        result = attacks.run(attack, Band(), x, labels, "linf:0.2", until=until)
        assert result.fooled.all()
        assert (Band()(result.x_adv).argmax(1) == 1).all()


@ALL
def test_a_target_is_reached_exactly_or_refused(name):
    model, x, labels = make(5, 48, 40, dtype=torch.float32)
    x, target = x.reshape(40, 3, 4, 4), (labels + 1) % 5
    attack, goal = short(name, model), Goal(target, targeted=True)
    threat = threat_for(name).split(":")[0] + (":inf" if card_of(attack).eps == "inf" else ":20")
    if not card_of(attack).targeted:
        with pytest.raises(InputError, match=r"cannot aim|wrong class"):
            attacks.run(attack, model, x, goal, threat)
        return
    result = attacks.run(attack, model, x, goal, threat)
    assert torch.equal(model(result.x_adv).argmax(1)[result.fooled], target[result.fooled])
    if card_of(attack).access is attacks.Access.GRADIENT and card_of(attack).eps != "inf":
        assert result.fooled.double().mean() > 0.8


@ALL
def test_no_hook_is_left_on_the_model(name):
    model = ElementwiseNet(192, 10)
    x, labels = task(model, rows=6)
    attacks.run(short(name), model, x, labels, threat_for(name))
    for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
        assert not any(getattr(module, kind) for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@ALL
def test_duplicates_of_one_image_are_told_apart_by_their_ids_alone(name):
    model = ElementwiseNet(192, 10)
    x, labels = task(model, rows=6)
    x, labels = x[4:5].expand(5, -1, -1, -1).clone(), labels[4:5].expand(5).clone()
    same = attacks.run(short(name), model, x, labels, threat_for(name), ids=torch.full((5,), 7))
    for field in ("x_adv", "fooled", "queries", "size"):
        values = getattr(same, field)
        assert torch.equal(values, values[:1].expand_as(values)), field

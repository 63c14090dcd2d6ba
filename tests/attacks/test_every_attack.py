"""What every attack owes its caller, a trained generator too. A new one is tested here the day it enters CATALOG."""

from dataclasses import replace

import pytest
import torch
import trained
from short import SHORT
from torch import nn
from trained import EVERY, GENERATED

import attacks
from attacks import CATALOG, Goal, InputError, Victim, card_of, loop
from attacks.rows import Rows

ATTACKED = ("linf:0.05", "l2:0.4", "l1:4", "l0:6")
BASELINES = (
    "uniform_noise",
    "gaussian_noise",
    "salt_and_pepper",
    "blur",
    "contrast",
    "rotate_translate",
    "corruptions",
)


class ElementwiseNet(nn.Module):
    """A small network whose rows are computed by elementwise products and sums: the batch cannot change a bit."""

    def __init__(self, features: int, classes: int, dtype: torch.dtype = torch.float32):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Parameter((torch.randn(12, features, generator=generator) / features**0.5).to(dtype))
        self.last = nn.Parameter(torch.randn(classes, 12, generator=generator).to(dtype))

    def forward(self, x):
        hidden = ((x.flatten(1) - 0.5)[:, None, :] * self.first).sum(2)
        hidden = hidden / (1 + hidden.abs())
        return (hidden[:, None, :] * self.last).sum(2)


def convolutional(dtype):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(128, 10))
    return net.to(dtype).eval()


def task(model, dtype=torch.float32, rows=24):
    """Images and the model's own labels, four of them made wrong."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(rows, 3, 8, 8, generator=generator, dtype=torch.float64).to(dtype)
    labels = model(x).argmax(1)
    labels[:4] = (labels[:4] + 1) % 10
    return x, labels


def attack_named(name):
    return EVERY[name](**SHORT.get(name, {}))


def attacked(name, threat, model, x, labels, **options):
    """The result, or None where the attack is not for this threat and says so."""
    attack, norm = attack_named(name), threat.split(":")[0]
    if norm not in card_of(attack).norms or (card_of(attack).eps == "inf" and not threat.endswith(":inf")):
        with pytest.raises(InputError, match=norm):
            attacks.run(attack, model, x, labels, threat, **options)
        return None
    return attacks.run(attack, model, x, labels, threat, **options)


def threat_for(name, scale=1.0):
    """A threat that the attack is made for."""
    card = card_of(attack_named(name))
    norm = card.norms[0]
    eps = {threat.partition(":")[0]: float(threat.partition(":")[2]) for threat in ATTACKED}[norm] * scale
    return f"{norm}:inf" if card.eps == "inf" else f"{norm}:{eps}"


def threat_model(name, scale=1.0, **options):
    return replace(attacks.ThreatModel.parse(threat_for(name, scale)), **options)


def finds(name):
    """Whether something is found in these small tasks as a rule: chance alone finds next to nothing."""
    return name not in BASELINES


every_attack = pytest.mark.parametrize("name", EVERY)
every_threat = pytest.mark.parametrize("threat", ATTACKED)


@every_attack
def test_each_attack_runs_in_the_norms_on_its_card_and_refuses_the_others(name):
    model = convolutional(torch.float64)
    card = card_of(attack_named(name))
    assert card.norms
    for threat in ATTACKED:
        threat = f"{threat.partition(':')[0]}:inf" if card.eps == "inf" else threat
        result = attacked(name, threat, model, *task(model, torch.float64))
        assert (result is not None) == (threat.partition(":")[0] in card.norms)


@every_attack
@every_threat
def test_what_is_claimed_is_true_and_inside(name, threat):
    model = convolutional(torch.float32)
    x, labels = task(model)
    result = attacked(name, threat, model, x, labels)
    if result is None:
        return
    norm, eps = threat.split(":")
    assert result.fooled[:4].all()
    assert (result.step[:4] == 0).all()  # wrong when clean: found at once, unchanged
    assert torch.equal(result.x_adv[:4], x[:4])
    fooled = result.fooled
    assert fooled[4:].any() or not finds(name)
    assert (model(result.x_adv).argmax(1) != labels)[fooled].all()
    assert torch.equal(result.x_adv[~fooled], x[~fooled])
    assert result.size[~fooled].isinf().all()
    delta = (result.x_adv.double() - x.double()).flatten(1)
    size = {
        "linf": delta.abs().amax(1),
        "l2": delta.square().sum(1).sqrt(),
        "l1": delta.abs().sum(1),
        "l0": (delta != 0).sum(1).double(),
    }[norm]
    assert (size <= float(eps)).all()  # no slack
    torch.testing.assert_close(result.size[fooled], size[fooled], rtol=1e-12, atol=0)
    assert (result.x_adv >= 0).all()
    assert (result.x_adv <= 1).all()


@every_attack
@pytest.mark.parametrize("threat", ["linf:0.05", "l2:0.4", "l1:4", "l0:6", "linf:inf"])
def test_batch_order_shard_and_company_change_no_bit(name, threat):
    if (card_of(attack_named(name)).eps == "inf") != (threat == "linf:inf"):
        return
    model = ElementwiseNet(192, 10)
    x, labels = task(model)
    whole = attacked(name, threat, model, x, labels, seed=3)
    if whole is None:
        return
    assert whole.fooled[4:].any() or not finds(name)
    ids = torch.arange(len(x))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(5))
    shard = slice(7, 12)
    others = {
        "batches of five": (attacked(name, threat, model, x, labels, seed=3, batch_size=5), ids),
        "one by one": (attacked(name, threat, model, x, labels, seed=3, batch_size=1), ids),
        "shuffled": (attacked(name, threat, model, x[order], labels[order], seed=3, ids=order), order),
        "a shard": (attacked(name, threat, model, x[shard], labels[shard], seed=3, ids=ids[shard]), ids[shard]),
        "never compacted": (attacked(name, threat, model, x, labels, seed=3, compact_below=0.0), ids),
        "compacted at once": (attacked(name, threat, model, x, labels, seed=3, compact_below=1.0), ids),
    }
    for how, (result, at) in others.items():
        assert result is not None
        for field in ("fooled", "queries", "backwards", "step", "size", "x_adv"):
            assert torch.equal(getattr(whole, field)[at], getattr(result, field)), (how, field)


@every_attack
def test_an_ordinary_convolutional_model_gives_the_same_result_in_any_batch(name):
    model = convolutional(torch.float64)
    x, labels = task(model, torch.float64)
    whole, parts = (attacked(name, threat_for(name), model, x, labels, batch_size=size) for size in (None, 5))
    assert whole is not None
    assert parts is not None
    for field in ("fooled", "step", "queries", "backwards"):
        assert torch.equal(getattr(whole, field), getattr(parts, field)), field
    torch.testing.assert_close(whole.x_adv, parts.x_adv, rtol=0, atol=1e-9)


def test_how_many_rows_differ_in_float32_is_printed(capsys):
    model = convolutional(torch.float32)
    x, labels = task(model)
    differ = {}
    for name in EVERY:
        whole, parts = (attacked(name, threat_for(name), model, x, labels, batch_size=size) for size in (None, 5))
        assert whole is not None
        assert parts is not None
        differ[name] = float((whole.step != parts.step).double().mean())
    with capsys.disabled():
        print("\nfloat32, convolutional, share of rows whose step depends on the batch:", differ)
    assert max(differ.values()) <= 0.2


def draws(name, model, x, labels):
    """Whether the attack asks for random numbers."""
    drawn = []

    class Watched(Rows):
        def _next_draw(self):
            drawn.append(True)
            return super()._next_draw()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Rows", Watched)
        attacked(name, threat_for(name, 1.5), model, x, labels)
    return bool(drawn)


@every_attack
def test_another_seed_is_other_luck_and_the_same_seed_the_same(name):
    model = ElementwiseNet(192, 10)
    x, labels = task(model)
    one, same, other = (attacked(name, threat_for(name, 1.5), model, x, labels, seed=seed) for seed in (3, 3, 4))
    assert one is not None
    assert same is not None
    assert other is not None
    assert torch.equal(one.x_adv, same.x_adv)
    if not draws(name, model, x, labels):
        assert torch.equal(one.x_adv, other.x_adv)
    elif finds(name) and name != "vni_fgsm":  # whose neighbours only tip the sign of gradients that are next to 0
        assert not torch.equal(one.x_adv, other.x_adv)


@every_attack
def test_counts_are_what_a_row_costs_alone(name):
    model = ElementwiseNet(192, 10)
    x, labels = task(model, rows=8)
    passes = {"forward": 0, "backward": 0}
    model.register_forward_hook(lambda _, asked, __: passes.update(forward=passes["forward"] + len(asked[0])))
    model.register_full_backward_hook(lambda _, __, out: passes.update(backward=passes["backward"] + len(out[0])))
    for row in range(len(x)):
        passes.update(forward=0, backward=0)
        result = attacked(name, threat_for(name), model, x[row : row + 1], labels[row : row + 1])
        assert result is not None
        assert (passes["forward"], passes["backward"]) == (int(result.queries), int(result.backwards))


@every_attack
def test_rows_dropped_at_once_are_never_asked_for_again(name):
    model = ElementwiseNet(192, 10)
    x, labels = task(model)
    shown = []
    model.register_forward_pre_hook(lambda _, inputs: shown.append(len(inputs[0])))
    result = attacked(name, threat_for(name), model, x, labels, compact_below=1.0)
    assert result is not None
    assert sum(shown) == int(result.queries.sum())


@every_attack
@every_threat
def test_eps_zero_finds_only_what_is_already_wrong(name, threat):
    model = convolutional(torch.float32)
    x, labels = task(model)
    result = attacked(name, threat.split(":")[0] + ":0", model, x, labels)
    if result is not None:
        assert result.fooled.tolist() == [True] * 4 + [False] * (len(x) - 4)
        assert torch.equal(result.x_adv, x)


@every_attack
def test_nan_logits_never_count_as_fooled(name):
    """The model breaks down as soon as the input is touched: nothing it then says is a success."""
    net = convolutional(torch.float32)
    x, labels = task(net)

    class Fragile(nn.Module):
        def forward(self, z):
            touched = (z[:, None] != x[None]).flatten(2).any(2).all(1)
            return torch.where(touched[:, None], torch.nan, net(z))

    result = attacked(name, threat_for(name), Fragile(), x, labels)
    assert result is not None
    assert result.fooled.tolist() == [True] * 4 + [False] * (len(x) - 4)


@every_attack
def test_extreme_inputs_and_saturated_or_equal_logits_are_survived(name):
    net = convolutional(torch.float32)
    black_and_white = torch.cat([torch.zeros(3, 3, 8, 8), torch.ones(3, 3, 8, 8)])
    labels = net(black_and_white).argmax(1)
    for scale in (1.0, 1e4, 1e-4, 0.0):

        class Scaled(nn.Module):
            def __init__(self, scale):
                super().__init__()
                self.net, self.scale = net, scale

            def forward(self, z):
                return self.net(z) * self.scale

        victim = Scaled(scale)
        answer = victim(black_and_white).argmax(1)
        result = attacked(name, threat_for(name), victim, black_and_white, answer)
        assert result is not None
        assert result.x_adv.isfinite().all()
        assert (victim(result.x_adv).argmax(1) != answer)[result.fooled].all()
        if scale == 0.0:
            assert not result.fooled.any()  # equal logits: nothing takes the lead
    assert torch.equal(labels, net(black_and_white).argmax(1))


@every_attack
def test_two_classes_will_do(name):
    model = ElementwiseNet(192, 2)
    x, _ = task(ElementwiseNet(192, 10))
    labels = model(x).argmax(1)
    attack = trained.against(model, classes=2, features="features" in name) if name in GENERATED else attack_named(name)
    result = attacks.run(attack, model, x, labels, threat_for(name, 4))
    assert (model(result.x_adv).argmax(1) != labels)[result.fooled].all()


@every_attack
def test_a_mask_is_obeyed(name):
    model = convolutional(torch.float32)
    x, labels = task(model)
    mask = torch.zeros(1, 3, 8, 8)
    mask[:, :, :4] = 1
    result = attacks.run(attack_named(name), model, x, labels, threat_model(name, 6, mask=mask))
    assert torch.equal(result.x_adv[:, :, 4:], x[:, :, 4:])
    assert result.fooled[4:].any() or not finds(name)


@every_attack
def test_eps_per_row_bounds_each_row(name):
    model = convolutional(torch.float32)
    x, labels = task(model)
    if card_of(attack_named(name)).eps == "inf":
        return
    most = threat_model(name, 2)
    eps = torch.linspace(0, float(most.eps), len(x), dtype=torch.float64)
    result = attacks.run(attack_named(name), model, x, labels, replace(most, eps=eps), batch_size=7)
    assert (most.norm.size((result.x_adv.double() - x.double()).flatten(1)) <= eps).all()


@every_attack
def test_on_the_8_bit_grid_candidates_are_grid_points_within_whole_levels(name):
    model = convolutional(torch.float32)
    x, _ = task(model)
    x = (x * 255).round() / 255
    labels = model(x).argmax(1)
    measured = found = 0
    for threat, allowed in ((attacks.linf(8 / 255, levels=255), 8), (attacks.l2(0.6, levels=255), (255 * 0.6) ** 2)):
        card = card_of(attack_named(name))
        if threat.norm.name not in card.norms or card.eps == "inf":
            continue
        measured += 1
        result = attacks.run(attack_named(name), model, x, labels, threat)
        levels = (result.x_adv.double() * 255).round()
        assert torch.equal((levels / 255).float(), result.x_adv)
        steps = (levels - (x.double() * 255).round()).flatten(1)
        size = steps.abs().amax(1) if allowed == 8 else steps.square().sum(1)
        assert (size <= allowed + 1e-9).all()
        found += int(result.fooled.sum())
    assert found or not measured or not finds(name)
    if not measured:  # an attack of its own kind: its candidates are grid points all the same
        result = attacks.run(attack_named(name), model, x, labels, threat_model(name, 2, levels=255))
        assert torch.equal((result.x_adv.double() * 255).round().div(255).float(), result.x_adv)


def test_smallest_is_never_larger_than_first():
    model = convolutional(torch.float32)
    x, labels = task(model)
    first, smallest = (attacks.run("fmn", model, x, labels, "l2:inf", until=until) for until in ("first", "smallest"))
    assert (smallest.size <= first.size).all()
    assert (smallest.size[4:] < first.size[4:]).any()


def test_the_loop_can_be_called_with_the_objects_themselves():
    model = convolutional(torch.float32)
    x, labels = task(model)
    by_name = attacks.run("pgd", model, x, labels, "linf:0.05")
    by_object = loop.run(CATALOG["pgd"](), Victim(model), x, Goal(labels), attacks.linf(0.05))
    assert torch.equal(by_name.x_adv, by_object.x_adv)

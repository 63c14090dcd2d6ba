"""Does every attack take any number of classes, any shape, any box and any type of number, or say what it takes?"""

import pytest
import torch
from linear import Linear
from short import SHORT
from test_every_attack import ElementwiseNet
from torch import nn
from trained import EVERY, GENERATED, against

import attacks
from attacks import CATALOG, InputError, ThreatModel, card_of, models
from attacks.norms import NORMS

ALL = pytest.mark.parametrize("name", EVERY)
EPS = {"linf": 0.1, "l2": 0.8, "l1": 6.0, "l0": 10.0}


def short(name):
    return EVERY[name](**SHORT.get(name, {}))


def made(name, model, shape=(3, 8, 8), classes=5):
    """With the model, which is of float32, for its surrogate; or trained against it."""
    if name == "transferred":
        return attacks.Transferred(attacks.mi_fgsm(), model)
    if name in GENERATED:
        return against(model, shape, classes, features="features" in name, threat="linf:0.1", steps=20)
    return short(name)


def threat(name, **options):
    card = card_of(short(name))
    norm = card.norms[0]
    return ThreatModel(NORMS[norm], torch.inf if card.eps == "inf" else EPS[norm], **options)


def inputs(shape, rows=8, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    return torch.rand(rows, *shape, generator=generator, dtype=torch.float64).to(dtype)


def true(result, model, labels):
    """What is claimed, the model bears out."""
    return bool((model(result.x_adv).argmax(1) != labels)[result.fooled].all())


@ALL
@pytest.mark.parametrize("classes", [2, 3, 8, 1000])
def test_two_three_eight_or_a_thousand_classes(name, classes):
    model, x = ElementwiseNet(192, classes), inputs((3, 8, 8))
    labels = model(x).argmax(1)
    attack = made(name, model, classes=classes)
    assert true(attacks.run(attack, model, x, labels, threat(name)), model, labels)


@ALL
@pytest.mark.parametrize("shape", [(40,), (12, 12), (2, 8, 8), (2, 3, 6, 6)], ids=["1-D", "2-D", "3-D", "4-D"])
def test_inputs_of_one_to_four_dimensions(name, shape):
    features = int(torch.tensor(shape).prod())
    model, x = ElementwiseNet(features, 5), inputs(shape)
    labels = model(x).argmax(1)
    attack = made(name, model, shape)
    if card_of(attack).images and len(shape) != 3:
        with pytest.raises(InputError, match="images"):
            attacks.run(attack, model, x, labels, threat(name))
        return
    result = attacks.run(attack, model, x, labels, threat(name))
    assert result.x_adv.shape == x.shape
    assert true(result, model, labels)


@ALL
def test_one_logit_for_two_classes(name):
    class OneLogit(nn.Module):
        def forward(self, x):
            return 4 * (x.flatten(1) - 0.5).mean(1)

    model, x = models.Binary(OneLogit()), inputs((3, 8, 8))
    labels = model(x).argmax(1)
    attack = made(name, model, classes=2)
    assert true(attacks.run(attack, model, x, labels, threat(name)), model, labels)


@ALL
def test_bounds_per_feature_and_per_row(name):
    """Tabular data: each column has a range of its own, and each row may move in a box of its own."""
    shape = (3, 8, 8)
    scale = torch.logspace(-1, 2, 192).reshape(shape)
    model = nn.Sequential(_Scaled(scale), ElementwiseNet(192, 4))
    x = inputs(shape) * scale
    low, high = torch.maximum(torch.zeros(()), x - 0.2 * scale), torch.minimum(scale, x + 0.2 * scale)
    labels = model(x).argmax(1)
    attack = made(name, model, classes=4)
    for bounds in ((torch.zeros(shape), scale), (low, high)):
        result = attacks.run(attack, model, x, labels, threat(name, bounds=bounds))
        assert ((result.x_adv >= bounds[0]) & (result.x_adv <= bounds[1])).all()
        assert true(result, model, labels)


class _Scaled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return x / self.scale


@pytest.mark.parametrize("name", ["bim", "pgd", "apgd", "apgd_t", "fmn", "square", "autoattack"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_box_without_a_ball_is_a_verification_instance(name, norm):
    """eps = inf, a lower and an upper tensor: on a linear model the corner of the box decides."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 48, generator=generator, dtype=torch.float64)
    model, x = Linear(weight, torch.zeros(3, dtype=torch.float64)), inputs((3, 4, 4), 60, torch.float64)
    scale = torch.logspace(-2.5, -0.4, 48).reshape(3, 4, 4)
    width = torch.rand(x.shape, generator=generator, dtype=torch.float64) * scale
    low, high = x - width, x + width
    logits = model(x)
    labels = logits.argmax(1)
    apart = weight[None] - weight[labels][:, None]  # [b, 3, d]
    reach = (logits - logits.gather(1, labels[:, None])) + (apart.abs() * width.flatten(1)[:, None]).sum(2)
    worst = reach.scatter(1, labels[:, None], -torch.inf).amax(1)
    box = ThreatModel(NORMS[norm], torch.inf, (low, high))
    options = {"loss": "margin"} if name in ("bim", "pgd", "apgd") else {}
    result = attacks.run(CATALOG[name](**options), model, x, labels, box)
    breakable, safe = worst > 0.02 * worst.abs().max(), worst < 0
    assert 5 < int(breakable.sum()) < 55
    assert not result.fooled[safe].any()
    share = float(result.fooled[breakable].double().mean())
    assert share >= (0.98 if norm == "linf" and name != "square" else 0.5), share


@ALL
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_of_half_precision_takes_inputs_of_float32(name, dtype):
    model, x = ElementwiseNet(192, 5, dtype), inputs((3, 8, 8))
    labels = model(x.to(dtype)).argmax(1)
    attack = made(name, ElementwiseNet(192, 5))
    result = attacks.run(attack, model, x, labels, threat(name))
    assert result.x_adv.dtype == torch.float32
    assert (model(result.x_adv.to(dtype)).argmax(1) != labels)[result.fooled].all()


@ALL
def test_float64_stays_float64(name):
    model, x = ElementwiseNet(192, 5, torch.float64), inputs((3, 8, 8), dtype=torch.float64)
    labels = model(x).argmax(1)
    attack = made(name, ElementwiseNet(192, 5))
    result = attacks.run(attack, model, x, labels, threat(name))
    assert result.x_adv.dtype == torch.float64
    assert true(result, model, labels)


@ALL
def test_a_numpy_callable_is_attacked_through_what_it_reveals(name):
    net = ElementwiseNet(192, 5)
    x = inputs((3, 8, 8))
    labels = net(x).argmax(1)
    scores = models.FromCallable(lambda a: net(torch.from_numpy(a)).detach().numpy())
    labels_only = models.FromCallable(lambda a: net(torch.from_numpy(a)).argmax(1).numpy(), decisions=True, classes=5)
    attack = made(name, net)
    for box, access in ((scores, attacks.Access.SCORES), (labels_only, attacks.Access.DECISION)):
        victim = attacks.Victim(box, access)
        if card_of(attack).access > access:
            with pytest.raises(attacks.AccessError, match=access.name):
                attacks.run(attack, victim, x, labels, threat(name))
        else:
            assert true(attacks.run(attack, victim, x, labels, threat(name)), net, labels)

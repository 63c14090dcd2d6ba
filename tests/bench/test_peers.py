"""Do we find what other libraries find, and have we none of the faults that they are known for? (extra: bench)"""

import attack_peers
import numpy as np
import pytest
import torch
from attack_peers import library
from linear import make, optimum
from torch import Tensor, nn

import attacks
from reports.sources.data import load as load_data
from reports.sources.models import load as load_model

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]  # the warnings are the peers' own
ROWS = 64


class Changed(nn.Module):
    """The net with its logits multiplied and shifted: no decision changes."""

    def __init__(self, net: nn.Module, scale: float = 1.0, shift: float = 0.0):
        super().__init__()
        self.net, self.scale, self.shift = net, scale, shift

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * self.scale + self.shift


@pytest.fixture(params=["digits:standard", "digits:robust"])
def task(request) -> tuple[nn.Module, Tensor, Tensor]:
    return digits(request.param)


def digits(name: str = "digits:standard") -> tuple[nn.Module, Tensor, Tensor]:
    """A classifier of 8x8 digits and the first rows that it gets right."""
    (model,) = load_model(name).values()
    (batch,) = load_data("digits").batches(2 * ROWS, 2 * ROWS)
    right = (model.eval()(batch.x).argmax(1) == batch.labels).nonzero().squeeze(1)[:ROWS]
    return model, batch.x[right], batch.labels[right]


def fooled(model: nn.Module, x_adv: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x_adv).argmax(1) != labels


def l2(x_adv: Tensor, x: Tensor) -> Tensor:
    return (x_adv - x).double().flatten(1).norm(dim=1)


def art_classifier(model: nn.Module, x: Tensor, classes: int = 10):
    return library("art.estimators.classification").PyTorchClassifier(
        model=model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )


# -- the same is found --


def test_one_step_of_fgsm_is_the_step_of_torchattacks_and_foolbox(task):
    model, x, labels = task
    ours = attacks.run("fgsm", model, x, labels, "linf:0.1")
    theirs = library("torchattacks").FGSM(model, eps=0.1)(x, labels)
    foolbox = library("foolbox")
    also = foolbox.attacks.LinfFastGradientAttack(random_start=False)(
        foolbox.PyTorchModel(model, bounds=(0, 1)), x, labels, epsilons=0.1
    )[1]
    for other in (theirs, also):
        assert torch.equal(ours.fooled, fooled(model, other, labels))
        same = (ours.x_adv - other).abs()[ours.fooled] < 1e-6
        assert same.double().mean() > 0.99  # a slope that rounding leaves of 0 may have either sign


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("linf", 0.2), ("l2", 0.4), ("l2", 0.8)])
@pytest.mark.parametrize("peer", ["torchattacks", "foolbox", "art"])
def test_hardly_a_row_falls_to_anothers_pgd_and_not_to_ours(peer, norm, eps, task):
    model, x, labels = task
    ours = attacks.run(attacks.bim(steps=40, share=0.1), model, x, labels, f"{norm}:{eps}").fooled
    theirs = fooled(model, attack_peers.pgd(peer, model, x, labels, norm, eps), labels)
    assert (theirs & ~ours).double().mean() <= 0.02  # one row of 64
    assert ours.double().mean() >= theirs.double().mean() - 0.01


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("ddn", lambda foolbox: foolbox.attacks.DDNAttack(steps=100)),
        ("deepfool", lambda foolbox: foolbox.attacks.L2DeepFoolAttack()),
        ("cw", lambda foolbox: foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=6, steps=50)),
        ("fmn", lambda foolbox: foolbox.attacks.L2FMNAttack(steps=100)),
    ],
)
def test_minimal_attacks_end_no_further_off_than_foolboxs(name, call, task):
    model, x, labels = task
    foolbox = library("foolbox")
    theirs = call(foolbox)(foolbox.PyTorchModel(model, bounds=(0, 1)), x, labels, epsilons=None)[0]
    size = l2(theirs, x).masked_fill(~fooled(model, theirs, labels), torch.inf)
    assert attacks.run(name, model, x, labels, "l2:inf").size.median() <= 1.01 * size.median()


@pytest.mark.parametrize(
    ("name", "norm"), [("ddn", "l2"), ("fmn", "linf"), ("fmn", "l2"), ("fmn", "l1"), ("fmn", "l0")]
)
def test_minimal_attacks_end_no_further_off_than_adversarial_librarys(name, norm, task):
    model, x, labels = task
    theirs_lib = attack_peers.adv_lib()
    if theirs_lib is None:
        pytest.skip("adv-lib is not installed (pip install --no-deps adv-lib)")
    order = {"linf": torch.inf, "l2": 2, "l1": 1, "l0": 0}[norm]
    options = {"levels": None} if name == "ddn" else {"norm": order}
    theirs = getattr(theirs_lib, name)(model, x, labels, steps=100, **options)
    size = attacks.norms.NORMS[norm].size((theirs - x).double().flatten(1))
    size = size.masked_fill(~fooled(model, theirs, labels), torch.inf)
    assert attacks.run(name, model, x, labels, f"{norm}:inf").size.median() <= 1.01 * size.median()


# -- faults that are not ours --


def test_logits_shifted_below_zero_blind_another_cw_and_not_ours():
    model, x, labels = digits()
    low = Changed(model, shift=-100.0)
    theirs, theirs_low = (
        fooled(m, library("torchattacks").CW(m, c=10, lr=0.05)(x, labels), labels) for m in (model, low)
    )
    assert theirs.double().mean() > 0.5
    assert theirs_low.double().mean() < 0.1  # max(0 * logits of others) is 0: the largest of all
    for m in (model, low):
        assert attacks.run("cw", m, x, labels, "l2:inf").fooled.all()


def test_black_and_white_images_freeze_another_cw_and_not_ours():
    model, x, _ = digits()
    x = (x > 0.5).float()
    labels = model(x).argmax(1)
    theirs = library("torchattacks").CW(model, c=10, lr=0.05)(x, labels)
    assert torch.equal(theirs, x)  # the slope of tanh is 0 at both ends
    assert attacks.run("cw", model, x, labels, "l2:inf").fooled.all()


@pytest.mark.parametrize("peer", ["torchattacks", "art"])
def test_logits_a_thousandth_as_large_weaken_another_cw_and_not_ours(peer):
    model, x, labels = digits()
    x, labels = x[:16], labels[:16]

    def theirs(m: nn.Module) -> Tensor:
        if peer == "torchattacks":
            return library("torchattacks").CW(m, c=10, lr=0.05)(x, labels)
        attack = library("art.attacks.evasion").CarliniL2Method(art_classifier(m, x), batch_size=16, verbose=False)
        return torch.from_numpy(attack.generate(x.numpy(), np.eye(10, dtype=np.float32)[labels.numpy()]))

    small = Changed(model, scale=1e-3)
    assert fooled(model, theirs(model), labels).double().mean() > 0.5
    assert fooled(small, theirs(small), labels).double().mean() < 0.25
    assert attacks.run("cw", small, x, labels, "l2:inf").fooled.all()


def test_cross_entropy_alone_leaves_others_with_rows_that_a_margin_breaks():
    """A linear model with ten classes, whose optimum is known."""
    model, x, labels = make(10, 48, 200)
    eps = float(optimum("linf", model, x, labels).median())
    breakable = optimum("linf", model, x, labels) < 0.98 * eps
    theirs = fooled(model, library("torchattacks").PGD(model, eps=eps, alpha=eps / 10, steps=40)(x, labels), labels)
    assert theirs[breakable].double().mean() < 0.95
    assert attacks.run("apgd_t", model, x, labels, f"linf:{eps!r}").fooled[breakable].all()


def test_what_anothers_apgd_could_not_fool_comes_back_as_noise_and_from_ours_as_it_was():
    model, x, labels = digits("digits:robust")
    attack = library("art.attacks.evasion").AutoProjectedGradientDescent(
        art_classifier(model, x), eps=0.05, eps_step=0.01, max_iter=10, nb_random_init=1, batch_size=ROWS, verbose=False
    )
    theirs = torch.from_numpy(attack.generate(x.numpy(), np.eye(10, dtype=np.float32)[labels.numpy()]))
    failed = ~fooled(model, theirs, labels)
    assert failed.any()
    assert (theirs[failed] != x[failed]).flatten(1).any(1).all()
    ours = attacks.run("apgd", model, x, labels, "linf:0.05")
    assert torch.equal(ours.x_adv[~ours.fooled], x[~ours.fooled])


def test_another_counts_a_changed_answer_as_success_and_we_count_a_wrong_one():
    model, x, labels = digits()
    labels = torch.cat(((labels[:32] + 1) % 10, labels[32:]))  # half of the rows are wrong before any attack
    count = library("art.utils").compute_success_array
    theirs = count(art_classifier(model, x), x.numpy(), np.eye(10, dtype=np.float32)[labels.numpy()], x.numpy())
    assert not theirs.any()
    assert torch.equal(attacks.run("uniform_noise", model, x, labels, "linf:0").fooled, torch.arange(ROWS) < 32)


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_break_anothers_dlr_and_not_ours(classes):
    model, x, labels = make(classes, 48, 20, dtype=torch.float32)
    x = x.reshape(20, 3, 4, 4)
    with pytest.raises((IndexError, RuntimeError)):
        library("torchattacks").AutoAttack(model, norm="Linf", eps=0.001, n_classes=classes)(x, labels)
    short = attacks.catalog.attack_named("autoattack", steps=5, queries=20)
    assert attacks.run(short, model, x, labels, "linf:0.2").fooled.any()


def test_images_that_another_saves_in_8_bits_get_darker_and_ours_are_on_the_grid():
    model, x, labels = digits()
    x = (x * 255).round() / 255
    attack = library("torchattacks").PGDL2(model, eps=0.5, alpha=0.1, steps=10)
    found = attack(x, labels)
    lost = found * 255 - attack.to_type(found, "int")
    assert lost[found != x].mean() > 0.4  # it truncates
    threat = attacks.l2(0.5, levels=255)
    ours = attacks.run("pgd", model, x, labels, threat)
    assert ours.fooled.any()
    saved = (ours.x_adv * 255).round()
    assert (ours.x_adv * 255 - saved).abs().max() < 1e-3
    assert torch.equal(fooled(model, saved / 255, labels)[ours.fooled], ours.fooled[ours.fooled])
    assert l2(saved / 255, x)[ours.fooled].max() <= 0.5 + 1e-6

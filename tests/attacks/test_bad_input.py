"""What does bad input get? An InputError that says what was asked, what is there and what to do."""

import re
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from trained import GENERATED, against

import attacks
from attacks import Access, AccessError, Goal, InputError, ThreatModel, Victim
from attacks.catalog import attack_named
from attacks.errors import unknown
from attacks.gradient.pgd import GradientAscent
from attacks.norms import NORMS

CHEAP = ("fgsm", "square", "uniform_noise")  # one that sees gradients, one scores, one decisions

seen_so_far = pytest.mark.parametrize("attack", [*CHEAP, *GENERATED], indirect=True)


@pytest.fixture
def attack(request):
    return trained(request.param) if request.param in GENERATED else request.param


@cache
def trained(name):
    return against(classifier(), (3, 4, 4), 5, features="features" in name, threat="linf:0.1", steps=20)


def classifier(classes=5, dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, classes)).to(dtype).eval()


class Answering(nn.Module):
    """A model that hands on what `answer` makes of the logits."""

    def __init__(self, answer):
        super().__init__()
        self.net, self.answer = classifier(), answer

    def forward(self, x):
        return self.answer(self.net(x))


@pytest.fixture
def x():
    return torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels(x):
    return classifier()(x).argmax(1)


def refusal(
    attack: Any = "fgsm", victim: Any = None, x: Any = None, goal: Any = None, threat: Any = "linf:0.1", **options: Any
):
    """What `run` says."""
    with pytest.raises(InputError) as caught:
        attacks.run(attack, classifier() if victim is None else victim, x, goal, threat, **options)
    return str(caught.value)


def says(message, *words):
    for word in words:
        assert word in message, (word, message)


# -- inputs --


@seen_so_far
def test_inputs_outside_the_bounds_are_told_about_normalisation(attack, x, labels):
    message = refusal(attack, x=(x - 0.5) / 0.25, goal=labels)
    lowest, highest = float(((x - 0.5) / 0.25).min()), float(((x - 0.5) / 0.25).max())
    says(message, f"{lowest:.4g}", f"{highest:.4g}", "0 to 1", "attacks.models.Normalized", "state the bounds")


def test_inputs_beyond_bounds_of_ones_own_are_refused_by_one_unit_in_the_last_place(x, labels):
    threat = attacks.linf(0.1, bounds=(-1.0, 1.0))
    x[2, 0, 1, 1] = 1.0
    attacks.run("fgsm", classifier(), x, labels, threat)
    x[2, 0, 1, 1] = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
    says(refusal(x=x, goal=labels, threat=threat), "-1 to 1")


@seen_so_far
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_nan_or_inf_in_the_inputs_is_counted(attack, bad, x, labels):
    x[1, 0, 0, 0] = x[4, 2, 3, 3] = bad
    says(refusal(attack, x=x, goal=labels), "2 of 6 inputs", "NaN or inf", "clean the data")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float16, torch.bfloat16])
def test_inputs_of_another_type_are_told_how_to_become_floats(dtype, x, labels):
    says(refusal(x=(x * 255).to(dtype), goal=labels), str(dtype), "float32 or float64", "x.float() / 255")


def test_inputs_that_are_no_tensor_are_refused(x, labels):
    says(refusal(x=x.numpy(), goal=labels), "ndarray", "float32 or float64 tensors")


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (6, 0), (6,), ()])
def test_an_empty_batch_is_refused(shape):
    says(refusal(x=torch.zeros(shape), goal=torch.zeros(shape[:1], dtype=torch.int64)), str(shape), "at least one")


@seen_so_far
def test_one_example_is_enough(attack, x, labels):
    attack = attacks.Square(queries=5) if attack == "square" else attack
    result = attacks.run(attack, classifier(), x[:1], labels[:1], "linf:0.1")
    assert result.fooled.shape == (1,)


@seen_so_far
def test_eps_zero_is_allowed_and_finds_what_is_already_wrong(attack, x, labels):
    labels[0] = (labels[0] + 1) % 5
    attack = attacks.Square(queries=5) if attack == "square" else attack
    assert attacks.run(attack, classifier(), x, labels, "linf:0").fooled.tolist() == [True] + [False] * 5


# -- labels --


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.bool, torch.uint8])
def test_labels_of_another_type_are_refused(dtype, x, labels):
    says(refusal(x=x, goal=labels.to(dtype)), str(dtype), "int64 [6]")


@pytest.mark.parametrize("shape", [(5,), (7,), (6, 1), (6, 5), ()])
def test_labels_of_another_shape_are_refused(shape, x):
    says(refusal(x=x, goal=torch.zeros(shape, dtype=torch.int64)), str(shape), "int64 [6]", "one per input")


def test_labels_that_are_no_tensor_are_refused(x, labels):
    for given in (labels.tolist(), labels.numpy(), Goal(labels.tolist())):
        says(refusal(x=x, goal=given), "list" if not hasattr(given, "dtype") else "ndarray", "torch.as_tensor", "[6]")


@seen_so_far
@pytest.mark.parametrize("bad", [-1, 5, 255])
def test_labels_out_of_range_are_told_the_range(attack, bad, x, labels):
    labels[3] = bad
    says(refusal(attack, x=x, goal=labels), str(bad), "5 classes", "0 to 4")


def test_targets_out_of_range_are_told_the_range(x, labels):
    says(refusal(x=x, goal=Goal(labels + 5, targeted=True)), "5 classes", "0 to 4")


# -- models --


@seen_so_far
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_nan_or_inf_in_the_logits_of_clean_inputs_is_counted(attack, bad, x, labels):
    wrong = torch.tensor([0, 1, 0, 0, 1, 0], dtype=torch.bool)[:, None]
    model = Answering(lambda z: torch.where(wrong & (torch.arange(5) == 2), bad, z))
    says(refusal(attack, model, x, labels), "2 of 6 clean inputs", "NaN or inf", "mend the model")


def test_a_class_left_out_by_minus_infinity_is_told_of_a_finite_number(x, labels):
    out = torch.tensor([0.0, -torch.inf, 0.0, 0.0, 0.0])
    says(refusal(victim=Answering(lambda z: z + out), x=x, goal=labels), "6 of 6 clean inputs", "-inf", "-1e9 does so")
    assert "-1e9" not in refusal(victim=Answering(lambda z: z - out), x=x, goal=labels)


@pytest.mark.parametrize("name", ["fgsm", "apgd", "fmn", "square", "gaussian_noise"])
def test_a_class_left_out_by_a_large_negative_logit_hides_no_success(name, x, labels):
    def fooled(left_out):
        model = Answering(lambda z: torch.cat((z, torch.full_like(z[:, :1], left_out)), 1))
        attack = attacks.Square(queries=50) if name == "square" else name
        return attacks.run(attack, model, x, labels, "l2:1.5" if name == "gaussian_noise" else "linf:0.2").fooled

    assert fooled(-100.0).any()
    for left_out in (-1e9, -1e30, torch.finfo(torch.float32).min):
        assert torch.equal(fooled(left_out), fooled(-100.0))


@seen_so_far
def test_probabilities_are_recognised(attack, x, labels):
    says(refusal(attack, Answering(lambda z: z.softmax(1)), x, labels), "probabilities", "Drop the softmax")
    model = attacks.models.LogProbabilities(Answering(lambda z: z.softmax(1)))
    attack = attacks.Square(queries=5) if attack == "square" else attack
    attacks.run(attack, model, x, labels, "linf:0.1")


@seen_so_far
@pytest.mark.parametrize(
    ("answer", "kind"),
    [(lambda z: (z, z), "tuple"), (lambda z: {"logits": z}, "dict"), (lambda z: None, "NoneType")],
)
def test_an_answer_that_is_no_tensor_is_refused(attack, answer, kind, x, labels):
    says(refusal(attack, Answering(answer), x, labels), kind, "tensor of logits [b, K]", "returns the logits alone")


@seen_so_far
@pytest.mark.parametrize("answer", [lambda z: z[:, 0], lambda z: z[:, :1]])
@pytest.mark.parametrize("rows", [1, 6])
def test_one_logit_is_told_of_binary(attack, answer, rows, x, labels):
    message = refusal(attack, Answering(answer), x[:rows], labels[:rows])
    says(message, "one logit per row", str(tuple(answer(torch.zeros(rows, 5)).shape)), "attacks.models.Binary")


@seen_so_far
@pytest.mark.parametrize(
    "answer",
    [lambda z: z[:, :, None], lambda z: z[:4], lambda z: torch.cat((z, z)), lambda z: z.sum(), lambda z: z.flatten()],
)
def test_logits_of_another_shape_are_refused(attack, answer, x, labels):
    shape = tuple(answer(torch.zeros(6, 5)).shape)
    says(refusal(attack, Answering(answer), x, labels), str(shape), "[6, K] are needed")


@seen_so_far
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_logits_of_another_type_are_refused(attack, dtype, x, labels):
    says(refusal(attack, Answering(lambda z: z.to(dtype)), x, labels), str(dtype), "[6, K] are needed")


def test_logits_of_no_class_are_refused(x, labels):
    says(refusal(victim=Answering(lambda z: z[:, :0]), x=x, goal=labels), "0 classes")


@pytest.mark.parametrize("victim", [lambda z: z, "digits", nn.Linear, None.__class__])
def test_a_victim_that_is_no_module_is_told_of_from_callable(victim, x, labels):
    says(refusal(victim=victim, x=x, goal=labels), "torch.nn.Module", "attacks.models.FromCallable")
    with pytest.raises(InputError, match=r"torch\.nn\.Module is needed.*FromCallable"):
        Victim(victim)


def test_an_access_that_is_none_is_refused():
    with pytest.raises(InputError, match=r"access='scores'.*DECISION, SCORES or GRADIENT"):
        Victim(classifier(), "scores")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attack", "needs", "access"),
    [
        ("pgd", "GRADIENT", Access.DECISION),
        ("pgd", "GRADIENT", Access.SCORES),
        ("apgd", "GRADIENT", Access.SCORES),
        ("fmn", "GRADIENT", Access.SCORES),
        ("square", "SCORES", Access.DECISION),
    ],
)
def test_an_access_that_is_not_given_is_named_with_the_attacks_that_need_no_more(attack, needs, access, x, labels):
    message = refusal(attack, Victim(classifier(), access), x, labels)
    says(message, f"needs {needs}", f"reveals {access.name}", f"attacks/{access.name.lower().removesuffix('s')}/")


def test_an_access_that_is_given_is_enough(x, labels):
    attacks.run("uniform_noise", Victim(classifier(), Access.DECISION), x, labels, "linf:0.1")
    attacks.run(attacks.Square(queries=5), Victim(classifier(), Access.SCORES), x, labels, "linf:0.1")


class Hidden(nn.Module):
    """A network out of PyTorch's sight: its weights want gradients, the input has none."""

    def __init__(self):
        super().__init__()
        self.nets = (classifier(),)

    def forward(self, x):
        return self.nets[0](x.detach())


@pytest.mark.parametrize(
    "victim",
    [
        Answering(lambda z: z.detach()),
        Answering(torch.no_grad()(lambda z: z * 1)),
        attacks.models.FromCallable(lambda z: z.reshape(len(z), -1)[:, :5]),
        Hidden(),
    ],
    ids=["detach", "no_grad", "numpy", "hidden"],
)
@pytest.mark.parametrize("attack", ["pgd", "apgd", "fmn"])
def test_a_model_without_gradients_is_refused_by_what_needs_them(attack, victim, x):
    labels = victim(x).argmax(1)
    says(refusal(attack, victim, x, labels), "needs gradients", "attacks/score/", "remove detach")
    attacks.run(attacks.Square(queries=5), victim, x, labels, "linf:0.1")


# -- threats --


@pytest.mark.parametrize("eps", [-1.0, -1e-300, float("nan"), torch.tensor([0.1, -0.1]), torch.tensor([torch.nan])])
@pytest.mark.parametrize("norm", [attacks.linf, attacks.l2, attacks.l1, attacks.l0])
def test_eps_below_zero_or_nan_is_refused(norm, eps):
    with pytest.raises(InputError, match=r"eps is .*(-|nan).* at least 0"):
        norm(eps)


@pytest.mark.parametrize("eps", ["8/255", None, [0.1, "x"]])
def test_eps_that_is_no_number_is_refused(eps):
    with pytest.raises(InputError, match=re.escape(f"eps is {eps!r}") + ".*must be a number"):
        attacks.linf(eps)


@pytest.mark.parametrize("shape", [(5,), (7,), (1,), (3,), (6, 1), (6, 3, 4, 4)])
@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_eps_of_another_shape_is_refused_whatever_the_batch_size(shape, batch_size, x, labels):
    message = refusal(x=x, goal=labels, threat=attacks.linf(torch.full(shape, 0.1)), batch_size=batch_size)
    says(message, str(shape), "one per example [6]")


@pytest.mark.parametrize("shape", [(5,), (2, 4, 4), (3, 3, 4, 4), (6, 2, 4, 4), (6, 3, 4, 4, 1)])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_a_mask_or_bound_that_does_not_broadcast_is_refused_whatever_the_batch_size(shape, batch_size, x, labels):
    for what, options in {"mask": {"mask": torch.ones(shape)}, "bounds": {"bounds": (0.0, torch.ones(shape))}}.items():
        message = refusal(x=x, goal=labels, threat=attacks.linf(0.1, **options), batch_size=batch_size)
        says(message, what, str(shape), "does not broadcast", str((6, 3, 4, 4)))


@pytest.mark.parametrize("bounds", [(1.0, 0.0), (0.0, float("nan")), (torch.tensor([0.0, 2.0]), 1.0)])
def test_bounds_the_wrong_way_round_are_refused(bounds):
    with pytest.raises(InputError, match="low must not exceed high"):
        attacks.linf(0.1, bounds=bounds)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("linf", ["'linf'", "names no eps", "linf:8/255"]),
        ("linf:", ["'' is not a number", "linf:8/255"]),
        ("linf:abc", ["'abc' is not a number"]),
        ("linf:1/0", ["'1/0' is not a number"]),
        ("linf:8/255/3", ["is not a number"]),
        ("l2:0,5", ["'0,5' is not a number", "l2:0.5"]),
        ("linf:-1", ["eps is -1.0", "at least 0"]),
        ("linf:-8/255", ["at least 0"]),
        ("linf:nan", ["eps is nan", "at least 0"]),
        ("linff:0.1", ["no norm 'linff'", "Did you mean 'linf'", "l2"]),
        ("l3:0.1", ["no norm 'l3'", "Did you mean 'l"]),
        ("8/255", ["no norm '8/255'", "linf"]),
        ("", ["no norm ''", "linf"]),
    ],
)
def test_malformed_text_of_a_threat_is_told_what_is_wrong(text, words, x, labels):
    says(refusal(x=x, goal=labels, threat=text), *words)
    with pytest.raises(InputError):
        ThreatModel.parse(text)


@pytest.mark.parametrize("threat", [8 / 255, None, ("linf", 0.1)])
def test_a_threat_that_is_neither_text_nor_threat_model_is_refused(threat, x, labels):
    says(refusal(x=x, goal=labels, threat=threat), str(threat), "linf:8/255", "attacks.l2(0.5)")


def test_a_norm_by_name_is_told_of_the_functions():
    with pytest.raises(InputError, match=r"'linf'.*attacks\.linf"):
        ThreatModel("linf", 0.1)  # type: ignore[arg-type]


def test_levels_with_inputs_off_the_grid_are_refused(x, labels):
    message = refusal(x=x, goal=labels, threat=attacks.linf(8 / 255, levels=255))
    says(message, "k / 255", "8-bit images", "levels=None")


@pytest.mark.parametrize("options", [{"levels": 0}, {"bounds": (-1.0, 1.0)}, {"bounds": (0.0, torch.ones(3, 1, 1))}])
def test_levels_that_fit_no_grid_are_refused(options):
    with pytest.raises(InputError, match="levels >= 1 and bounds"):
        attacks.linf(0.1, **{"levels": 255, **options})


# -- attacks --


@pytest.mark.parametrize(
    ("name", "near"), [("pgdd", "pgd"), ("auto_pgd", "apgd"), ("squares", "square"), ("APGD", None)]
)
def test_an_unknown_attack_is_told_the_nearest_name(name, near, x, labels):
    message = refusal(name, x=x, goal=labels)
    says(message, f"no attack {name!r}", "Known: fgsm", *([f"Did you mean {near!r}"] if near else []))


def test_an_attack_that_was_not_made_is_told_to_be_called(x, labels):
    for attack in (attacks.APGD, attacks.pgd, object(), None):
        says(refusal(attack, x=x, goal=labels), "attacks.CATALOG", "when it is called")


@pytest.mark.parametrize("make", [attacks.pgd, attacks.fgsm, attacks.APGD, attacks.Square])
def test_an_unknown_loss_is_told_the_nearest_name(make):
    with pytest.raises(InputError, match=r"no loss 'margn'.*Did you mean 'margin'.*dlr"):
        make(loss="margn")


@pytest.mark.parametrize("make", [GradientAscent, attacks.APGD])
def test_an_unknown_start_is_told_the_nearest_name(make):
    with pytest.raises(InputError, match=r"no start 'randm'.*Did you mean 'random'.*input"):
        make(start="randm")


@pytest.mark.parametrize(("name", "near"), [("pgd", "steps"), ("square", "queries"), ("gaussian_noise", "tries")])
def test_an_unknown_option_of_an_attack_is_told_the_nearest(name, near):
    assert attack_named(name, **{near: 3}) == attacks.CATALOG[name](**{near: 3})
    with pytest.raises(InputError, match=rf"no option of {name} '{near}z'.*Did you mean '{near}'.*Known: "):
        attack_named(name, **{f"{near}z": 3})


def test_an_option_of_the_wrong_type_is_refused():
    with pytest.raises(InputError, match=r"pgd cannot be made with .*'steps': 'ten'"):
        attack_named("pgd", steps="ten")


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: attacks.pgd(steps=0), "steps=0"),
        (lambda: attacks.pgd(share=0), "share=0"),
        (lambda: attacks.pgd(share=float("nan")), "share=nan"),
        (lambda: attacks.APGD(steps=0), "steps=0"),
        (lambda: attacks.FMN(steps=0), "steps=0"),
        (lambda: attacks.Square(queries=0), "queries=0"),
        (lambda: attacks.CATALOG["gaussian_noise"](tries=0), "tries=0"),
        (lambda: attacks.Restarts(attacks.pgd(), times=0), "times=0"),
        (lambda: attacks.EachTarget(attacks.pgd(), count=0), "count=0"),
        (lambda: attacks.Cascade(()), "at least one"),
        (lambda: attacks.models.Repeated(classifier(), times=0), "times=0"),
        (lambda: attacks.models.Averaged(), "at least one"),
    ],
)
def test_options_that_would_do_nothing_are_refused(make, word):
    with pytest.raises(InputError, match=word):
        make()


@pytest.mark.parametrize(("attack", "norm"), [("square", "l0"), ("apgd", "l0")])
def test_a_norm_that_an_attack_does_not_know_is_named_with_those_it_knows(attack, norm, x, labels):
    message = refusal(attack, x=x, goal=labels, threat=f"{norm}:2")
    says(message, f"the threat is {norm}", "linf", "l2")


@pytest.mark.parametrize("attack", ["fgsm", "bim", "pgd", "mi_fgsm", "ni_fgsm", "apgd", "apgd_t", "square"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_infinite_eps_and_bounds_are_refused_by_what_steps_by_their_shares(attack, norm, x, labels):
    everywhere = (-torch.inf, torch.inf)
    for eps in (torch.inf, torch.tensor([0.1] * 5 + [torch.inf])):
        threat = ThreatModel(NORMS[norm], eps, everywhere)
        says(refusal(attack, x=x, goal=labels, threat=threat), "eps and the bounds are inf", "fmn")


def test_square_refuses_what_is_no_image(x, labels):
    says(refusal("square", x=x.flatten(1), goal=labels), "[B, C, H, W]", "(6, 48)")


def test_each_target_refuses_a_target(x, labels):
    goal = Goal((labels + 1) % 5, targeted=True)
    message = refusal(attacks.EachTarget(attacks.pgd()), x=x, goal=goal)
    says(message, "EachTarget", "cannot aim at a class", "another attack")


# -- how it is run --


@pytest.mark.parametrize("ids", [torch.arange(5), torch.arange(6)[:, None], torch.arange(6).int(), torch.rand(6)])
def test_ids_that_do_not_fit_are_refused(ids, x, labels):
    says(refusal(x=x, goal=labels, ids=ids), str(ids.dtype), str(tuple(ids.shape)), "int64 [6]", "one per input")


def test_ids_that_are_no_tensor_are_refused(x, labels):
    says(refusal(x=x, goal=labels, ids=list(range(6))), "list", "int64 [6]")


@pytest.mark.parametrize("batch_size", [0, -3])
def test_a_batch_size_below_one_is_refused(batch_size, x, labels):
    says(refusal(x=x, goal=labels, batch_size=batch_size), f"batch_size={batch_size}", "at least one")


@pytest.mark.parametrize("seed", [1.5, "0", None, 2**64])
def test_a_seed_that_is_no_whole_number_of_64_bits_is_refused(seed, x, labels):
    says(refusal(x=x, goal=labels, seed=seed), f"seed={seed!r}", "64 bits")


def test_an_unknown_until_is_told_the_nearest(x, labels):
    says(refusal(x=x, goal=labels, until="smalest"), "'smalest'", "Did you mean 'smallest'", "first")


def test_a_name_like_no_other_gets_the_list_alone():
    assert str(unknown("norm", "qqq", ["linf", "l2"])) == "There is no norm 'qqq'. Known: linf, l2."


def test_an_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)
    assert issubclass(AccessError, InputError)

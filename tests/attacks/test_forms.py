"""Does a cheaper form of a model only ever save time, and never decide?"""

import pytest
import torch
from torch import nn

import attacks
from attacks.models import Normalized
from attacks.passes.forms import Cheap, Form, agrees, fastest_form

FORMS = [Form(fold_batchnorm=True), Form(channels_last=True), Form("bf16", True, fold_batchnorm=True)]


def network() -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(
        *(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()),
        *(nn.Conv2d(12, 12, 3, stride=2), nn.BatchNorm2d(12), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(12 * 9, 4)),
    )
    for module in body:
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]
            module.running_var.uniform_(0.3, 2)  # type: ignore[union-attr]
    return Normalized(body, (0.4, 0.5, 0.6), (0.2, 0.3, 0.2)).eval()


def examples(rows: int = 40):
    x = torch.rand(rows, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return x, network()(x).argmax(1)


def test_a_folded_batchnorm_is_gone_and_leaves_the_logits_as_they_were():
    x, _ = examples()
    net = network()
    folded = Cheap(net, Form(fold_batchnorm=True))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in net.modules()) == 2
    with torch.no_grad():
        torch.testing.assert_close(folded(x), net(x), rtol=0, atol=1e-5)


class Branching(nn.Module):
    """What torch.fx cannot follow round what it can."""

    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, x):
        return self.net(x) if x.sum() > -1 else -self.net(x)


def test_what_can_be_followed_within_a_model_is_folded():
    folded = Cheap(Branching(), Form(fold_batchnorm=True))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    x, _ = examples()
    with torch.no_grad():
        torch.testing.assert_close(folded(x), network()(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("name", ["pgd", "apgd", "square", "deepfool"])
def test_every_success_is_the_models_own(name, form):
    net = network()
    x, labels = examples()
    threat = "l2:inf" if name == "deepfool" else "linf:0.03"
    wanted = attacks.run(name, net, x, labels, threat)
    got = attacks.run(name, attacks.Victim.in_form(net, form), x, labels, threat)
    with torch.no_grad():
        assert ((net(got.x_adv).argmax(1) != labels) == got.fooled).all()
    assert int(got.fooled.sum()) > 0
    if not (name == "deepfool" and form.precision):  # which stops at the boundary, and that is off by what bf16 rounds
        assert (got.fooled == wanted.fooled).double().mean() > 0.9


class Counting(nn.Module):
    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.rows = net, 0

    def forward(self, x):
        self.rows += len(x)
        return self.net(x)


def test_the_queries_are_those_of_both_forms():
    net = Counting(network())
    x, labels = examples()
    victim = attacks.Victim.in_form(net, Form(channels_last=True))
    result = attacks.run("pgd", victim, x, labels, "linf:0.03", compact_below=1.0)
    cheap = victim.searched.net.net
    assert isinstance(cheap, Counting)
    assert net.rows + cheap.rows >= int(result.queries.sum())
    hit = result.fooled & (result.step > 0)
    plain = attacks.run("pgd", net, x, labels, "linf:0.03")
    same = hit & plain.fooled & (plain.step == result.step)
    assert same.any()
    assert torch.equal(result.queries[same], plain.queries[same] + 2)  # clean in the other form, and the success again
    never = ~result.fooled & ~plain.fooled
    assert torch.equal(result.queries[never], plain.queries[never] + 1)


def test_a_budget_holds_in_a_cheaper_form_too():
    x, labels = examples()
    victim = attacks.Victim.in_form(network(), FORMS[2])
    for most in (1, 2, 3, 7):
        result = attacks.run("pgd", victim, x, labels, "linf:0.03", max_queries=most)
        assert int(result.queries.max()) <= most


class Deceiving(nn.Module):
    """In half precision it says otherwise."""

    def __init__(self, wrong: bool):
        super().__init__()
        self.net, self.wrong = network(), wrong

    def forward(self, x):
        logits = self.net(x)
        if x.dtype == torch.float32:
            return logits
        return logits * torch.nan if not self.wrong else logits.roll(1, 1)


@pytest.mark.parametrize("wrong", [False, True], ids=["nan", "other"])
def test_a_form_that_answers_otherwise_is_left_with_a_note(wrong, caplog):
    x, labels = examples()
    net = Deceiving(wrong)
    victim = attacks.Victim(net, precision="bf16")
    got = attacks.run("pgd", victim, x, labels, "linf:0.03", watch=True)
    wanted = attacks.run("pgd", net, x, labels, "linf:0.03")
    assert torch.equal(got.x_adv, wanted.x_adv)
    (note,) = victim.searched.notes
    assert "answers otherwise" in note
    assert note in caplog.text
    assert not victim.searched.form


class Uncopyable(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = network()

    def __deepcopy__(self, memo):
        raise RuntimeError("one of a kind")

    def forward(self, x):
        return self.net(x)


def test_a_model_that_cannot_be_had_in_a_form_is_searched_as_it_is():
    x, labels = examples()
    victim = attacks.Victim(Uncopyable(), channels_last=True)
    got = attacks.run("pgd", victim, x, labels, "linf:0.03")
    assert torch.equal(got.x_adv, attacks.run("pgd", network(), x, labels, "linf:0.03").x_adv)
    assert "one of a kind" in victim.searched.notes[0]


def test_success_in_the_cheaper_form_alone_is_none():
    """The cheaper form leads the search over a boundary that the model does not have."""

    class Split(nn.Module):
        def forward(self, x):
            first = x.flatten(1)[:, :1]
            away = (first - 0.53) * (50.0 if x.dtype != torch.float32 else 10.0) - (
                0 if x.dtype != torch.float32 else 0.6
            )
            return torch.cat((torch.zeros_like(away), away), 1)

    x = torch.full((6, 4), 0.5)
    labels = torch.zeros(6, dtype=torch.int64)
    victim = attacks.Victim(Split(), precision="bf16")
    near = attacks.run("bim", victim, x, labels, "linf:0.05")
    assert not near.fooled.any()
    far = attacks.run("bim", victim, x, labels, "linf:0.1")
    assert far.fooled.all()
    assert (Split()(far.x_adv).argmax(1) == 1).all()


def test_agreement_is_measured_by_the_spread_of_the_logits():
    logits = torch.tensor([[0.0, 10.0], [5.0, 0.0]])
    assert agrees(logits, logits + 0.2)
    assert not agrees(logits, logits + 0.8)
    assert not agrees(logits, logits.roll(1, 1))
    assert not agrees(logits, logits * torch.nan)
    assert agrees(1e-3 * logits, 1e-3 * logits + 1e-4)


def test_the_fastest_form_agrees_and_a_form_that_gains_nothing_is_not_taken(monkeypatch):
    x, _ = examples(16)
    net = Deceiving(wrong=True)
    seconds = {Form("bf16"): 1.0, Form(channels_last=True): 2.0, Form(): 4.0}
    monkeypatch.setattr("attacks.passes.forms._seconds", lambda net, _: seconds[getattr(net, "form", Form())])
    forms = [Form("bf16"), Form(channels_last=True)]
    assert fastest_form(net, x, forms) == Form(channels_last=True)
    seconds[Form()] = 2.05
    assert fastest_form(net, x, forms) == Form()


@pytest.mark.parametrize(
    ("options", "said"),
    [({"precision": "int4"}, "int4"), ({"channels_last": True, "passes": 5}, "randomised")],
)
def test_what_cannot_be_is_refused(options, said):
    with pytest.raises(attacks.InputError, match=said):
        attacks.Victim(network(), **options).form  # noqa: B018

"""Do the modules to put round a model give the logits that they promise, and can they be attacked?"""

import numpy as np
import pytest
import torch
from torch import nn

import attacks
from attacks import InputError
from attacks.models import Averaged, Binary, FromCallable, LogProbabilities, Normalized, Repeated


def linear(classes=4, features=12, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(features, classes)).eval()


@pytest.fixture
def x():
    return torch.rand(5, 3, 2, 2, generator=torch.Generator().manual_seed(1))


def test_normalized_subtracts_and_divides_channel_by_channel(x):
    net = linear()
    mean, std = [0.1, 0.2, 0.3], [0.5, 1.0, 2.0]
    expected = torch.stack([(x[:, c] - mean[c]) / std[c] for c in range(3)], 1)
    torch.testing.assert_close(Normalized(net, mean, std)(x), net(expected))
    assert Normalized(net, mean, std)(x.requires_grad_()).requires_grad
    flat = Normalized(nn.Identity(), mean, std)(torch.ones(2, 3))
    torch.testing.assert_close(flat[0], (1 - torch.tensor(mean)) / torch.tensor(std))


def test_normalized_moves_and_saves_with_its_model():
    model = Normalized(linear(), [0.1, 0.2, 0.3], [1, 1, 1])
    assert {"mean", "std", "model.1.weight"} <= set(model.state_dict())
    assert model.double().mean.dtype == torch.float64


def test_an_attack_on_normalized_moves_inputs_within_the_plain_bounds(x):
    model = Normalized(linear(), [0.5, 0.5, 0.5], [0.25, 0.25, 0.25])
    labels = model(x).argmax(1)
    result = attacks.run("pgd", model, x, labels, "linf:0.3")
    assert result.fooled.any()
    assert ((result.x_adv >= 0) & (result.x_adv <= 1)).all()
    assert (model(result.x_adv).argmax(1) != labels)[result.fooled].all()


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_binary_makes_two_logits_whose_softmax_is_the_sigmoid(shape, x):
    net = linear(classes=1)
    one = net(x).reshape(shape)
    two = Binary(nn.Sequential(net, nn.Flatten(0) if shape == (5,) else nn.Identity()))(x)
    assert two.shape == (5, 2)
    torch.testing.assert_close(two.softmax(1)[:, 1], one.flatten().sigmoid())
    assert torch.equal(two.argmax(1), (one.flatten() > 0).long())


def test_binary_is_attacked_in_both_directions(x):
    net = Binary(linear(classes=1))
    labels = net(x).argmax(1)
    for attack in ("pgd", "apgd", "square", "fmn"):
        result = attacks.run(attack, net, x, labels, "linf:1")
        assert result.fooled.all(), attack


def test_binary_of_one_row_and_one_logit_is_two_logits():
    assert Binary(linear(classes=1))(torch.ones(1, 12)).shape == (1, 2)


def test_binary_round_a_model_with_two_logits_is_refused(x):
    with pytest.raises(InputError, match=r"\(5, 2\).*5 rows.*leave Binary out"):
        Binary(linear(classes=2))(x)


def test_log_probabilities_give_back_the_softmax_they_came_from(x):
    net = linear()
    logits = LogProbabilities(nn.Sequential(net, nn.Softmax(1)))(x)
    torch.testing.assert_close(logits.softmax(1), net(x).softmax(1))
    torch.testing.assert_close(logits, net(x).log_softmax(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_probability_of_zero_has_a_finite_logarithm(dtype):
    logits = LogProbabilities(nn.Identity())(torch.tensor([[1.0, 0.0, 0.0]], dtype=dtype))
    assert logits.dtype == dtype
    assert logits.isfinite().all()
    assert logits.argmax(1).tolist() == [0]


def test_log_probabilities_round_logits_are_noticed(x):
    net = linear()
    labels = net(x).argmax(1)
    with pytest.raises(InputError, match="NaN"):
        attacks.run("pgd", LogProbabilities(net), x, labels, "linf:0.1")


def test_averaged_is_the_mean_of_the_members_probabilities(x):
    members = [linear(seed=seed) for seed in range(3)]
    model = Averaged(*members)
    mean = torch.stack([member(x).softmax(1) for member in members]).mean(0)
    torch.testing.assert_close(model(x).softmax(1), mean)
    torch.testing.assert_close(model(x), mean.log())  # the logits are the logarithm, with no constant beside it
    assert len(list(model.parameters())) == 6  # the members' own


def test_averaged_survives_members_that_are_certain():
    class Certain(nn.Module):
        def forward(self, x):
            return torch.tensor([[1000.0, -1000.0]]).repeat(len(x), 1)

    logits = Averaged(Certain(), Certain())(torch.ones(2, 1))
    assert logits.isfinite().all()
    assert logits.argmax(1).tolist() == [0, 0]


def test_what_fools_averaged_is_judged_by_the_average(x):
    model = Averaged(linear(seed=0), linear(seed=1))
    labels = model(x).argmax(1)
    result = attacks.run("pgd", model, x, labels, "linf:0.5")
    assert result.fooled.any()
    assert (model(result.x_adv).argmax(1) != labels)[result.fooled].all()


def test_repeated_averages_the_logits_of_as_many_passes():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    model = Repeated(Counting(), times=4)
    assert model(torch.ones(2, 3)).tolist() == [[2.5] * 3] * 2  # (1 + 2 + 3 + 4) / 4


def test_repeated_narrows_the_spread_of_a_random_model():
    class Wavering(nn.Module):
        def forward(self, x):
            return x + torch.randn_like(x)

    torch.manual_seed(0)
    once, often = (Repeated(Wavering(), times)(torch.zeros(2000, 2)).std() for times in (1, 25))
    assert once / often == pytest.approx(5, rel=0.1)


def test_repeated_gives_gradients_through_every_pass(x):
    torch.manual_seed(0)
    model = Repeated(nn.Sequential(linear(), nn.Dropout(0.5)), 3)
    labels = model.eval()(x).argmax(1)
    assert attacks.run("pgd", model, x, labels, "linf:0.5").fooled.any()


# -- functions --


WEIGHT = np.random.default_rng(0).normal(size=(4, 12)).astype(np.float32)


def outside(images):
    """A classifier that knows nothing of PyTorch."""
    return images.reshape(len(images), -1) @ WEIGHT.T


@pytest.mark.parametrize("attack", ["square", "uniform_noise", "gaussian_noise"])
@pytest.mark.parametrize("threat", ["linf:0.5", "l2:1.5"])
def test_a_function_is_attacked_by_scores_and_decisions(attack, threat, x):
    model = FromCallable(outside)
    labels = torch.from_numpy(outside(x.numpy()).argmax(1))
    attack = attacks.Square(queries=300) if attack == "square" else attack
    result = attacks.run(attack, model, x, labels, threat)
    assert result.backwards.tolist() == [0] * 5
    fooled = result.fooled.numpy()
    assert attack in ("uniform_noise", "gaussian_noise") or fooled.any()
    assert (outside(result.x_adv.numpy()).argmax(1) != labels.numpy())[fooled].all()


def test_square_finds_the_same_for_a_function_and_for_the_module_it_is(x):
    last = nn.Linear(12, 4, bias=False).double()
    last.load_state_dict({"weight": torch.from_numpy(WEIGHT)})
    module = nn.Sequential(nn.Flatten(), last)
    x = x.double()
    labels = module(x).argmax(1)
    function = FromCallable(lambda images: images.reshape(len(images), -1) @ WEIGHT.astype(np.float64).T)
    one, other = (
        attacks.run(attacks.Square(queries=100), model, x, labels, "linf:0.3") for model in (module, function)
    )
    assert torch.equal(one.queries, other.queries)
    torch.testing.assert_close(one.x_adv, other.x_adv, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_function_is_given_arrays_of_the_inputs_type_and_answers_in_any(dtype):
    given = []

    def function(images):
        given.append((type(images), images.dtype, images.shape))
        return [[1, 0], [0, 1]]  # a list of whole numbers will do

    logits = FromCallable(function)(torch.rand(2, 3, 2, 2, dtype=dtype))
    assert given == [(np.ndarray, np.dtype(str(dtype).removeprefix("torch.")), (2, 3, 2, 2))]
    assert logits.dtype == dtype
    assert logits.tolist() == [[1, 0], [0, 1]]


def test_a_function_may_work_in_place(x):
    def rude(images):
        images -= 0.5
        return outside(images)

    labels = FromCallable(lambda images: outside(images - 0.5))(x).argmax(1)
    before = x.clone()
    attack = attacks.Square(queries=50)
    polite = attacks.run(attack, FromCallable(lambda images: outside(images - 0.5)), x, labels, "linf:0.1")
    assert torch.equal(attacks.run(attack, FromCallable(rude), x, labels, "linf:0.1").x_adv, polite.x_adv)
    assert torch.equal(x, before)


def test_a_function_may_answer_with_arrays_of_any_kind(x):
    def read_only(images):
        scores = outside(images)
        scores.flags.writeable = False
        return scores

    expected = FromCallable(outside)(x)
    assert torch.equal(FromCallable(read_only)(x), expected)
    assert torch.equal(FromCallable(lambda images: outside(images)[:, ::-1][:, ::-1])(x), expected)
    assert torch.equal(FromCallable(lambda images: torch.from_numpy(outside(images)))(x), expected)
    assert torch.equal(FromCallable(lambda images: outside(images)[:, ::-1])(x), expected.flip(1))


def test_a_function_that_gives_class_numbers_is_told_so(x):
    with pytest.raises(InputError, match=r"int64 \(5,\).*class numbers.*\[5, K\].*one-hot"):
        FromCallable(lambda images: outside(images).argmax(1))(x)


def test_one_logit_of_a_function_becomes_two_through_binary(x):
    model = Binary(FromCallable(lambda images: outside(images)[:, 0]))
    labels = model(x).argmax(1)
    assert attacks.run("square", model, x, labels, "linf:1").fooled.all()

"""Is the model of sequences what it says: its likelihoods exact, its samples from them, its oracle SeqGAN's?"""

from pathlib import Path

import numpy as np
import pytest
import torch
from enumerated import EVERY, VOCABULARY, probabilities, tiny
from scipy.stats import chisquare
from torch import nn

from advgan.sequences import oracle
from advgan.sequences.lstm import Lstm
from advgan.sequences.model import check_tokens
from advgan.sequences.sampling import sample
from advgan.sequences.vocabulary import WeightedNll, choose
from attacks import InputError, noise

ORACLE = Path(__file__).parents[3] / "shared" / "data" / "seqgan_oracle.npz"
NAMES = [f"{letter}_{g}" for g in "ifoc" for letter in "WUb"]


def as_file(path: Path, model: Lstm, **changed) -> Path:
    arrays = {"embedding": model.embedding, "W_out": model.out, "b_out": model.out_bias}
    for letter, joined in (("W", model.inputs), ("U", model.recurrent), ("b", model.bias)):
        arrays |= {f"{letter}_{g}": part for g, part in zip("ifoc", joined.chunk(4, -1), strict=True)}
    plain = {name: tensor.detach().numpy() for name, tensor in arrays.items()} | changed
    np.savez(path, allow_pickle=False, **{name: array for name, array in plain.items() if array is not None})
    return path


def test_the_cell_is_torchs_lstm():
    model = tiny(0)
    theirs = nn.LSTM(2, 4, batch_first=True).double()
    keep, forget, show, new = (torch.cat([w.T, u.T], 1) for w, u in zip(*gates(model), strict=True))
    joined = torch.cat([keep, forget, new, show])
    i, f, o, c = model.bias.chunk(4)
    biases = {"bias_ih_l0": torch.cat([i, f, c, o]), "bias_hh_l0": torch.zeros(16)}
    theirs.load_state_dict({"weight_ih_l0": joined[:, :2], "weight_hh_l0": joined[:, 2:], **biases})
    read = torch.cat([torch.zeros(27, 1, dtype=torch.int64), EVERY[:, :-1]], 1)
    hidden, _ = theirs(model.embedding[read])
    torch.testing.assert_close(model.states(EVERY)[0], hidden)


def gates(model: Lstm):
    return model.inputs.chunk(4, 1), model.recurrent.chunk(4, 1)


def test_the_probabilities_of_all_sequences_add_up_to_one():
    model = tiny(1)
    likelihood = model.log_likelihood(EVERY).sum(1).exp()
    assert likelihood.sum().item() == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(likelihood, probabilities(model).detach())


def test_reading_token_by_token_comes_to_the_states_of_the_whole():
    model = tiny(2)
    hidden, memory = model.states(EVERY)
    state = model.begin(len(EVERY))
    for number, column in enumerate(EVERY.unbind(1)):
        torch.testing.assert_close(state, (hidden[:, number], memory[:, number]))
        state = model.read(column, state)


def test_samples_come_as_often_as_the_model_says():
    model = tiny(3)
    drawn = sample(model, 20_000, 3, seed=5)
    counts = np.bincount((drawn @ torch.tensor([9, 3, 1])).numpy(), minlength=27)
    assert chisquare(counts, 20_000 * probabilities(model).detach().numpy()).pvalue > 0.001
    wrong = probabilities(tiny(4)).detach().numpy()
    assert chisquare(counts, 20_000 * wrong).pvalue < 1e-9


def test_a_sequence_depends_on_its_number_and_not_on_its_company():
    model = tiny(3)
    all_of_them = sample(model, 100, 5, seed=7)
    assert torch.equal(sample(model, torch.tensor([93, 4]), 5, seed=7), all_of_them[[93, 4]])
    assert not torch.equal(sample(model, 100, 5, seed=7, draw=1), all_of_them)
    assert not torch.equal(sample(model, 100, 5, seed=8), all_of_them)


@pytest.mark.parametrize("vocabulary", [1, 2, 3, 16, 17, 5000])
def test_a_token_is_where_the_distribution_function_passes_the_number(vocabulary):
    logits = 3 * noise.normal(0, torch.arange(20), 0, (vocabulary,), torch.float64)
    u = noise.uniform(1, torch.arange(20), 0, (50,), torch.float64)
    passed = logits.softmax(1).cumsum(1)
    plain = torch.searchsorted(passed, u * passed[:, -1:], right=True)
    assert torch.equal(choose(logits, u), plain)
    assert torch.equal(choose(logits, u[:, 0]), plain[:, :1])


@pytest.mark.parametrize("vocabulary", [2, 9, 10, 5000])
def test_a_token_without_probability_is_never_chosen(vocabulary):
    ends = torch.tensor([[0.0, 1 - 2**-24, 0.5, 2**-24]])
    for only in {0, 1, vocabulary // 2, vocabulary - 1}:
        logits = torch.full((1, vocabulary), -torch.inf)
        logits[0, only] = -3.0
        assert (choose(logits, ends) == only).all()
    flat = torch.zeros(1, vocabulary)
    assert choose(flat, ends)[0, :2].tolist() == [0, vocabulary - 1]


def test_the_weighted_loss_and_its_gradient_are_those_of_a_full_softmax(monkeypatch):
    monkeypatch.setattr("advgan.sequences.vocabulary.CACHED", 4 * VOCABULARY)  # several blocks, the last one short
    model = tiny(5)
    weights = noise.normal(0, torch.arange(27), 0, (3,), torch.float64)
    loss = model.weighted_nll(EVERY, weights)
    states, tokens = model.states(EVERY)[0].flatten(0, 1), EVERY.flatten()
    plain = -(model.logits(states).log_softmax(1).gather(1, tokens[:, None])[:, 0] * weights.flatten()).sum()
    torch.testing.assert_close(loss, plain)
    parameters = list(model.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(3 * loss, parameters), torch.autograd.grad(3 * plain, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_the_weighted_loss_passes_gradcheck():
    inputs = [noise.normal(0, torch.arange(size), 0, (5,), torch.float64).requires_grad_() for size in (7, 5)]
    bias = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    weights = torch.linspace(-1, 2, 7, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda *each: WeightedNll.apply(*each, torch.arange(7) % 5, weights), (*inputs, bias)
    )


def test_a_temperature_divides_the_logits():
    model = tiny(6)
    hidden = model.states(EVERY)[0]
    torch.testing.assert_close(model.at_temperature(0.5).logits(hidden), 2 * model.logits(hidden))
    assert model.out.requires_grad
    with pytest.raises(InputError, match="above 0"):
        model.at_temperature(0)


def test_a_token_that_is_ruled_out_has_no_probability_and_training_gives_it_none():
    model = tiny(1)
    model.rule_out(1)
    likelihood, without = model.log_likelihood(EVERY).sum(1).exp(), (EVERY != 1).all(1)
    assert likelihood[~without].eq(0).all()
    assert likelihood[without].sum().item() == pytest.approx(1, abs=1e-12)
    opt = torch.optim.Adam(model.parameters(), 0.1)
    model.weighted_nll(EVERY[without], torch.ones(8, 3, dtype=torch.float64)).backward()
    opt.step()
    for each in (model, model.at_temperature(2.0)):
        assert (sample(each, 500, 3, seed=0) != 1).all()
        assert each.log_likelihood(EVERY).sum(1).exp()[~without].eq(0).all()


def test_the_oracle_gives_its_own_samples_the_published_likelihood():
    if not ORACLE.exists():
        pytest.skip("the oracle's file lies in ../shared/data, and is not there")
    model = oracle.load(ORACLE)
    nll = -model.log_likelihood(sample(model, 10_000, 20, seed=0)).mean()
    assert nll.item() == pytest.approx(5.757, abs=0.01)


def test_an_oracle_is_read_as_it_was_written(tmp_path):
    model = oracle.drawn(3, vocabulary=7, embedding=2, hidden=4)
    read = oracle.load(as_file(tmp_path / "oracle.npz", model))
    assert torch.equal(read.log_likelihood(EVERY), model.log_likelihood(EVERY))
    assert not any(parameter.requires_grad for parameter in read.parameters())
    assert not torch.equal(oracle.drawn(4, 7, 2, 4).embedding, model.embedding)


@pytest.mark.parametrize("name", ["embedding", "W_out", "b_out", *NAMES])
def test_an_oracle_of_the_wrong_shapes_is_refused_by_name(tmp_path, name):
    model = oracle.drawn(3, vocabulary=7, embedding=2, hidden=4)
    theirs = as_file(tmp_path / "right.npz", model)
    with np.load(theirs) as arrays:
        right = arrays[name]
    with pytest.raises(InputError, match=f"holds no {name}"):
        oracle.load(as_file(tmp_path / "wrong.npz", model, **{name: None}))
    for wrong in (np.concatenate([right, right]), right[None], right * np.nan):
        with pytest.raises(InputError, match="must be"):
            oracle.load(as_file(tmp_path / "wrong.npz", model, **{name: wrong}))


def test_what_is_no_file_of_arrays_is_refused(tmp_path):
    with pytest.raises(InputError, match="no file"):
        oracle.load(tmp_path / "absent.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(InputError, match=r"not an \.npz file"):
        oracle.load(tmp_path / "broken.npz")
    np.save(tmp_path / "lone.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"not an \.npz file"):
        oracle.load(tmp_path / "lone.npy")
    np.savez(tmp_path / "pickled.npz", embedding=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"not an \.npz file"):
        oracle.load(tmp_path / "pickled.npz")


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (torch.zeros(3, dtype=torch.int64), r"\[n, T\]"),
        (torch.zeros(3, 2), r"float32"),
        (torch.zeros(0, 2, dtype=torch.int64), "no tokens"),
        (torch.tensor([[0, 3]]), "within 0 and 3"),
        (torch.tensor([[-1, 2]]), "within -1 and 2"),
    ],
)
def test_tokens_that_cannot_be_read_are_refused(tokens, said):
    with pytest.raises(InputError, match=said):
        check_tokens(tokens, 3)
    check_tokens(EVERY, 3)

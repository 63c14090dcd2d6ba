"""Is the beginning of a sequence worth what counting out all its continuations says?"""

import pytest
import torch
from enumerated import EVERY, LENGTH, VOCABULARY, probabilities, tiny
from torch import Tensor

from advgan.sequences.memory import Memory
from advgan.sequences.model import Model
from advgan.sequences.rollouts import continued, values
from attacks import noise

MODELS = {"lstm": tiny(3), "memory": Memory.drawn(3, VOCABULARY, 2, slots=2, width=4).double()}
SCORES = noise.normal(9, torch.arange(27), 0, (), torch.float64)
ROWS, COPIES = 5, 4


def score(tokens: Tensor) -> Tensor:
    """Of each of the 27 sequences something else."""
    return SCORES[tokens @ torch.tensor([9, 3, 1])]


def numbers(copies: int, rows: int = ROWS, length: int = LENGTH) -> Tensor:
    return noise.uniform(4, torch.arange(rows), 0, (length - 1, copies, length), torch.float64)


def one_by_one(model: Model, tokens: Tensor, uniform: Tensor) -> Tensor:
    """`continued`, the plain way: one beginning, one sequence and one copy after another."""
    rows, length = tokens.shape
    whole = torch.empty(length - 1, uniform.shape[2], rows, length, dtype=torch.int64)
    for given in range(1, length):
        for copy in range(uniform.shape[2]):
            for row in range(rows):
                state, written = model.begin(1), []
                for t in range(length):
                    u = uniform[row, given - 1, copy, t]
                    token = tokens[row, t] if t < given else model.draw(state[0], u[None])[0]
                    written.append(token)
                    state = model.read(token[None], state)
                whole[given - 1, copy, row] = torch.stack(written)
    return whole


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("length", [2, 3, 6])
def test_all_beginnings_at_once_come_to_what_a_loop_over_them_comes_to(kind, length):
    tokens = (noise.uniform(5, torch.arange(ROWS), 0, (length,)) * VOCABULARY).long()
    uniform = numbers(COPIES, length=length)
    found = continued(MODELS[kind], tokens, uniform)
    assert torch.equal(found, one_by_one(MODELS[kind], tokens, uniform))
    assert (found[..., -1] != tokens[:, -1]).any()


@pytest.mark.parametrize("kind", MODELS)
def test_the_value_of_a_beginning_is_the_mean_score_of_what_it_leads_to(kind):
    model, tokens, copies = MODELS[kind], EVERY[[0, 7, 13, 26]], 4000
    found = values(model, score, tokens, numbers(copies, len(tokens)))
    exact = torch.stack([exact_value(model, tokens, k) for k in (1, 2, 3)], 1)
    assert (found - exact).abs().max() < 4 * SCORES.std() / copies**0.5
    assert torch.equal(found[:, -1], score(tokens))
    assert exact.std(0).min() > 0.1  # the beginnings do differ


def exact_value(model: Model, tokens: Tensor, given: int) -> Tensor:
    shares = probabilities(model).detach()
    like = (EVERY[None, :, :given] == tokens[:, None, :given]).all(2) * shares
    return (like * SCORES).sum(1) / like.sum(1)


def test_a_single_token_is_a_whole_sequence():
    tokens = torch.tensor([[1], [2]])
    found = values(tiny(3), lambda whole: whole[:, 0].double(), tokens, numbers(COPIES, 2, 1))
    assert found.tolist() == [[1.0], [2.0]]

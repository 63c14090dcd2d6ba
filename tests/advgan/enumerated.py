"""All sequences of three tokens and length three: what is measured on samples can be counted out here."""

import itertools

import torch
from torch import Tensor

from advgan.sequences.lstm import Lstm
from advgan.sequences.model import Model

VOCABULARY = LENGTH = 3
EVERY = torch.tensor(list(itertools.product(range(VOCABULARY), repeat=LENGTH)))  # [27, 3]


def tiny(seed: int, deviation: float = 1.0) -> Lstm:
    """In float64, since gradients are compared."""
    return Lstm.drawn(seed, deviation, VOCABULARY, embedding=2, hidden=4).double()


def probabilities(model: Model, tokens: Tensor = EVERY) -> Tensor:
    """[n] of whole sequences [n, T], with gradients: the plain way, one full softmax after another."""
    state, total = model.begin(len(tokens)), 0
    for column in tokens.unbind(1):
        shares = (state[0] @ model.out + model.out_bias).log_softmax(1)
        total = total + shares.gather(1, column[:, None])[:, 0]
        state = model.read(column, state)
    return torch.exp(torch.as_tensor(total))

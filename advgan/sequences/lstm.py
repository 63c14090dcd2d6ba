"""What comes next? An LSTM that has read all tokens so far; oracle and generators alike."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from attacks import noise
from attacks.errors import InputError

from .vocabulary import WeightedNll, drawn, log_softmax_at

State = tuple[Tensor, Tensor]  # (hidden, memory), each [b, h]
GATES = 4  # input, forget, output, and what is new: in this order


class Lstm(nn.Module):
    """p(next token | tokens so far) = softmax(hidden @ out + out_bias); before the first token it reads `start`.

    embedding [V, e]; inputs [e, 4 h], recurrent [h, 4 h] and bias [4 h] of the gates; out [h, V], out_bias [V].
    Tokens are int64 within 0 and V - 1. Whatever is called a state is what has been read before a token is chosen.
    """

    def __init__(self, vocabulary: int, embedding: int = 32, hidden: int = 32, start: int = 0):
        super().__init__()
        self.vocabulary, self.width, self.start = vocabulary, hidden, start
        self.embedding = nn.Parameter(torch.zeros(vocabulary, embedding))
        self.inputs = nn.Parameter(torch.zeros(embedding, GATES * hidden))
        self.recurrent = nn.Parameter(torch.zeros(hidden, GATES * hidden))
        self.bias = nn.Parameter(torch.zeros(GATES * hidden))
        self.out = nn.Parameter(torch.zeros(hidden, vocabulary))
        self.out_bias = nn.Parameter(torch.zeros(vocabulary))

    @classmethod
    def drawn(cls, seed: int, deviation: float, vocabulary: int, embedding: int = 32, hidden: int = 32) -> Lstm:
        """Every weight and bias from N(0, deviation^2). Depends on the seed and the sizes alone."""
        model = cls(vocabulary, embedding, hidden)
        with torch.no_grad():
            for number, parameter in enumerate(model.parameters()):
                values = noise.normal(seed, torch.tensor([number]), 0, tuple(parameter.shape))
                parameter.copy_(deviation * values[0])
        return model

    def cell(self, drive: Tensor, state: State) -> State:
        """drive [b, 4 h]: what the gates get from the token that is read."""
        hidden, memory = state
        gates = torch.addmm(drive, hidden, self.recurrent)
        keep, forget, show = gates[:, : -self.width].sigmoid().chunk(3, 1)
        memory = forget * memory + keep * gates[:, -self.width :].tanh()
        return show * memory.tanh(), memory

    def begin(self, rows: int) -> State:
        """The state before the first token of each row."""
        nothing = self.bias.new_zeros(rows, self.width)
        start = torch.full((rows,), self.start, device=self.bias.device)
        return self.read(start, (nothing, nothing))

    def read(self, tokens: Tensor, state: State) -> State:
        """The state after one more token [b]."""
        return self.cell(torch.addmm(self.bias, self.embedding[tokens], self.inputs), state)

    def states(self, tokens: Tensor) -> State:
        """The states before each of tokens [b, T]: each [b, T, h]."""
        state, states = self.begin(len(tokens)), []
        drives = (self.embedding[tokens[:, :-1]] @ self.inputs + self.bias).unbind(1)
        for drive in drives:
            states.append(state)
            state = self.cell(drive, state)
        states.append(state)
        hidden, memory = (torch.stack(each, 1) for each in zip(*states, strict=True))
        return hidden, memory

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., h] -> [..., V]."""
        return hidden @ self.out + self.out_bias

    def draw(self, hidden: Tensor, uniform: Tensor) -> Tensor:
        """The next tokens of states [b, h], by uniform [b] in [0, 1); by uniform [b, r] r of each, [b, r]."""
        return drawn(hidden, self.out, self.out_bias, uniform)

    def log_likelihood(self, tokens: Tensor) -> Tensor:
        """log p of each of tokens [b, T] given those before it: [b, T], in nats, without gradients."""
        with torch.no_grad():
            hidden, _ = self.states(tokens)
            return log_softmax_at(hidden.flatten(0, 1), self.out, self.out_bias, tokens.flatten()).view_as(tokens)

    def weighted_nll(self, tokens: Tensor, weights: Tensor) -> Tensor:
        """The sum of weights [b, T] times -log p of tokens [b, T]: a scalar to descend. Weights have no gradient."""
        hidden, _ = self.states(tokens)
        return WeightedNll.apply(
            hidden.flatten(0, 1), self.out, self.out_bias, tokens.flatten(), weights.detach().flatten()
        )  # type: ignore[return-value]

    def at_temperature(self, tau: float) -> Lstm:
        """A frozen copy whose logits are divided by tau: below 1 it is surer of itself."""
        if not tau > 0:
            raise InputError(f"A temperature of {tau}. It is above 0.")
        model = deepcopy(self).eval().requires_grad_(False)
        model.out /= tau
        model.out_bias /= tau
        return model


def check_tokens(tokens: Tensor, vocabulary: int) -> None:
    """Raises InputError unless these are sequences [n, T] int64 of the vocabulary."""
    if tokens.ndim != 2 or tokens.dtype != torch.int64:
        raise InputError(f"Sequences are [n, T] int64, and these are {list(tokens.shape)} {tokens.dtype}.")
    if not tokens.numel():
        raise InputError(f"There are no tokens: the sequences are {list(tokens.shape)}.")
    low, high = int(tokens.min()), int(tokens.max())
    if not 0 <= low <= high < vocabulary:
        raise InputError(f"Tokens lie within 0 and {vocabulary - 1}, and these within {low} and {high}.")

"""An LSTM that has read all tokens so far; oracle and generators alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from attacks import noise

from .model import Model, State

GATES = 4  # input, forget, output, and what is new: in this order


class Lstm(Model):
    """A `Model` with inputs [e, 4 h], recurrent [h, 4 h] and bias [4 h] of the gates; its state is (hidden, memory)."""

    kind = "lstm"

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

    def about(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "vocabulary": self.vocabulary,
            "embedding": self.embedding.shape[1],
            "hidden": self.width,
        }

    def nothing(self, rows: int) -> State:
        nothing = self.bias.new_zeros(rows, self.width)
        return nothing, nothing

    def after(self, embedded: Tensor, state: State) -> State:
        return self._cell(torch.addmm(self.bias, embedded, self.inputs), state)

    def states(self, tokens: Tensor) -> State:
        state, states = self.begin(len(tokens)), []
        drives = (self.embedding[tokens[:, :-1]] @ self.inputs + self.bias).unbind(1)  # of all positions at once
        for drive in drives:
            states.append(state)
            state = self._cell(drive, state)
        states.append(state)
        hidden, memory = (torch.stack(each, 1) for each in zip(*states, strict=True))
        return hidden, memory

    def _cell(self, drive: Tensor, state: State) -> State:
        """drive [b, 4 h]: what the gates get from the token that is read."""
        hidden, memory = state
        gates = torch.addmm(drive, hidden, self.recurrent)
        keep, forget, show = gates[:, : -self.width].sigmoid().chunk(3, 1)
        memory = forget * memory + keep * gates[:, -self.width :].tanh()
        return show * memory.tanh(), memory

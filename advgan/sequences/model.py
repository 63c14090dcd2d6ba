"""What comes next? Whatever has read all tokens so far, and gives each token a probability: what all models share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import deepcopy
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from attacks.errors import InputError

from .vocabulary import WeightedNll, drawn, log_softmax_at

NEVER = -1e4  # a logit whose share is 0 in float32 and float64, at any temperature that is of use
State = tuple[Tensor, ...]  # each [b, ...]; the first is the hidden state [b, h]


class Model(nn.Module, ABC):
    """p(next token | tokens so far) = softmax(hidden @ out + out_bias); before the first token it reads `start`.

    embedding [V, e]; out [h, V], out_bias [V]. Tokens are int64 within 0 and V - 1. Whatever is called a state is what
    has been read before a token is chosen.
    """

    kind: ClassVar[str]
    vocabulary: int
    start: int
    embedding: nn.Parameter
    out: nn.Parameter
    out_bias: nn.Parameter

    @abstractmethod
    def nothing(self, rows: int) -> State:
        """The state of rows that have read nothing, not even `start`."""

    @abstractmethod
    def after(self, embedded: Tensor, state: State) -> State:
        """The state after one more token, whose embedding is [b, e]."""

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """JSON-able: what it takes to build one of the same shapes, `kind` among it."""

    def begin(self, rows: int) -> State:
        """The state before the first token of each row."""
        return self.after(self.embedding[self.start].expand(rows, -1), self.nothing(rows))

    def read(self, tokens: Tensor, state: State) -> State:
        """The state after one more token [b]."""
        return self.after(self.embedding[tokens], state)

    def states(self, tokens: Tensor) -> State:
        """The states before each of tokens [b, T]: each [b, T, ...]."""
        states = [self.begin(len(tokens))]
        for embedded in self.embedding[tokens[:, :-1]].unbind(1):
            states.append(self.after(embedded, states[-1]))
        return tuple(torch.stack(each, 1) for each in zip(*states, strict=True))

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., h] -> [..., V]."""
        return hidden @ self.out + self.out_bias

    def draw(self, hidden: Tensor, uniform: Tensor) -> Tensor:
        """The next tokens of states [b, h], by uniform [b] in [0, 1); by uniform [b, r] r of each, [b, r]."""
        return drawn(hidden, self.out, self.out_bias, uniform)

    def log_likelihood(self, tokens: Tensor) -> Tensor:
        """log p of each of tokens [b, T] given those before it: [b, T], in nats, without gradients."""
        with torch.no_grad():
            hidden = self.states(tokens)[0]
            return log_softmax_at(hidden.flatten(0, 1), self.out, self.out_bias, tokens.flatten()).view_as(tokens)

    def weighted_nll(self, tokens: Tensor, weights: Tensor) -> Tensor:
        """The sum of weights [b, T] times -log p of tokens [b, T]: a scalar to descend. Weights have no gradient."""
        hidden = self.states(tokens)[0]
        return WeightedNll.apply(
            hidden.flatten(0, 1), self.out, self.out_bias, tokens.flatten(), weights.detach().flatten()
        )  # type: ignore[return-value]

    def rule_out(self, token: int) -> None:
        """From now on its probability is exactly 0, and training leaves it there: its logit has no gradient."""
        with torch.no_grad():
            self.out_bias[token] = NEVER

    def at_temperature(self, tau: float) -> Self:
        """A frozen copy whose logits are divided by tau: below 1 it is surer of itself."""
        if not tau > 0:
            raise InputError(f"A temperature of {tau}. It is above 0.")
        model = deepcopy(self).eval().requires_grad_(False)
        model.out.div_(tau)
        model.out_bias.div_(tau)
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

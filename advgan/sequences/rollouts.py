"""What is the beginning of a sequence worth? The mean score of whole sequences that the generator makes of it.

All beginnings and all their continuations are written together: one batch per position, which grows as beginnings join.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .model import Model

Score = Callable[[Tensor], Tensor]  # whole sequences [n, T] -> [n]


def continued(generator: Model, tokens: Tensor, uniform: Tensor) -> Tensor:
    """[T - 1, R, b, T] int64: of each beginning of 1 to T - 1 of the tokens [b, T], R whole sequences.

    uniform [b, T - 1, R, T] in [0, 1): by uniform[i, k - 1, r, t] the token at t is drawn where k tokens are given.
    """
    rows, length = tokens.shape
    u = uniform.permute(1, 2, 0, 3)
    copies = u.shape[1]
    whole = tokens.expand(length - 1, copies, rows, length).clone()
    with torch.no_grad():
        given = generator.states(tokens)
        state = tuple(each[:0, 0] for each in given)
        for t in range(1, length):
            joining = tuple(each[:, t] for each in given)
            whole[: t - 1, ..., t] = generator.draw(state[0], u[: t - 1, ..., t].reshape(-1)).view(t - 1, copies, rows)
            whole[t - 1, ..., t] = generator.draw(joining[0], u[t - 1, ..., t].T).T  # one distribution for all R
            if t + 1 < length:
                state = tuple(torch.cat((a, b.repeat(copies, 1))) for a, b in zip(state, joining, strict=True))
                state = generator.read(whole[:t, ..., t].reshape(-1), state)
    return whole


def values(generator: Model, score: Score, tokens: Tensor, uniform: Tensor) -> Tensor:
    """[b, T]: of the tokens [b, T], the value of the first 1, 2, ... T, the last being the score of the whole."""
    rows, length = tokens.shape
    if length == 1:
        return score(tokens)[:, None]
    whole = continued(generator, tokens, uniform)
    scores = score(torch.cat((whole.flatten(0, 2), tokens)))
    means = scores[:-rows].view(whole.shape[:3]).mean(1)
    return torch.cat((means, scores[None, -rows:])).T

"""What is computed over a whole vocabulary, without ever holding [all rows, vocabulary] at once.

On a CPU a few rows at a time: their logits then stay in the cache, which halves the time of a training step.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

CACHED, ON_DEVICE = 2**19, 2**27  # logits held at a time on a CPU, and elsewhere
BELOW_ONE = 1 - 2**-24
BITS = 1 / math.log(2)  # in a nat; exp2 takes a third of the time of exp on a CPU


def blocks(hidden: Tensor, vocabulary: int) -> Iterator[slice]:
    """Slices of the rows of hidden [n, h]."""
    rows = max(1, (CACHED if hidden.is_cpu else ON_DEVICE) // vocabulary)
    yield from (slice(first, first + rows) for first in range(0, len(hidden), rows))


class WeightedNll(torch.autograd.Function):
    """sum of weights [n] times -log softmax(hidden [n, h] @ out [h, V] + bias [V]) at tokens [n]: a scalar.

    Its gradient is found on the way forward, block by block, and only multiplied on the way back; weights have none.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, out: Tensor, bias: Tensor, tokens: Tensor, weights: Tensor) -> Tensor:
        total = hidden.new_zeros(())
        slopes = torch.empty_like(hidden), torch.zeros_like(out), torch.zeros_like(bias)
        for rows in blocks(hidden, len(bias)):
            some, at, weight = hidden[rows], tokens[rows, None], weights[rows, None]
            logits = torch.addmm(bias, some, out, beta=BITS, alpha=BITS)
            behind = logits.sub_(logits.amax(1, keepdim=True))
            at_token = behind.gather(1, at) / BITS
            shares = behind.exp2_()
            mass = shares.sum(1, keepdim=True)
            total += (weight * (mass.log() - at_token)).sum()
            slope = shares.mul_(weight / mass).scatter_add_(1, at, -weight)
            slopes[0][rows] = slope @ out.T
            slopes[1].addmm_(some.T, slope)
            slopes[2].add_(slope.sum(0))
        ctx.save_for_backward(*slopes)
        return total

    @staticmethod
    def backward(ctx: Any, *grad: Tensor):
        return *(grad[0] * slope for slope in ctx.saved_tensors), None, None


def log_softmax_at(hidden: Tensor, out: Tensor, bias: Tensor, tokens: Tensor) -> Tensor:
    """log softmax(hidden [n, h] @ out + bias) at tokens [n]: [n], without gradients."""
    with torch.no_grad():
        parts = []
        for rows in blocks(hidden, len(bias)):
            logits = torch.addmm(bias, hidden[rows], out)
            parts.append(logits.gather(1, tokens[rows, None]).squeeze(1) - logits.logsumexp(1))
        return torch.cat(parts) if parts else hidden.new_zeros(0)


def drawn(hidden: Tensor, out: Tensor, bias: Tensor, uniform: Tensor) -> Tensor:
    """Tokens from softmax(hidden [n, h] @ out + bias), int64: one a row by uniform [n] in [0, 1), or r by [n, r]."""
    with torch.no_grad():
        tokens = torch.empty_like(uniform, dtype=torch.int64)
        room: Tensor | None = None  # made once: to have it from the system costs more than to fill it
        for rows in blocks(hidden, len(bias)):
            some, u = hidden[rows], uniform[rows]
            room = _room(len(some), bias) if room is None else room[: len(some)]
            torch.addmm(bias, some, out, beta=BITS, alpha=BITS, out=room[:, : len(bias)])
            tokens[rows] = _chosen(room, len(bias), u.reshape(len(u), -1)).view_as(u)
        return tokens


def choose(logits: Tensor, uniform: Tensor) -> Tensor:
    """[b, r] int64: the tokens where the distribution function of softmax(logits [b, V]) passes uniform [b, r] or [b].

    uniform is in [0, 1). A token of probability 0 is never chosen.
    """
    room = _room(len(logits), logits)
    room[:, : logits.shape[1]] = logits * BITS
    return _chosen(room, logits.shape[1], uniform.reshape(len(logits), -1))


def _room(rows: int, like: Tensor) -> Tensor:
    """[rows, side * side] of zeros, for logits of the vocabulary that `like` [..., V] has."""
    return like.new_zeros(rows, _side(like.shape[-1]) ** 2)


def _side(vocabulary: int) -> int:
    """Groups of tokens, and tokens in a group: a whole cumulative sum costs as much as exp."""
    return math.isqrt(vocabulary - 1) + 1


def _chosen(room: Tensor, vocabulary: int, u: Tensor) -> Tensor:
    """`choose` of the logits, in bits, at the front of room [b, side * side], where they become shares; then zeros."""
    shares, side = room[:, :vocabulary], _side(vocabulary)
    shares.sub_(shares.amax(1, keepdim=True)).exp2_()
    groups = room.unflatten(1, (side, side))
    passed = groups.sum(2).cumsum(1)
    goal = u * passed[:, -1:]  # below the sum, even rounded
    group = torch.searchsorted(passed, goal, right=True).clamp_max_(side - 1)
    mass = passed.gather(1, group)
    before = torch.where(group > 0, passed.gather(1, (group - 1).clamp_min(0)), 0)
    within = groups.gather(1, group[..., None].expand(-1, -1, side)).cumsum(2)
    # Rounding must not carry it beyond the group's last token of any weight.
    share = ((goal - before) / (mass - before)).clamp(0, BELOW_ONE)
    token = torch.searchsorted(within, share[..., None] * within[..., -1:], right=True).squeeze(2)
    return (group * side + token).clamp_max_(vocabulary - 1)

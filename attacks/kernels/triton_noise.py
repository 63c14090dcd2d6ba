"""Random numbers that depend on (seed, id, draw) alone, in Triton: twins of those in reference.py."""

# ruff: noqa: N803
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAssignmentType=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from .reference import PHILOX_ROUNDS, WORD

BLOCK = 256  # counters, with four words each, by one program


def random_words(seed: int, ids: Tensor, draw: int, count: int) -> Tensor:
    return _launch("words", seed, ids, draw, count, torch.int64)


def uniform(seed: int, ids: Tensor, draw: int, count: int, dtype: torch.dtype) -> Tensor:
    if dtype == torch.float64:
        return _launch("53 bits", seed, ids, draw, count, dtype)
    return _launch("24 bits", seed, ids, draw, count, torch.float32).to(dtype)


def normal(seed: int, ids: Tensor, draw: int, count: int, dtype: torch.dtype) -> Tensor:
    words = random_words(seed, ids, draw, count)
    return torch.special.ndtri((words.double() + 0.5) * 2.0**-32).to(dtype)


def _launch(numbers: str, seed: int, ids: Tensor, draw: int, count: int, dtype: torch.dtype) -> Tensor:
    out = torch.empty(len(ids), count, dtype=dtype, device=ids.device)
    each = 2 if numbers == "53 bits" else 4  # numbers from one counter
    block = min(BLOCK, triton.next_power_of_2(triton.cdiv(count, each)))
    with torch.cuda.device_of(ids):
        _random[(len(ids), triton.cdiv(count, each * block))](
            ids.contiguous(),
            out,
            count,
            draw & WORD,
            seed & WORD,
            (seed >> 32) & WORD,
            NUMBERS=numbers,
            EACH=each,
            ROUNDS=PHILOX_ROUNDS,
            BLOCK=block,
            enable_fp_fusion=False,
        )
    return out


@triton.jit
def philox(c0, c1, c2, c3, k0, k1, ROUNDS: tl.constexpr):
    """Four words from four words of counter and two of key, all uint32 and of one shape."""
    a = tl.full(c0.shape, 0xD2511F53, tl.uint32)
    b = tl.full(c0.shape, 0xCD9E8D57, tl.uint32)
    for _ in tl.static_range(ROUNDS):
        h0, h1 = tl.umulhi(a, c0), tl.umulhi(b, c2)
        l0, l1 = a * c0, b * c2
        c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
        k0 += tl.full(c0.shape, 0x9E3779B9, tl.uint32)
        k1 += tl.full(c0.shape, 0xBB67AE85, tl.uint32)
    return c0, c1, c2, c3


# Triton would compile anew for each kind of number (1, divisible by 16) that a seed or a draw happens to be.
@triton.jit(do_not_specialize=["draw", "seed_low", "seed_high"])
def _random(
    ids, out, count, draw, seed_low, seed_high,
    NUMBERS: tl.constexpr, EACH: tl.constexpr, ROUNDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * BLOCK
    zero = tl.zeros((BLOCK,), tl.uint32)
    block = (first + tl.arange(0, BLOCK)).to(tl.uint32)
    number = tl.load(ids + row)
    w0, w1, w2, w3 = philox(
        block,
        zero + draw.to(tl.uint32),
        zero + number.to(tl.uint32),
        zero + (number >> 32).to(tl.uint32),
        zero + seed_low.to(tl.uint32),
        zero + seed_high.to(tl.uint32),
        ROUNDS,
    )
    if NUMBERS == "53 bits":
        values = tl.interleave(_double(w0, w1), _double(w2, w3))
    else:
        words = tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3))
        values = words.to(tl.int64) if NUMBERS == "words" else (words >> 8).to(tl.float32) * 5.9604644775390625e-08
    column = first * EACH + tl.arange(0, BLOCK * EACH)
    tl.store(out + (row * count + column), values, mask=column < count)


@triton.jit
def _double(high, low):
    """[0, 1) with 27 bits of the one word and 26 of the other."""
    bits = (high >> 5).to(tl.int64) * 67108864 + (low >> 6).to(tl.int64)
    return bits.to(tl.float64) * 1.1102230246251565e-16

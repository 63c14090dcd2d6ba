"""Some rows of many tensors of any types and shapes, in one launch, in Triton: the twin of `take_rows`."""

# ruff: noqa: N803
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportArgumentType=false

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # words at a time


def take_rows(tensors: list[Tensor], rows: Tensor) -> list[Tensor]:
    whole = [tensor.contiguous() for tensor in tensors]
    taken = [torch.empty((len(rows), *each.shape[1:]), dtype=each.dtype, device=each.device) for each in whole]
    if taken and len(rows):
        # From pinned memory, for a copy from other memory waits for the device.
        table = torch.tensor(list(map(_entry, whole, taken)), dtype=torch.int64, pin_memory=rows.is_cuda)
        table = table.to(rows.device, non_blocking=True)
        with torch.cuda.device_of(rows):
            _take_rows[(len(rows), len(whole))](table, rows.contiguous(), BLOCK=BLOCK)
    return taken


def _entry(whole: Tensor, taken: Tensor) -> tuple[int, int, int, int]:
    """Where it lies, where its rows go, how many words a row has, and how many bytes a word has: 4 if that goes."""
    size = whole[0].numel() * whole.element_size()
    word = 1 if size % 4 or whole.data_ptr() % 4 else 4
    return whole.data_ptr(), taken.data_ptr(), size // word, word


@triton.jit
def _copy(whole, taken, words, BLOCK: tl.constexpr):
    for first in range(0, words, BLOCK):
        at = first + tl.arange(0, BLOCK)
        tl.store(taken + at, tl.load(whole + at, mask=at < words), mask=at < words)


@triton.jit
def _take_rows(table, rows, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + place)
    entry = table + 4 * tl.program_id(1).to(tl.int64)
    whole, taken = tl.load(entry), tl.load(entry + 1)
    words, bytes_each = tl.load(entry + 2), tl.load(entry + 3)
    whole += row * words * bytes_each
    taken += place * words * bytes_each
    if bytes_each == 4:
        _copy(whole.to(tl.pointer_type(tl.int32)), taken.to(tl.pointer_type(tl.int32)), words, BLOCK)
    else:
        _copy(whole.to(tl.pointer_type(tl.int8)), taken.to(tl.pointer_type(tl.int8)), words, BLOCK)

"""How many examples fit into memory at a time?"""

from collections.abc import Callable

import torch
from torch import Tensor

from attacks import Access, Victim
from attacks.errors import InputError
from attacks.victim import borrowed

REFUSED = ("can't allocate memory", "not enough memory", "CUDA out of memory")  # what allocators say


class Sizes:
    """Batches of at most so many examples; half as many wherever memory does not do, and from there on."""

    def __init__(self, most: int):
        self.most = most

    def each(self, count: int, do: Callable[[slice], None]) -> None:
        """Do all of `count` examples, batch by batch; what runs out of memory is done again in two halves.

        InputError where not even one fits.
        """
        start = 0
        while start < count:
            size = min(self.most, count - start)
            try:
                do(slice(start, start + size))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    raise InputError(
                        f"Not even one example fits into memory ({_first_line(error)}). Take another --device, "
                        "a smaller --image-size, or end what else uses the memory."
                    ) from error
                self.most = -(-size // 2)
            else:
                start += size
                continue
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # after the except block: the error's traceback held on to the tensors


def found(victim: Victim, x: Tensor, least: int, most: int) -> int:
    """From `least` on doubled up to `most`, as long as a pass over copies of x [1, ...] and back goes well.

    Half of what just went well where memory ended it: an attack holds more than a pass. A victim without gradients is
    not asked, since its queries may be dear: `least`.
    """
    size = min(least, most)
    if victim.access is not Access.GRADIENT:
        return size
    with borrowed(victim.model):
        while size < most:
            twice = min(2 * size, most)
            if not _fits(victim, x.expand(twice, *x.shape[1:])):
                return max(min(least, most), size // 2)
            size = twice
    return size


def _fits(victim: Victim, x: Tensor) -> bool:
    try:
        leaf, logits = victim.differentiable(x.contiguous())
        torch.autograd.grad(logits, leaf, torch.ones_like(logits), allow_unused=True)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


def is_out_of_memory(error: BaseException | None) -> bool:
    if error is None:
        return False
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    told = isinstance(error, RuntimeError) and any(text in str(error) for text in REFUSED)
    return told or is_out_of_memory(error.__cause__)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__

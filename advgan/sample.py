"""What does a trained generator make when it is asked for samples, of one class or of all?"""

import torch
from torch import Tensor

from attacks.errors import InputError

from .run import Run


def sample(run: Run, n: int, labels: Tensor | None = None, seed: int = 0) -> tuple[Tensor, Tensor | None]:
    """n samples [n, ...], images within [0, 1], and their labels [n] int64, None of a run without classes.

    Sample k depends on the seed, k and its label alone. Without labels all classes come in turn.
    Raises InputError for n < 1 and for labels that the generator does not know.
    """
    if n < 1:
        raise InputError(f"{n} samples were asked for; at least one is needed.")
    if labels is None and run.classes is not None:
        labels = torch.arange(n) % run.classes
    return run.sample(n, labels, seed), labels


def labels_of(run: Run, n: int, label: int | None) -> Tensor | None:
    """n times the same label; None for None. Raises InputError for a class that the generator does not know."""
    if label is None:
        return None
    if run.classes is None:
        raise InputError(f"Class {label} was asked for, and this generator was trained without classes. Name none.")
    if not 0 <= label < run.classes:
        raise InputError(f"Class {label} was asked for, and this generator knows 0 to {run.classes - 1}.")
    return torch.full((n,), label)

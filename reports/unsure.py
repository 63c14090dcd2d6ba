"""Where the model does not bear out what an attack claims: why not, and what becomes of the claim?"""

import torch
from torch import Tensor

from attacks import Result, Victim
from attacks.errors import InputError
from attacks.victim import borrowed


def explain(name: str, victim: Victim, x: Tensor, seed: int) -> None:
    """Raises InputError where the model is to blame for a verdict on x [b, ...] that a plain pass does not bear out."""
    with borrowed(victim.model, seed):
        once, again = victim.logits(x), victim.logits(x)
        alone = torch.cat([victim.logits(row[None]) for row in x])
    near = 1e-2 * float(once.max() - once.min())
    if not torch.allclose(once, again, rtol=0, atol=near / 10):
        raise InputError(
            f"The model {name} is random: it answers the same inputs differently (logits differ by up to "
            f"{float((once - again).abs().max()):.3g}). Turn its randomness off in eval mode."
        )
    if not torch.allclose(once, alone, rtol=0, atol=near):
        raise InputError(
            f"The model {name} answers an input differently beside others (logits differ by up to "
            f"{float((once - alone).abs().max()):.3g}): its rows are not independent, as with batch statistics. "
            "Use running statistics in eval mode."
        )


def take_back(result: Result, rows: Tensor, x: Tensor, wrong: Tensor) -> None:
    """These rows [b] bool count as their clean input does."""
    result.x_adv[rows] = x[rows]
    result.fooled[rows] = wrong[rows]
    result.size[rows] = torch.where(wrong[rows], 0.0, torch.inf).to(result.size)
    result.step[rows] = torch.where(wrong[rows], 0, -1)
    result.passes[rows] = torch.where(wrong[rows], result.passes[rows], -1)

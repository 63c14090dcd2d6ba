"""One pass through a model, with a way back to its input or without."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..errors import InputError

NO_GRADIENT = (
    "This attack needs gradients, and the model's logits do not depend on its input through differentiable "
    "operations. Use an attack from attacks/score/ or attacks/decision/, or remove detach, no_grad and numpy."
)

HANDED = (torch.float64, torch.bfloat16, torch.float16)  # a model in one of these is handed its inputs in that type
AT_ONCE = 2**17  # numbers that a CPU is shown in one pass: with more, layers leave its cache and slow down

Forward = Callable[[Tensor], Tensor]  # inputs [b, ...] -> logits [b, K]


def forward_of(model: nn.Module) -> Forward:
    """The model's answers, checked to be logits; one in float64, bfloat16 or float16 is handed its inputs in that type.

    Inputs in float64 are not rounded for a model in float32, whose answers would then be to others: InputError.
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    other = dtype if dtype in HANDED else None

    def forward(x: Tensor) -> Tensor:
        try:
            return _logits(model(x.to(other)), len(x))
        except RuntimeError as error:
            if other is None and x.dtype == torch.float64 and dtype is not None and "type" in str(error):
                raise InputError(
                    f"The inputs are float64 and the model computes in {str(dtype).removeprefix('torch.')} ({error}). "
                    "Give inputs.float(), or attack model.double()."
                ) from error
            raise

    return forward


class Plain:
    """Without a way back. Raises InputError where the model changes its input."""

    def __init__(self, forward: Forward, x: Tensor):
        version = x._version
        with torch.no_grad():
            self.logits = forward(x.detach())
        if x._version != version:
            raise InputError(
                "The model changes its input in place, and the attack still needs it: "
                "work on a copy in forward (x = x - mean instead of x -= mean)."
            )


class Tape:
    """With a way back. Raises InputError where there is none.

    leaf [b, ...]: the input; attached [b, K]: the logits with their graph; logits: without.
    """

    def __init__(self, forward: Forward, x: Tensor):
        with torch.enable_grad():
            self.leaf = x.detach().requires_grad_()
            try:
                self.attached = forward(self.leaf)
            except RuntimeError as error:
                if "Inference tensors cannot be saved for backward" not in str(error):
                    raise
                raise InputError(
                    "This attack needs gradients, and the model holds tensors made under torch.inference_mode(), "
                    "through which none flow. Make or load the model outside it."
                ) from error
        if not self.attached.requires_grad:
            raise InputError(NO_GRADIENT)
        self.logits = self.attached.detach()

    def pull(self, slope: Tensor, keep: bool) -> Tensor:
        """The gradient of sum(slope * logits), its entries that are not finite 0. keep: it may be asked again."""
        slope = slope.to(self.attached.dtype)
        try:
            (grad,) = torch.autograd.grad(self.attached, self.leaf, slope, retain_graph=keep, allow_unused=True)
        except RuntimeError as error:
            if "donated" not in str(error):
                raise
            raise InputError(
                "This attack takes several gradients of one pass, and the compiled model keeps what it needs for one. "
                "Set torch._functorch.config.donated_buffer = False before it is first called."
            ) from error
        if grad is None:  # the graph ends in tensors that the module keeps to itself
            raise InputError(NO_GRADIENT)
        return grad.nan_to_num_(0.0, 0.0, 0.0)


def _logits(output, batch: int) -> Tensor:
    if not isinstance(output, Tensor):
        raise InputError(
            f"The model returns {type(output).__name__}, not a tensor of logits [b, K]. "
            "Wrap it in a module whose forward returns the logits alone."
        )
    if output.shape == (batch,) or output.shape == (batch, 1):
        raise InputError(
            f"The model returns one logit per row {tuple(output.shape)}; attacks need one per class. "
            "Wrap it in attacks.models.Binary."
        )
    if output.ndim != 2 or len(output) != batch or not output.is_floating_point():
        raise InputError(f"The model returns {output.dtype} {tuple(output.shape)}; logits [{batch}, K] are needed.")
    return output

"""A cheaper form of a model to search with: what it claims is asked of the model itself before it counts."""

import contextlib
import copy
import logging
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from ..errors import InputError, unknown
from .tape import Plain, Tape, forward_of

LOG = logging.getLogger("attacks")
PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "tf32": None}
SWITCHES = ("channels_last", "compile", "fold_batchnorm")
AGREES = 0.05  # of the spread of a row's logits: how far the cheaper form may be off, on the mean over the rows
WORTH = 0.95  # of the plain pass's time: a form that takes more is not worth the trouble
HOPELESS = 1.2  # times what the fastest takes: such a form is measured no further


@dataclass(frozen=True)
class Form:
    """precision: "bf16", "fp16" or "tf32" (matrix products of float32 in 19 bits, on CUDA); None leaves it.

    channels_last: images lie in memory with their channels side by side.
    compile: by torch.compile, anew for each batch size.
    fold_batchnorm: each BatchNorm that follows a convolution becomes part of its weights.
    """

    precision: str | None = None
    channels_last: bool = False
    compile: bool = False
    fold_batchnorm: bool = False

    def __post_init__(self):
        if self.precision is not None and self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)

    @classmethod
    def parse(cls, text: str) -> "Form":
        """From text such as "bf16,channels_last,fold_batchnorm"; empty is the model as it is.

        Raises InputError for other words.
        """
        words = [word.strip() for word in text.split(",") if text]
        for word in words:
            if word not in (*PRECISIONS, *SWITCHES):
                raise unknown("form of a model", word, (*PRECISIONS, *SWITCHES))
        named = [word for word in words if word in PRECISIONS]
        if len(named) > 1:
            raise InputError(f"{text} names several precisions: {', '.join(named)}. Name one.")
        return cls(next(iter(named), None), **{word: True for word in words if word in SWITCHES})

    @property
    def text(self) -> str:
        """What `parse` takes; empty for the model as it is."""
        named = [self.precision] if self.precision else []
        return ",".join([*named, *(name for name in SWITCHES if getattr(self, name))])

    @property
    def full(self) -> "Form":
        """The same in full precision, for searches whose last steps are as small as half precision rounds."""
        return replace(self, precision=None if self.precision in ("bf16", "fp16") else self.precision)

    def __bool__(self) -> bool:
        return self != Form()

    def __str__(self) -> str:
        parts = {"channels last": self.channels_last, "compiled": self.compile, "BatchNorm folded": self.fold_batchnorm}
        named = [self.precision] if self.precision else []
        return ", ".join([*named, *(name for name, there in parts.items() if there)]) or "as it is"


ON_CPU = tuple(
    Form(precision, channels_last, fold_batchnorm=True)
    for precision in (None, "bf16")
    for channels_last in (False, True)
)
ON_CUDA = tuple(Form(precision, True, fold_batchnorm=True) for precision in (None, "tf32", "bf16", "fp16"))


class Cheap(nn.Module):
    """The model in another form: a copy, made of the weights that it has now; gives logits in float32."""

    def __init__(self, model: nn.Module, form: Form):
        super().__init__()
        net = copy.deepcopy(model).eval().requires_grad_(False)
        if form.fold_batchnorm:
            net = _folded(net)
        self.dtype = PRECISIONS[form.precision] if form.precision else None
        net = net.to(self.dtype)
        if form.channels_last:
            net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.net = _compiled(net) if form.compile else net
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        if self.form.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with _tensor_float(self.form.precision == "tf32"):
            return self.net(x).float()


def _compiled(net: nn.Module) -> Callable[[Tensor], Tensor]:
    from torch._functorch import config

    compiled = torch.compile(net)
    # The way back may be gone more than once: compiled code must keep what it needs for it.
    return lambda x: config.patch(donated_buffer=False)(compiled)(x)


@contextlib.contextmanager
def _tensor_float(wanted: bool) -> Iterator[None]:
    """Matrix products and convolutions of float32 in TF32."""
    places = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]  # pyright: ignore[reportAttributeAccessIssue]
    try:
        for place in places if wanted else ():
            place.allow_tf32 = True  # pyright: ignore[reportAttributeAccessIssue]
        yield
    finally:
        for place, allowed in zip(places, before, strict=True) if wanted else ():
            place.allow_tf32 = allowed  # pyright: ignore[reportAttributeAccessIssue]


def _folded(net: nn.Module) -> nn.Module:
    """Of a module that torch.fx cannot follow, those within it that it can."""
    try:
        return fuse(net)
    except Exception:  # whatever a model's own code makes of being followed
        for name, child in list(net.named_children()):
            if not isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(net, name, _folded(child))
        return net


def cheap_form(model: nn.Module, form: Form, notes: list[str]) -> Cheap | None:
    """None, with a line in the log and the notes, where the model cannot be had in that form."""
    try:
        return Cheap(model, form)
    except Exception as error:  # a model's own
        notes.append(f"{type(model).__name__} cannot be had {form} ({_first_line(error)}); it is searched as it is.")
        LOG.warning(notes[-1])
        return None


def agrees(logits: Tensor, cheap: Tensor) -> bool:
    """Whether a cheaper form's logits [b, K] are the model's, as far as a search needs it."""
    spread = (logits.amax(1) - logits.amin(1)).clamp_min(torch.finfo(logits.dtype).tiny)
    cheap, logits = cheap.float(), logits.float()
    off = ((cheap - logits).abs().amax(1) / spread).mean()
    return bool(off <= AGREES)  # NaN is not


def fastest_form(model: nn.Module, x: Tensor, forms: Sequence[Form] | None = None, laps: int = 5) -> Form:
    """The form whose passes there and back take the least time on x [b, ...], measured here and now, in turns.

    forms: those that are tried; None: those that commonly gain on the device of x. `Form()`, where none can be had,
    answers as the model does and gains a twentieth.
    """
    forms = forms if forms is not None else ON_CUDA if x.is_cuda else ON_CPU
    wanted = Plain(forward_of(model), x).logits
    nets: dict[Form, nn.Module] = {Form(): model}
    for form in forms:
        net = cheap_form(model, form, [])
        if net is not None and _agrees_at(net, x, wanted):
            nets[form] = net
    times: dict[Form, list[float]] = {form: [] for form in nets}
    running = list(nets)
    for _ in range(laps):
        for form in running:
            times[form].append(_seconds(nets[form], x))
        fastest = min(min(seconds) for seconds in times.values())
        running = [form for form in running if min(times[form]) <= HOPELESS * fastest]
        if len(running) == 1:
            break
    typical = {form: statistics.median(seconds) for form, seconds in times.items()}
    best = min(typical, key=typical.__getitem__)
    return best if typical[best] <= WORTH * typical[Form()] else Form()


def _agrees_at(net: nn.Module, x: Tensor, wanted: Tensor) -> bool:
    try:
        there = agrees(wanted, Plain(forward_of(net), x).logits)
        _seconds(net, x)  # the first pass back sets libraries up
        return there
    except (RuntimeError, InputError):  # torch.OutOfMemoryError among them
        return False


def _seconds(net: nn.Module, x: Tensor) -> float:
    _wait_for(x)
    start = time.perf_counter()
    tape = Tape(forward_of(net), x)
    tape.pull(torch.ones_like(tape.logits), keep=False)
    _wait_for(x)
    return time.perf_counter() - start


def _wait_for(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"

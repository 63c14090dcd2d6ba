"""What a search passes through: the model itself or a cheaper form of it, recorded or not."""

import torch
from torch import Tensor, nn

from .forms import Form, agrees, cheap_form
from .recorded import LOG, Recorder, Replayed
from .tape import AT_ONCE, Plain, Tape, forward_of


class Searched:
    """`form` is empty where it is the model itself; `notes` says what of the wishes was left, and why."""

    def __init__(self, model: nn.Module, form: Form, record: bool):
        self.model, self.record = model, record
        self.notes: list[str] = []
        self.recorder: Recorder | None = None
        self._take(model, form)

    def _take(self, model: nn.Module, form: Form) -> None:
        cheap = cheap_form(model, form, self.notes) if form else None
        self.form = form if cheap is not None else Form()
        self.net = model if cheap is None else cheap
        self.forward = forward_of(self.net)
        self.recorder = None

    def begin(self, x: Tensor, logits: Tensor) -> Tensor:
        """At the start of a run: the logits [b, K] of clean inputs, where the model itself gives these."""
        if self.recorder is not None:
            self.recorder.look_again()
        if not self.form:
            return logits
        cheap = Plain(self.forward, x).logits
        if agrees(logits, cheap):
            return cheap
        self.notes.append(f"{type(self.model).__name__} answers otherwise {self.form}; it is searched as it is.")
        LOG.warning(self.notes[-1])
        self._take(self.model, Form())
        return logits

    def passed(self, x: Tensor, gradient: bool, many: bool) -> Tape | Plain | Replayed:
        """many: x [q b, ...] holds several tries of each row, laid end to end."""
        if self.record and x.is_cuda:
            self.recorder = self.recorder or Recorder(self.net, self.forward, self.notes)
            return self.recorder.passed(x, gradient)
        if gradient:
            return Tape(self.forward, x)
        if many and x.is_cpu:
            return _Joined([Plain(self.forward, part) for part in x.split(max(8, AT_ONCE * len(x) // x.numel()))])
        return Plain(self.forward, x)


class _Joined(Plain):
    def __init__(self, parts: list[Plain]):
        self.logits = torch.cat([part.logits for part in parts])

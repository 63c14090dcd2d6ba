"""A model's passes on a GPU, recorded once for each shape and replayed: to launch them then costs next to nothing.

A recording is held against the model itself once in every run; where it cannot be made, or tells anything else, the
model is asked directly and a line in the log says why.
"""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .tape import Forward, Plain, Tape

LOG = logging.getLogger("attacks")
FIRST = 12  # passes of a shape before it is recorded, which costs some four more: a short run is better off without
MOST = 64  # shapes that are recorded: each keeps its inputs and answers in memory
SAME = 1e-3  # of the largest entry: a pass that was recorded may round otherwise, by no more than this

DIFFERS = "the recording answers otherwise than the model, which is random or changes as it is used"

T = TypeVar("T")
Pool = Any  # what torch calls a memory pool of graphs


@dataclass
class Replayed:
    """A recorded pass, gone through again: good until the next one."""

    logits: Tensor
    of: "Recording"
    turn: int

    def pull(self, slope: Tensor, keep: bool) -> Tensor:
        assert self.turn == self.of.turns.last, "another pass has been made since, in the same memory"
        return self.of.pulled(slope)


@dataclass
class Turns:
    """Recordings of one model share their memory."""

    last: int = 0


class Recording:
    """The passes of one shape: `x` and `slope` are where their inputs are put, `logits` and `grad` what they leave.

    good: it has been held against the model.
    """

    def __init__(self, forward: Forward, x: Tensor, gradient: bool, pool: Pool, turns: Turns):
        self.x, self.turns, self.good = x.detach().clone(), turns, False
        stream = torch.cuda.Stream(x.device)
        stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(stream):
            tape = (Tape if gradient else Plain)(forward, self.x)  # once on this stream, before the recording
            self.slope = torch.ones_like(tape.logits)
            if isinstance(tape, Tape):
                tape.pull(self.slope, keep=False)
            self.forward, tape = _recorded(pool, lambda: (Tape if gradient else Plain)(forward, self.x))
            self.logits = tape.logits
            if isinstance(tape, Tape):
                self.backward, self.grad = _recorded(pool, lambda: tape.pull(self.slope, keep=True))
        torch.cuda.current_stream(x.device).wait_stream(stream)

    def replay(self, x: Tensor) -> Replayed:
        self.x.copy_(x)
        self.turns.last += 1
        self.forward.replay()
        return Replayed(self.logits.clone(), self, self.turns.last)

    def pulled(self, slope: Tensor) -> Tensor:
        self.slope.copy_(slope)
        self.backward.replay()
        return self.grad.clone()


def _recover(device: torch.device) -> None:
    """A recording that fails leaves the random numbers of its device tied to it; one that succeeds frees them."""
    graph, something = torch.cuda.CUDAGraph(), torch.zeros(1, device=device)
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        graph.capture_begin()
        something += 1
        graph.capture_end()


def _recorded(pool: Pool, work: Callable[[], T]) -> tuple[torch.cuda.CUDAGraph, T]:
    graph = torch.cuda.CUDAGraph()
    graph.capture_begin(pool=pool, capture_error_mode="thread_local")
    try:
        made = work()
    except BaseException:
        with contextlib.suppress(RuntimeError):
            graph.capture_end()
        raise
    graph.capture_end()
    return graph, made


class Recorder:
    """All recordings of one model."""

    def __init__(self, model: nn.Module, forward: Forward, notes: list[str]):
        """forward: the model's, as `passes.forward_of` gives it; notes: takes a line where recording is given up."""
        self.model, self.forward, self.notes = model, forward, notes
        self.gave_up = self.checked = False
        self.turns = Turns()
        self.forget()
        if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
            self._give_up("it has hooks, which a recording would not call")

    def forget(self) -> None:
        self.seen: dict[tuple, int] = {}
        self.recordings: dict[tuple, Recording] = {}
        self.pool: Pool | None = None
        self.places = _places(self.model)

    def look_again(self) -> None:
        """At the start of a run: recordings of a model that has moved are dropped, one of others is checked anew."""
        if self.recordings and self.places != _places(self.model):
            self.forget()
        self.checked = False

    def passed(self, x: Tensor, gradient: bool) -> Tape | Plain | Replayed:
        key = (tuple(x.shape), x.dtype, gradient)
        recording = self.recordings.get(key)
        if recording is not None and recording.good:
            return self._replayed(recording, x, gradient)
        tape = (Tape if gradient else Plain)(self.forward, x)
        if not self.gave_up:
            if recording is not None:
                self._check(recording, tape, x)
            elif self.seen.get(key, 0) == FIRST and len(self.recordings) < MOST:
                self._record(key, x, gradient)
            else:
                self.seen[key] = self.seen.get(key, 0) + 1
        return tape

    def _replayed(self, recording: Recording, x: Tensor, gradient: bool) -> Tape | Plain | Replayed:
        again = recording.replay(x)
        if not self.checked:
            if not _alike(again.logits, Plain(self.forward, x).logits):
                self._give_up(DIFFERS)
                return (Tape if gradient else Plain)(self.forward, x)
            self.checked = True
        return again

    def _record(self, key: tuple, x: Tensor, gradient: bool) -> None:
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        try:
            self.recordings[key] = Recording(self.forward, x, gradient, self.pool, self.turns)
        except RuntimeError as error:  # torch.OutOfMemoryError among them
            torch.cuda.empty_cache()
            _recover(x.device)
            self._give_up(str(error).strip().partition("\n")[0])

    def _check(self, recording: Recording, tape: Tape | Plain, x: Tensor) -> None:
        again = recording.replay(x)
        same = _alike(again.logits, tape.logits)
        if same and isinstance(tape, Tape):
            slope = torch.linspace(-1, 1, tape.logits.shape[1], device=x.device).expand_as(tape.logits)
            same = _alike(again.pull(slope, keep=True), tape.pull(slope, keep=True))
        if same:
            recording.good = self.checked = True
        else:
            self._give_up(DIFFERS)

    def _give_up(self, why: str) -> None:
        self.forget()
        self.gave_up = True
        self.notes.append(f"The passes of {type(self.model).__name__} are not recorded: {why}.")
        LOG.warning(self.notes[-1])


def _places(model: nn.Module) -> list[int]:
    return [tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())]


def _alike(these: Tensor, those: Tensor) -> bool:
    """NaN is like NaN."""
    largest = those.nan_to_num(0.0, 0.0, 0.0).abs().max()
    near = (these - those).abs() <= SAME * largest
    return bool((near | (these == those) | (these.isnan() & those.isnan())).all())

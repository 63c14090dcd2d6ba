"""Where does an audit run: in this process, in several on this machine, or on a Ray cluster?

Each engine does the same shards by the same function and hands over the bytes of each; whoever called keeps them.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing.connection import wait as wait_for_any
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from attacks import Attack, Form
from attacks.errors import InputError
from reports import memory
from reports.devices import device_named, placed, threads
from reports.piece import Key
from reports.plan import Plan, usual_batch
from reports.provenance import state_hash
from reports.sources.dataset import Batch, Dataset
from reports.terminal import note
from reports.work import Auditor, Doing

LOSSES = 3  # in a row without a shard finished between them, after which it is no accident

Load = Callable[[], tuple[Mapping[str, nn.Module], Dataset]]


class Span(NamedTuple):
    """A shard: one model, and the examples from `start` on, those before `stop`."""

    number: int
    model: str
    start: int
    stop: int


class Done(NamedTuple):
    """A shard's parquet file, what it took, and who did it."""

    content: bytes
    seconds: dict[Key, float]
    who: str


@dataclass(frozen=True)
class Job:
    """All that decides what comes of a shard, but for the models and the data; it can be sent to another process.

    count: examples in all; shard: examples in a shard; batch_size: None to find it; timeout: seconds, or None.
    hashes: of the models, by name; forms: in which they are searched, where it is not as they are.
    """

    threats: tuple[str, ...]
    attacks: tuple[str | Attack, ...]
    curves: bool
    seed: int
    certify: int
    count: int
    shard: int
    device: str
    batch_size: int | None
    timeout: float | None
    hashes: Mapping[str, str]
    forms: Mapping[str, Form]

    @property
    def spans(self) -> list[Span]:
        starts = range(0, self.count, self.shard)
        pairs = [(start, name) for start in starts for name in self.hashes]
        return [Span(k, name, start, min(start + self.shard, self.count)) for k, (start, name) in enumerate(pairs)]


@dataclass(frozen=True)
class Here:
    """The models and the data in this process."""

    models: Mapping[str, nn.Module]
    data: Dataset
    doing: Doing


class Engine(Protocol):
    def run(self, job: Job, here: Here, todo: Sequence[Span], done: Callable[[Span, Done], None]) -> None:
        """Do the shards in any order, and hand over each. InputError where it cannot be done."""
        ...


class Worker:
    """A replica of the models, which does one shard after the other."""

    def __init__(self, job: Job, here: Here, device: torch.device, who: str = ""):
        plan = Plan.of(job.threats, job.attacks, job.curves, job.seed, job.certify).on(here.data)
        self.job, self.data, self.device, self.who = job, here.data, device, who
        self.auditors = {
            name: Auditor(name, model, plan, job.timeout, here.doing, job.forms.get(name, Form()))
            for name, model in here.models.items()
        }
        self.sizes: dict[str, memory.Sizes] = {}

    def work(self, span: Span, batch: Batch | None = None) -> Done:
        """batch: the shard's examples, where they are at hand."""
        batch = self.data.between(span.start, span.stop) if batch is None else batch
        first = self.data.between(0, min(self.job.count, usual_batch(self.data.shape))) if span.start == 0 else None
        if span.model not in self.sizes:
            self.sizes[span.model] = memory.Sizes(self._size(span.model, batch))
        piece = self.auditors[span.model].shard(batch, self.device, self.sizes[span.model], first)
        return Done(piece.encoded(), piece.seconds, self.who)

    def _size(self, name: str, batch: Batch) -> int:
        """As asked; else the usual, and on a GPU as much more as fits."""
        usual = usual_batch(self.data.shape)
        if self.job.batch_size is not None or self.device.type == "cpu":
            return self.job.batch_size or usual
        return memory.found(self.auditors[name].victim, batch.x[:1].to(self.device), usual, self.job.shard)


@dataclass(frozen=True)
class Local:
    """This machine: this process, or one process for each of several workers.

    workers: None is one for each GPU that the device names, one on the CPU.
    load: gives the models and the data anew in another process, so it must be importable there: a function of a
        module, or functools.partial of one. Needed for more than one worker.
    """

    workers: int | None = None
    load: Load | None = None

    def __post_init__(self):
        if self.workers is not None and self.workers < 1:
            raise InputError(f"--workers is {self.workers}; it must be at least 1.")

    def run(self, job: Job, here: Here, todo: Sequence[Span], done: Callable[[Span, Done], None]) -> None:
        devices = _devices(job.device, self.workers)[: max(1, len(todo))]
        if len(devices) == 1:
            _in_this_process(job, here, device_named(devices[0]), todo, done)
        elif self.load is None:
            raise InputError(f"{len(devices)} workers need `load`, which makes the models and the data in each.")
        else:
            _in_processes(job, self.load, devices, todo, done)


def _devices(device: str, workers: int | None) -> list[str]:
    """The device of each worker."""
    if device != "cuda":
        return [device] * (workers or 1)
    gpus = torch.cuda.device_count()
    return [f"cuda:{k % gpus}" for k in range(workers or gpus)]


def _in_this_process(
    job: Job, here: Here, device: torch.device, todo: Sequence[Span], done: Callable[[Span, Done], None]
) -> None:
    by_start: dict[int, list[Span]] = {}
    for span in todo:
        by_start.setdefault(span.start, []).append(span)
    with placed(here.models, device), threads(here.data.shape):
        worker = Worker(job, here, device)
        for number, batch in enumerate(here.data.batches(job.count, job.shard)):
            for span in by_start.get(number * job.shard, []):
                done(span, worker.work(span, batch))


def _in_processes(
    job: Job, load: Load, devices: list[str], todo: Sequence[Span], done: Callable[[Span, Done], None]
) -> None:
    left, losses = {span.number: span for span in todo}, 0
    while left:
        before = len(left)
        try:
            with _pool(job, load, devices) as pool:
                waiting, flying = iter(list(left.values())), {}
                while left:
                    # One more than there are workers: none of them waits for its next shard, and few are held here.
                    while len(flying) <= len(devices) and (span := next(waiting, None)) is not None:
                        flying[pool.submit(_work, span)] = span
                    for future in wait(flying, return_when=FIRST_COMPLETED).done:
                        span = flying.pop(future)
                        done(span, future.result())
                        del left[span.number]
        except BrokenProcessPool as error:
            losses = losses + 1 if len(left) == before else 1
            if losses == LOSSES:
                raise InputError(
                    f"{losses} times a worker was lost and no shard was finished: it is killed, or crashes. Where "
                    "memory is short, take fewer --workers or a smaller --batch-size."
                ) from error
            note("a worker was lost; what it was at is done again.")


@contextlib.contextmanager
def _pool(job: Job, load: Load, devices: list[str]) -> Iterator[ProcessPoolExecutor]:
    context, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    free = context.SimpleQueue()
    for device in devices:
        free.put(device)
    start = (job, load, free, len(devices))
    pool = ProcessPoolExecutor(len(devices), mp_context=context, initializer=_begin, initargs=start)
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()


_mine: dict[str, Any] = {}  # of a worker's process: how to make its Worker, and the Worker once it is made


def _begin(job: Job, load: Load, free: Any, share: int) -> None:
    """A worker's process begins. What can go wrong waits for the first shard, whose future brings the error home."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us, and ends us
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
    _mine["make"] = lambda: replica(job, load, free.get(), share)


def _die_with(sentinel: int) -> None:
    wait_for_any([sentinel])
    os._exit(1)


def _work(span: Span) -> Done:
    if "worker" not in _mine:
        _mine["worker"] = _mine["make"]()
    return _mine["worker"].work(span)


def replica(job: Job, load: Load, device: str, share: int = 1, who: str = "") -> Worker:
    """A worker in a process of its own. InputError where its models are not those that the audit began with."""
    models, data = load()
    for name, hash_ in job.hashes.items():
        if name not in models or state_hash(models[name]) != hash_:
            raise InputError(
                f"The model {name} is another in a worker: it must be made the same each time, with a seed."
            )
    place = device_named(device)
    for model in models.values():
        model.to(place)
    threads(data.shape, share).__enter__()
    here = Here(models, data, lambda what, examples: None)
    return Worker(replace(job, device=device), here, place, who or f"{os.getpid()}")

"""How does an audit run on a Ray cluster?"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attacks.errors import InputError
from reports.engines import LOSSES, Done, Here, Job, Load, Span, replica
from reports.terminal import note

PATIENCE = 1.0  # seconds between two chances for Ctrl-C


@dataclass(frozen=True)
class OnRay:
    """A Ray cluster: one worker, with its own replica of the models, for each CPU or GPU.

    load: gives the models and the data on a worker's node: their files must be there under the same paths.
    address: of the cluster; None is the one that RAY_ADDRESS names, or one begun on this machine.
    workers: None is as many as the cluster has GPUs, on the CPU as it has CPUs.
    A shard whose worker is lost is given to another, and a new worker begins as soon as there is a place for one. At
    most one shard a worker is on its way, and its bytes come back here: nothing is written by a worker.
    """

    load: Load
    address: str | None = None
    workers: int | None = None

    def run(self, job: Job, here: Here, todo: Sequence[Span], done: Callable[[Span, Done], None]) -> None:
        ray = _ray()
        ours = not ray.is_initialized()
        if ours:
            try:
                ray.init(
                    address=self.address, log_to_driver=False, include_dashboard=False if not self.address else None
                )
            except (ConnectionError, ValueError) as error:
                raise InputError(f"There is no Ray cluster at {self.address} ({error}). See `ray status`.") from error
        try:
            _Run(ray, self, job, todo, done).go()
        finally:
            if ours:
                ray.shutdown()


class _Run:
    def __init__(self, ray: Any, engine: OnRay, job: Job, todo: Sequence[Span], done: Callable[[Span, Done], None]):
        self.ray, self.load, self.job, self.done = ray, engine.load, job, done
        self.left = deque(todo)
        gpus = int(job.device.startswith("cuda"))
        self.make = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_Actor)
        there = int(ray.cluster_resources().get("GPU" if gpus else "CPU", 0))
        self.places = min(engine.workers or max(1, there), len(todo))
        self.beginning: dict[Any, Any] = {}  # what an actor says when it is ready -> the actor
        self.flying: dict[Any, tuple[Any, Span]] = {}
        self.losses = 0

    def go(self) -> None:
        for _ in range(self.places):
            self._begin()
        try:
            while self.left or self.flying:
                ready, _ = self.ray.wait([*self.flying, *self.beginning], num_returns=1, timeout=PATIENCE)
                for each in ready:
                    self._answered(each)
        finally:
            for actor in [*self.beginning.values(), *(actor for actor, _ in self.flying.values())]:
                self.ray.kill(actor)

    def _begin(self) -> None:
        actor = self.make.remote(self.job, self.load, Path.cwd())
        self.beginning[actor.ready.remote()] = actor

    def _answered(self, answer: Any) -> None:
        actor, span = self.flying.pop(answer, (self.beginning.pop(answer, None), None))
        try:
            found = self.ray.get(answer)
        except self.ray.exceptions.RayActorError as error:
            self._lost(span, error)
            return
        except self.ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, InputError) else error) from None
        if span is not None:
            self.losses = 0
            self.done(span, Done(*found))
        if self.left:
            span = self.left.popleft()
            self.flying[actor.work.remote(span)] = actor, span
        else:
            self.ray.kill(actor)

    def _lost(self, span: Span | None, error: Exception) -> None:
        self.losses += 1
        if self.losses == LOSSES * self.places:
            raise InputError(
                f"{self.losses} workers were lost one after the other and no shard was finished ({error})."
            ) from error
        note("a worker was lost; what it was at is done again.")
        if span is not None:
            self.left.appendleft(span)
        self._begin()


class _Actor:
    def __init__(self, job: Job, load: Load, folder: Path):
        self.asked = job, load, folder
        self.worker = None

    def ready(self) -> None:
        """What can go wrong goes wrong here, and is brought home as what it is."""
        job, load, folder = self.asked
        os.chdir(folder)
        device = "cuda:0" if job.device.startswith("cuda") else job.device
        node = os.uname().nodename
        self.worker = replica(job, load, device, who=f"{node}:{os.getpid()}")

    def work(self, span: Span) -> tuple:
        assert self.worker is not None
        return tuple(self.worker.work(span))


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise InputError("--engine ray needs Ray: python -m pip install 'advgan[scale]'.") from error
    return ray

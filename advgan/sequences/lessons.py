"""How does a critic learn to tell fakes? From a pool of both kinds of sequences, some at a time.

A step of SeqGAN's critic is some two hundred small kernels, and there are a million steps: they are captured once, in a
CUDA graph. All that changes from step to step is therefore on the device: the pool, its order and how far it is read.
"""

from collections.abc import Callable
from threading import Lock

import torch
from torch import Tensor
from torch.nn.functional import softplus

from attacks import noise
from attacks.errors import InputError

from ..samples import stream
from ..train import descend
from .critic import Cnn
from .sampling import MASKS, REALS

WARM = 3  # steps that CUDA's libraries take to set themselves up
ONE_AT_A_TIME = Lock()  # captures, of runs in several threads


class Lessons:
    """batch: rows of the pool in a step; keep: the share of the last features that dropout leaves; l2: of `weight`."""

    def __init__(self, critic: Cnn, lr: float, batch: int, keep: float, l2: float, seed: int):
        self.critic, self.batch, self.keep, self.l2, self.seed = critic, batch, keep, l2, seed
        on_cuda = critic.embedding.is_cuda
        self.opt = torch.optim.Adam(critic.parameters(), lr, fused=True, capturable=on_cuda)
        self._desk: _Desk | None = None

    def learn(self, number: int, real: Tensor, fake: Tensor, epochs: int) -> Tensor:
        """So many times through real and fake, both [n, T], shuffled anew each time. Returns the mean loss, a scalar.

        number: of this pool; what happens depends on it, the pool, the critic and the optimiser alone.
        """
        if self._desk is None or len(self._desk.pool) != len(real) + len(fake):
            self._desk = _Desk(len(real) + len(fake), real, self.batch)
        desk = self._desk
        steps = len(desk.pool) // self.batch
        torch.cat((real, fake), out=desk.pool)
        torch.lt(desk.rows, len(real), out=desk.is_real)
        desk.taken.fill_(number * epochs * steps * self.batch)
        desk.loss.zero_()
        for epoch in range(epochs):
            keys = noise.uniform(stream(self.seed, REALS), desk.rows, number * epochs + epoch, (), torch.float64)
            desk.order.copy_(keys.argsort(stable=True))
            for _ in range(steps):
                desk.repeat(self._step)
        return desk.loss / (epochs * steps)

    def _step(self, desk: "_Desk") -> None:
        ids = desk.taken + desk.rows[: self.batch]  # of rows since the run began
        rows = desk.order[ids % (len(desk.pool) // self.batch * self.batch)]
        kept = noise.uniform(stream(self.seed, MASKS), ids, 0, (self.critic.features,)) < self.keep
        scores = self.critic(desk.pool[rows], kept / self.keep)
        wrong = softplus(torch.where(desk.is_real[rows], -scores, scores)).mean()
        descend(self.opt, wrong + self.l2 * self.critic.weight())
        desk.loss += wrong.detach()
        desk.taken += self.batch


class _Desk:
    """What a step works on, always at the same place in memory, and the step itself once it has been captured."""

    def __init__(self, count: int, like: Tensor, batch: int):
        if count < batch:
            raise InputError(f"The critic learns {batch} at a time, and has {count} sequences. Take a smaller batch.")
        self.pool = like.new_empty(count, like.shape[1])
        self.rows = torch.arange(count, device=like.device)
        self.is_real, self.order = torch.empty_like(self.rows, dtype=torch.bool), torch.empty_like(self.rows)
        self.taken = self.rows.new_zeros(())
        self.loss = torch.zeros((), device=like.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._done = 0

    def repeat(self, step: Callable[["_Desk"], None]) -> None:
        """Always the same step."""
        if self._graph is not None:
            self._graph.replay()
            return
        step(self)
        self._done += 1
        if self.pool.is_cuda and self._done == WARM:
            self._graph = torch.cuda.CUDAGraph()
            with ONE_AT_A_TIME, torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                step(self)

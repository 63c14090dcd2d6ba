"""How is a shard made, such that what is said of each row is true of the file that holds it?"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attacks import Goal, Victim
from attacks.errors import InputError
from reports.answers import Answers, clean_logits
from reports.dataset import seen
from reports.dataset.asked import LEVELS, Asked, Run
from reports.dataset.codec import decoded, encoded, whole_levels
from reports.dataset.counts import counted
from reports.dataset.search import Found, aims, search
from reports.dataset.shards import Layout, Shard, blank, files_of, read_shard, typed, write_shard
from reports.sources.dataset import Batch


def on_grid(x: Tensor) -> bool:
    """Whether every input is 8-bit, k / 255 in float32."""
    return bool((x * LEVELS - (x * LEVELS).round()).abs().max() < 1e-3)


@dataclass(frozen=True)
class Maker:
    """tell: called with what is being done, and how many examples are done with since."""

    folder: Path
    layout: Layout
    asked: Asked
    name: str  # of the model
    victim: Victim
    place: torch.device
    tell: Callable[[str, int], None]

    def made(self, batch: Batch) -> tuple[Shard, dict[str, dict[str, int]]]:
        """All runs on the examples of a shard; and each run's counts."""
        on = Batch(*(tensor.to(self.place) for tensor in batch))
        if self.asked.levels and not on_grid(batch.x):
            raise InputError(
                f"Some inputs from example {int(batch.ids[0])} on are not 8-bit (each k / 255), the first are. "
                "Take --format npz --encoding float32."
            )
        logits = torch.cat([self._logits(on, at) for at in range(0, len(on.x), self.asked.batch_size)])
        clean = Answers.of(logits, on.labels).prediction.cpu()
        goal, can = aims(self.asked, on, logits)
        at = can.nonzero().squeeze(1)
        goal, on, batch = goal.keep(at), Batch(*(tensor[at] for tensor in on)), Batch(*(t[at.cpu()] for t in batch))
        pieces, told = [], {}
        for run in self.asked.runs:
            what = f"{run.attack}, {run.threat}"
            self.tell(what, 0)
            found = search(run, self.asked, self.victim, on, goal, lambda n, what=what: self.tell(what, n))
            piece = self._piece(run, batch, clean[at.cpu()], goal, found)
            kept = self._kept_rows(piece.rows)
            told[run.name] = counted(piece.rows, kept) | {"found": int((found.fooled & ~found.already).sum())}
            pieces.append(_rows_of(piece, np.flatnonzero(kept)))
            self.tell(what, int((~can).sum()))
        return _joined(pieces), told

    def _logits(self, on: Batch, first: int) -> Tensor:
        part = slice(first, first + self.asked.batch_size)
        return clean_logits(self.name, self.victim, on.x[part], on.labels[part], self.asked.seed)

    def _piece(self, run: Run, batch: Batch, clean: Tensor, goal: Goal, found: Found) -> Shard:
        """One run's rows, as the inputs will be read from their files."""
        rows = blank(len(batch.x))
        rows["id"], rows["label"], rows["clean_prediction"] = batch.ids.numpy(), batch.labels.numpy(), clean.numpy()
        rows["threat"], rows["attack"] = run.threat, run.attack
        rows["target"] = goal.labels.cpu().numpy() if goal.targeted else -1
        for name in ("mended", "queries", "backwards"):
            rows[name] = getattr(found, name).cpu().numpy()
        already, fooled, lost = (each.cpu().numpy() for each in (found.already, found.fooled, found.lost))
        x = self._stored(found.x_adv.cpu().numpy())
        said = self._look(self._decoded(x), rows, batch.x, run)
        rows["outcome"] = np.select(
            [already, fooled & said.reached, fooled | lost], ["already", "fooled", "lost"], "stands"
        )
        for name in ("prediction", "margin", "size", "inside"):
            rows[name] = getattr(said, name)
        rows["verified"] = seen.borne_out(rows, said)
        return Shard(typed(rows), x, self._stored(batch.x.numpy()) if self.asked.pairs else None)

    def _stored(self, x: np.ndarray) -> np.ndarray:
        return whole_levels(x) if self.asked.levels else x.astype(np.float32)

    def _decoded(self, x: np.ndarray) -> np.ndarray:
        """What a lossy file gives back of x; x itself where files lose nothing."""
        if self.layout.encoding != "jpeg" or len(x) == 0:
            return x
        return np.stack([decoded(encoded(one, "jpeg"), self.layout.shape, "an image just written") for one in x])

    def _look(self, x: np.ndarray, rows: pd.DataFrame, clean: Tensor, run: Run) -> seen.Seen:
        levels = self.asked.levels
        return seen.look(self.victim, x, rows, clean, run.model, levels, self.place, self.asked.seed)

    def _kept_rows(self, rows: pd.DataFrame) -> np.ndarray:
        return (rows.outcome == "fooled").to_numpy() if self.asked.successes else np.ones(len(rows), bool)

    def written(self, number: int, shard: Shard, batch: Batch) -> tuple[pd.DataFrame, list[str]]:
        """The rows on disk, verified by reading their files back and showing them to the model; and the files."""
        files = write_shard(self.folder, number, shard, self.layout)
        back = read_shard(self.folder, number, self.layout)
        clean = batch.x[torch.tensor(back.rows.id.to_numpy() - int(batch.ids[0]))]
        true = np.zeros(len(back.rows), bool)
        for run in self.asked.runs:
            at = np.flatnonzero((back.rows.threat == run.threat) & (back.rows.attack == run.attack))
            part = back.rows.iloc[at]
            true[at] = seen.borne_out(part, self._look(back.x[at], part, clean[at], run))
        rows = shard.rows.assign(verified=true)
        if not rows.equals(back.rows):
            files = write_shard(self.folder, number, Shard(rows, shard.x, shard.clean), self.layout)
        if not rows.equals(read_shard(self.folder, number, self.layout).rows):
            raise InputError(f"{self.folder / files_of(number, self.layout)} does not hold what was written to it.")
        return rows, files


def _rows_of(shard: Shard, at: np.ndarray) -> Shard:
    clean = None if shard.clean is None else shard.clean[at]
    return Shard(shard.rows.iloc[at].reset_index(drop=True), shard.x[at], clean)


def _joined(pieces: list[Shard]) -> Shard:
    """The rows of several runs, example by example."""
    rows = pd.concat([piece.rows for piece in pieces], ignore_index=True)
    order = np.argsort(rows.id.to_numpy(), kind="stable")
    clean = None if pieces[0].clean is None else np.concatenate([p.clean for p in pieces if p.clean is not None])
    whole = Shard(rows, np.concatenate([piece.x for piece in pieces]), clean)
    return _rows_of(whole, order)

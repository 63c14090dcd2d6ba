"""How is a data set made, shard by shard, such that what is said of each row is true of the file that holds it?"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from advgan.checkpoint import write, write_json
from attacks import Goal, Victim
from attacks.errors import InputError
from reports.answers import Answers, clean_logits
from reports.dataset import card, seen
from reports.dataset.asked import LEVELS, Asked, Run
from reports.dataset.codec import decoded, encoded, whole_levels
from reports.dataset.counts import Counts, counted
from reports.dataset.manifest import FILE, FORMAT, TIMINGS, Manifest, layout_told
from reports.dataset.progress import begin, end, is_whole, keeping_what_is_finished, read_receipt, write_receipt
from reports.dataset.search import Found, aims, search
from reports.dataset.shards import Layout, Shard, blank, files_of, metadata, read_rows, read_shard, typed, write_shard
from reports.devices import device_named, placed, threads
from reports.provenance import DataHash, state_hash, versions
from reports.resume import has, sha256
from reports.sources.dataset import Batch, Dataset
from reports.sources.told import victim_of

WRITERS = ("pillow", "pyarrow")  # on which the bytes depend, too

Progress = Callable[[int, int, str], None]  # (done, of how many, what is being done)


def make(
    name: str,
    model: nn.Module,
    data: Dataset,
    asked: Asked,
    out: Path | str,
    *,
    examples: int | None = None,
    device: str = "cpu",
    licence: str = "not stated",
    progress: Progress | None = None,
    configuration: dict[str, Any] | None = None,
) -> Manifest:
    """Attack the first `examples` of the data and write them to `out`, or go on where that was stopped.

    name: of the model, which gives logits [b, K] for inputs within [0, 1]; it is left as it was.
    progress: called with (done, of how many, what is being done).
    configuration: more for the manifest to say, such as the texts that model and data were named by.
    A set that is there already, whole and made as asked, is left as it is.

    Raises InputError where the input cannot be used, and where the folder holds something else or was begun otherwise;
    shards that are finished stay, and the same call goes on after them.
    """
    folder, place = Path(out), device_named(device)
    count = min(examples or len(data), len(data))
    first = next(data.batches(min(count, asked.shard), asked.shard))
    asked = asked.settled(data.shape, on_grid(first.x))
    with placed({name: model}, place), threads(data.shape), keeping_what_is_finished(folder):
        logits = clean_logits(name, victim_of(model), first.x[:1].to(place), first.labels[:1].to(place), asked.seed)
        classes = [*data.classes, *(str(k) for k in range(len(data.classes), logits.shape[1]))]
        names = {(run.threat, run.attack): run.name for run in asked.runs}
        layout = Layout(asked.format, str(asked.encoding), data.shape, classes, names, asked.pairs)
        told = {
            "model": name,
            "data": data.name,
            "examples": examples,
            **asked.described(),
            "licence": licence,
            "device": device,
            **(configuration or {}),
        }
        fixed = {
            "configuration": told,
            "versions": versions() | {name: version(name) for name in WRITERS},
            "model": {
                "name": name,
                "sha256": state_hash(model),
                "parameters": sum(p.numel() for p in model.parameters()),
            },
        }
        if is_whole(folder, fixed):
            return Manifest.load(folder)
        begin(folder, fixed)
        job = _Job(folder, layout, asked, name, victim_of(model), place, count, progress)
        job.go(data)
        return job.finish(fixed, data, licence)


def on_grid(x: Tensor) -> bool:
    """Whether every input is 8-bit, k / 255 in float32."""
    return bool((x * LEVELS - (x * LEVELS).round()).abs().max() < 1e-3)


@dataclass
class _Job:
    folder: Path
    layout: Layout
    asked: Asked
    name: str
    victim: Victim
    place: torch.device
    count: int  # examples
    progress: Progress | None
    done: int = 0  # examples, times runs

    @property
    def shards(self) -> int:
        return -(-self.count // self.asked.shard)

    def go(self, data: Dataset) -> None:
        self.hash, each = DataHash(), len(self.asked.runs)
        for number, batch in enumerate(data.batches(self.count, self.asked.shard)):
            self.hash.add(batch)
            if self._kept(number, batch):
                self.done += each * len(batch.x)
                self._tell(f"shard {number + 1} of {self.shards} is there")
                continue
            start = time.perf_counter()
            shard, told = self._made(batch)
            rows, files = self._written(number, shard, batch)
            for name, part in self._by_run(rows):
                told[name]["unverified"] = int((~part.verified).sum())
            receipt = {
                "data": DataHash.of(batch),
                "rows": len(rows),
                "counts": told,
                "files": {name: sha256(self.folder / name) for name in files},
                "seconds": round(time.perf_counter() - start, 3),
            }
            write_receipt(self.folder, number, receipt)

    def _kept(self, number: int, batch: Batch) -> bool:
        """Whether the shard was finished before; one whose files have changed since is made anew."""
        receipt = read_receipt(self.folder, number)
        if receipt is None:
            return False
        if receipt["data"] != DataHash.of(batch):
            raise InputError(
                f"{self.folder} was begun with other data: shard {number} saw other examples under the same name. "
                "Name another --out, or bring the data back."
            )
        return all(has(self.folder / name, hash_) for name, hash_ in receipt["files"].items())

    def _made(self, batch: Batch) -> tuple[Shard, dict[str, dict[str, int]]]:
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
            self._tell(what)
            found = search(run, self.asked, self.victim, on, goal, lambda n, what=what: self._tell(what, n))
            piece = self._piece(run, batch, clean[at.cpu()], goal, found)
            kept = self._kept_rows(piece.rows)
            told[run.name] = counted(piece.rows, kept) | {"found": int((found.fooled & ~found.already).sum())}
            pieces.append(_rows_of(piece, np.flatnonzero(kept)))
            self._tell(what, int((~can).sum()))
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

    def _written(self, number: int, shard: Shard, batch: Batch) -> tuple[pd.DataFrame, list[str]]:
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

    def _by_run(self, rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
        for run in self.asked.runs:
            yield run.name, rows.loc[(rows.threat == run.threat) & (rows.attack == run.attack)]

    def finish(self, fixed: dict[str, Any], data: Dataset, licence: str) -> Manifest:
        """Everything that is said of the set as a whole; manifest.json last."""
        receipts = [read_receipt(self.folder, number) or {} for number in range(self.shards)]
        counts = Counts()
        for number, receipt in enumerate(receipts):
            for name, rows in self._by_run(read_rows(self.folder, number, self.layout)):
                counts.add(name, rows, receipt["counts"][name])
        files = {name: hash_ for receipt in receipts for name, hash_ in receipt["files"].items()}
        about = {
            "format": FORMAT,
            **fixed,
            "data": {
                "name": data.name,
                "examples": self.count,
                "shape": list(data.shape),
                "classes": self.layout.classes,
                "sha256": self.hash.hexdigest(),
                "licence": licence,
            },
            "runs": [
                {"name": run.name, "threat": run.threat, "attack": run.attack, **counts.of(run.name)}
                for run in self.asked.runs
            ],
            "layout": layout_told(self.layout),
            "shards": [receipt["rows"] for receipt in receipts],
        }
        files |= self._whole_set(about, data)
        write_json(self.folder / TIMINGS, {"seconds": [receipt["seconds"] for receipt in receipts]})
        write_json(self.folder / FILE, about | {"files": dict(sorted(files.items()))})
        end(self.folder)
        return Manifest.load(self.folder)

    def _whole_set(self, about: dict[str, Any], data: Dataset) -> dict[str, str]:
        """The files that tell of the whole set: their hashes."""
        names = ["README.md"]
        if self.layout.format == "imagefolder":
            names.append("images/metadata.csv")
            write(self.folder / names[-1], b"".join(metadata(self.folder, self.shards, self.layout)))
        sheet = card.contact_sheet(self.folder, self.shards, self.layout, data)
        if sheet is not None:
            names.append(card.SHEET)
            write(self.folder / card.SHEET, sheet)
        write(self.folder / "README.md", card.card(about, sheet is not None).encode())
        return {name: sha256(self.folder / name) for name in names}

    def _tell(self, what: str, more: int = 0) -> None:
        self.done += more
        if self.progress is not None:
            self.progress(self.done, self.count * len(self.asked.runs), what)


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

"""How is a data set made, shard by shard, and gone on with where that was stopped?"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from advgan.checkpoint import write, write_json
from attacks.errors import InputError
from reports.answers import clean_logits
from reports.dataset import card
from reports.dataset.asked import Asked
from reports.dataset.counts import Counts
from reports.dataset.maker import Maker, on_grid
from reports.dataset.manifest import FILE, FORMAT, TIMINGS, Manifest, layout_told
from reports.dataset.progress import begin, end, is_whole, keeping_what_is_finished, read_receipt, write_receipt
from reports.dataset.shards import Layout, metadata, read_rows
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
        job = _Job(folder, layout, asked, count, progress)
        job.go(data, Maker(folder, layout, asked, name, victim_of(model), place, job.tell))
        return job.finish(fixed, data, licence)


@dataclass
class _Job:
    folder: Path
    layout: Layout
    asked: Asked
    count: int  # examples
    progress: Progress | None
    done: int = 0  # examples, times runs

    @property
    def shards(self) -> int:
        return -(-self.count // self.asked.shard)

    def go(self, data: Dataset, maker: Maker) -> None:
        self.hash, each = DataHash(), len(self.asked.runs)
        for number, batch in enumerate(data.batches(self.count, self.asked.shard)):
            self.hash.add(batch)
            if self._kept(number, batch):
                self.done += each * len(batch.x)
                self.tell(f"shard {number + 1} of {self.shards} is there")
                continue
            start = time.perf_counter()
            shard, told = maker.made(batch)
            rows, files = maker.written(number, shard, batch)
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

    def tell(self, what: str, more: int = 0) -> None:
        self.done += more
        if self.progress is not None:
            self.progress(self.done, self.count * len(self.asked.runs), what)

"""Is a data set still what it says it is? Hashes, files, the grid, the ball and every row's claim, one by one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from attacks import ThreatModel, Victim
from attacks.errors import InputError
from reports.dataset import seen
from reports.dataset.asked import LEVELS
from reports.dataset.manifest import Manifest
from reports.dataset.shards import Shard, files_of, keys, read_shard
from reports.devices import device_named, placed
from reports.provenance import DataHash, state_hash
from reports.resume import sha256
from reports.sources.dataset import Batch, Dataset, unit_floats
from reports.sources.told import victim_of

CLOSE = 1e-9  # between a size as it is told and as it is measured again


@dataclass(frozen=True)
class Problem:
    where: str  # a file, or a row's name in it
    what: str


@dataclass
class Verified:
    rows: int = 0
    fooled: int = 0
    checked: dict[str, str] = field(default_factory=dict)  # what was checked -> against what, or why not
    problems: list[Problem] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.problems


def verify(
    folder: Path | str,
    model: nn.Module | None = None,
    data: Dataset | None = None,
    *,
    device: str = "cpu",
    progress: Callable[[int, int, str], None] | None = None,
) -> Verified:
    """Checks a finished set; what fails is listed, row by row.

    model: the one that the set was made with, or another: its hash is compared, and each row's claim put to it.
    data: the source, for the ball where the set holds no clean inputs.
    Without them the claims or the ball are not checked, and `checked` says so.
    Raises InputError where there is no finished set, or one of another format; of a damaged one the damage is listed.
    """
    manifest, place = Manifest.load(folder), device_named(device)
    out = Verified()
    _check_files(manifest, out)
    if model is not None and state_hash(model) != manifest.about["model"]["sha256"]:
        out.problems.append(Problem("model", "its weights are not those that the set was made with"))
    trusted = manifest.layout.pairs and manifest.layout.encoding != "jpeg"
    clean = _Clean(manifest, data)
    against = "the clean inputs in the set" if trusted else f"{data.name}" if data is not None else ""
    out.checked["ball"] = against or "not checked: it takes the source, --data, or a set made with --pairs"
    out.checked["claims"] = "the model" if model is not None else "not checked: it takes the model, --model"
    out.checked["grid"] = "k / 255" if manifest.layout.encoding != "float32" else "not on one: float32"
    models = {"": model} if model is not None else {}
    with placed(models, place):
        victim = None if model is None else victim_of(model)
        for number, told in enumerate(manifest.rows_in):
            if progress is not None:
                progress(number, len(manifest.rows_in), f"shard {number + 1}")
            shard = _read(manifest, number, told, out)
            if shard is not None:
                source = clean.of(shard, number)
                against = torch.from_numpy(unit_floats(shard.clean)) if trusted and shard.clean is not None else source
                _check_rows(manifest, shard, against, victim, place, out)
                if trusted and source is not None:
                    _check_pairs(manifest, shard, source, out)
    if data is not None:
        clean.check_hash(out)
    return out


def _check_files(manifest: Manifest, out: Verified) -> None:
    for name, hash_ in manifest.about["files"].items():
        path = manifest.folder / name
        if not path.resolve().is_relative_to(manifest.folder.resolve()):
            out.problems.append(Problem(name, "lies outside the set's folder"))
        elif not path.is_file():
            out.problems.append(Problem(name, "is missing"))
        elif sha256(path) != hash_:
            out.problems.append(Problem(name, "has changed: its sha256 is not the manifest's"))
    out.checked["files"] = f"sha256 of {len(manifest.about['files'])}"


def _read(manifest: Manifest, number: int, told: int, out: Verified) -> Shard | None:
    where = files_of(number, manifest.layout)
    try:
        shard = read_shard(manifest.folder, number, manifest.layout)
    except InputError as error:
        out.problems.append(Problem(where, str(error)))
        return None
    if len(shard.rows) != told:
        out.problems.append(Problem(where, f"has {len(shard.rows)} rows, the manifest says {told}"))
    unknown = set(zip(shard.rows.threat, shard.rows.attack, strict=True)) - set(manifest.layout.names)
    if unknown:
        out.problems.append(Problem(where, "has rows of runs that the manifest does not name"))
        return None
    out.rows += len(shard.rows)
    out.fooled += int((shard.rows.outcome == "fooled").sum())
    return shard


def _check_rows(
    manifest: Manifest, shard: Shard, clean: Tensor | None, victim: Victim | None, place: torch.device, out: Verified
) -> None:
    levels = LEVELS if manifest.layout.encoding != "float32" else None
    for threat, attack in manifest.layout.names:
        at = np.flatnonzero((shard.rows.threat == threat) & (shard.rows.attack == attack))
        rows = shard.rows.iloc[at]
        around = None if clean is None else clean[at]
        model = ThreatModel.parse(threat)
        try:
            said = seen.look(victim, shard.x[at], rows, around, model, levels, place, 0)
        except InputError:
            raise
        except Exception as error:  # whatever the model's own code raises
            why = str(error).strip().split("\n")[0]
            raise InputError(
                f"The model does not fit {list(manifest.layout.shape)}, the set's inputs: {why}"
            ) from error
        for key, why in _failures(keys(rows, manifest.layout), rows, said):
            out.problems.append(Problem(key, why))


def _failures(names: list[str], rows: pd.DataFrame, said: seen.Seen) -> Iterator[tuple[str, str]]:
    """What of each row that claims to be verified is not so."""
    claims = rows.outcome.isin(seen.REACHED).to_numpy()
    sizes, verified = rows["size"].to_numpy(), rows.verified.to_numpy()
    for k, name in enumerate(names):
        if not verified[k]:
            continue
        if not said.inside[k]:
            yield name, f"lies outside the ball or the bounds: size {said.size[k]:.6g}"
        elif abs(said.size[k] - sizes[k]) > CLOSE:
            yield name, f"is of size {said.size[k]:.6g}, and says {sizes[k]:.6g}"
        if said.reached[k] != claims[k]:
            yield name, f"{'no longer fools' if claims[k] else 'fools'} the model: outcome {rows.outcome.iloc[k]}"
        elif said.prediction[k] != rows.prediction.iloc[k]:
            yield name, f"is taken for class {said.prediction[k]}, and says {rows.prediction.iloc[k]}"


def _check_pairs(manifest: Manifest, shard: Shard, source: Tensor, out: Verified) -> None:
    differ = (torch.from_numpy(unit_floats(shard.clean)) != source).flatten(1).any(1).numpy()  # type: ignore[arg-type]
    for key in np.array(keys(shard.rows, manifest.layout))[differ]:
        out.problems.append(Problem(str(key), "its clean input is not the source's"))


class _Clean:
    """The source's inputs, shard by shard as they are asked for in order."""

    def __init__(self, manifest: Manifest, data: Dataset | None):
        told = manifest.about["data"]
        self.told, self.hash = told, DataHash()
        self.batches: Iterator[Batch] | None = None
        if data is None:
            return
        if list(data.shape) != told["shape"]:
            raise InputError(
                f"{data.name} has inputs of shape {list(data.shape)}, the set was made of {told['shape']}."
            )
        if len(data) < told["examples"]:
            raise InputError(f"{data.name} has {len(data)} examples, the set was made of {told['examples']}.")
        self.batches = data.batches(told["examples"], manifest.about["configuration"]["shard"])
        self.number, self.batch = -1, None

    def of(self, shard: Shard, number: int) -> Tensor | None:
        """[n, ...]: the clean input of each row."""
        if self.batches is None:
            return None
        while self.number < number:
            self._next()
        assert self.batch is not None
        places = shard.rows.id.to_numpy() - int(self.batch.ids[0])
        if len(places) and (places.min() < 0 or places.max() >= len(self.batch.x)):
            raise InputError(f"Shard {number} has ids of another one: it was exchanged or changed.")
        return self.batch.x[torch.from_numpy(places)]

    def _next(self) -> None:
        assert self.batches is not None
        self.batch = next(self.batches)
        self.hash.add(self.batch)
        self.number += 1

    def check_hash(self, out: Verified) -> None:
        for batch in self.batches or ():
            self.hash.add(batch)
        if self.hash.hexdigest() != self.told["sha256"]:
            out.problems.append(Problem("data", "the source is not the one that the set was made of"))

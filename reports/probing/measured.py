"""What is measured of one classifier that is probed, and in which order?"""

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import attacks
from attacks import Goal, InputError
from attacks.probe import Plane, directions, distances, geometry, plane, walk
from attacks.victim import borrowed, check_logits
from reports.options import attack_from_text
from reports.probing import saved
from reports.probing.asked import Asked
from reports.provenance import state_hash
from reports.sources.dataset import Batch
from reports.sources.told import victim_of

POINTS = 2**27  # numbers that a plane may take: it has fewer points where inputs are large
SIDES = (40, 400)
WALKERS = 8  # examples that are walked to
LOOKS = 6  # at one walk, as pictures
PLANES = 2  # through an adversarial and a random point; one more through three examples
PARTS = ("attack", "directions", "geometry", "planes", "walks")


class Probed:
    """One model, probed. tell: called with what is being done, once for each of the PARTS."""

    def __init__(self, name: str, model: nn.Module, batch: Batch, asked: Asked, tell: Callable[[str], None]):
        self.name, self.model, self.asked, self.victim = name, model, asked, victim_of(model)
        self.passes = {part: [0, 0] for part in PARTS}  # forwards, backwards
        right = self._right(batch)
        self.ids, self.x, self.labels = batch.ids[right], batch.x[right], batch.labels[right]
        tell(f"{name}: {asked.attack}")
        self._attack()
        tell(f"{name}: directions")
        self.rays = self._rays()
        tell(f"{name}: geometry")
        self.geometry = self._geometry()
        tell(f"{name}: planes")
        self.planes = self._planes()
        tell(f"{name}: walks")
        self.walks, self.looks = self._walk()
        self.about = {
            "n": len(batch.x), "correct": len(self.x), "fooled": int(self.fooled.sum()),
            "parameters": sum(parameter.numel() for parameter in model.parameters()), "sha256": state_hash(model),
            "passes": {part: {"forwards": f, "backwards": b} for part, (f, b) in self.passes.items()},
        }  # fmt: skip

    def _right(self, batch: Batch) -> Tensor:
        """[b] bool: what the model gets right."""
        device = next((t.device for t in (*self.model.parameters(), *self.model.buffers())), batch.x.device)
        predicted = []
        with borrowed(self.model):
            for x, labels in zip(batch.x.split(256), batch.labels.split(256), strict=True):
                try:
                    logits = self.victim.logits(x.to(device))
                    check_logits(logits)
                    Goal(labels).check(len(labels), logits.shape[1])
                except InputError as error:
                    raise InputError(f"{self.name}: {error}") from error
                except (RuntimeError, ValueError, TypeError) as error:  # whatever the model's own code raises
                    shape, why = ", ".join(map(str, x.shape[1:])), str(error).strip().split("\n")[0]
                    raise InputError(f"The model {self.name} cannot take inputs [b, {shape}]: {why}") from error
                predicted.append(logits.argmax(1).to(labels.device))
        right = torch.cat(predicted) == batch.labels
        if len(batch.labels[right].unique()) < 2:
            raise InputError(
                f"{self.name} gets {int(right.sum())} of {len(right)} examples right, of fewer than two classes: there "
                "is nothing to probe. See advgan doctor, or give more --examples."
            )
        return right

    def _attack(self) -> None:
        attack = attack_from_text(self.asked.attack)
        result = attacks.run(
            attack, self.victim, self.x, self.labels, self.asked.endless,
            seed=self.asked.seed, ids=self.ids, until="smallest", batch_size=256,
        )  # fmt: skip
        self.x_adv, self.fooled = result.x_adv, result.fooled
        self._count("attack", result.queries, result.backwards)
        if not bool(result.fooled.any()):
            raise InputError(f"{self.asked.attack} found no adversarial example of {self.name}: name another --attack.")

    def _count(self, part: str, queries: Tensor | int, backwards: Tensor | int = 0) -> None:
        for k, spent in enumerate((queries, backwards)):
            self.passes[part][k] += int(spent.sum()) if isinstance(spent, Tensor) else spent

    def _rays(self) -> pd.DataFrame:
        x, labels, draws = self.x, self.labels, self.asked.draws
        drawn = {"seed": self.asked.seed, "ids": self.ids}
        steepest = directions.steepest(self.victim, x, labels, self.asked.threat)
        self._count("directions", steepest.queries, steepest.backwards)
        foreign = labels.unique() != labels[:, None]
        kinds = {
            "attack": (self.x_adv - x)[:, None],
            "gradient": steepest.directions,
            "means": directions.to_means(x, labels, x, labels)[foreign].view(len(x), -1, *x.shape[1:]),
            "examples": directions.to_examples(x, labels, x, labels, draws, **drawn),
            "signs": directions.signs(x, draws, **drawn),
            "gaussian": directions.gaussian(x, draws, **drawn),
        }
        tables = [self._along(kind, towards) for kind, towards in kinds.items()]
        return pd.concat(tables, ignore_index=True)

    def _along(self, kind: str, towards: Tensor) -> pd.DataFrame:
        found = distances(
            self.victim, self.x, self.labels, towards, self.asked.endless, seed=self.asked.seed, ids=self.ids
        )
        self._count("directions", found.queries)
        count = towards.shape[1]
        return pd.DataFrame(
            {
                "model": self.name,
                "kind": kind,
                "id": np.repeat(self.ids.numpy(), count),
                "label": np.repeat(self.labels.numpy(), count),
                "draw": np.tile(np.arange(count), len(self.x)),
                "distance": found.distance.flatten().numpy(),
                "queries": found.queries.flatten().numpy(),
            }
        )

    def _geometry(self) -> pd.DataFrame:
        found = geometry(self.victim, self.x, self.labels, self.x_adv, self.asked.threat)
        self._count("geometry", found.queries, found.backwards)
        columns = {field.name: getattr(found, field.name).numpy() for field in fields(found)}
        return pd.DataFrame({"model": self.name, "id": self.ids.numpy(), "label": self.labels.numpy(), **columns})

    def _planes(self) -> list[tuple[dict[str, Any], dict[str, np.ndarray]]]:
        """Through the first examples of a class each, with their adversarial and a random point; through three."""
        firsts = [int((self.labels == k).nonzero()[0]) for k in self.labels.unique()]
        found = [row for row in sorted(firsts) if bool(self.fooled[row])][:PLANES]
        planes = [self._through_adversarial(row) for row in found]
        return [*planes, *([self._through_three(sorted(firsts)[:3])] if len(firsts) > 2 else [])]

    def _through_adversarial(self, row: int):
        x, x_adv = self.x[row], self.x_adv[row]
        near = float((x_adv - x).double().norm())
        reach = 2.2 * max(near, self.asked.eps if self.asked.norm == "l2" else 0.0)
        draw = directions.signs if self.asked.norm == "linf" else directions.gaussian
        drawn = draw(x[None], 1, seed=self.asked.seed, ids=self.ids[row : row + 1])[0, 0]
        return self._shown("random", [row], x_adv, x + drawn * (near / float(drawn.norm())), reach)

    def _through_three(self, rows: list[int]):
        return self._shown("examples", rows, self.x[rows[1]], self.x[rows[2]], None)

    def _shown(self, kind: str, rows: list[int], first: Tensor, second: Tensor, reach: float | None):
        numbers = self.x[0].numel()
        side = self.asked.side or min(max(math.isqrt(POINTS // numbers), SIDES[0]), SIDES[1])
        row = rows[0]
        shown = plane(
            self.victim, self.x[row], int(self.labels[row]), first, second, self.asked.threat, side=side, reach=reach
        )
        self._count("planes", shown.queries)
        told = {
            "model": self.name, "kind": kind, "ids": self.ids[rows].tolist(), "labels": self.labels[rows].tolist(),
            "marks": shown.marks.tolist(), "extent": list(shown.extent), "side": side,
        }  # fmt: skip
        return told, _arrays(shown)

    def _walk(self) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
        """From an example of another class towards each of the first ones."""
        empty = pd.DataFrame({name: [] for name in saved.TABLES["walks"]})
        if self.asked.walk == 0 or self.asked.norm == "l1":
            return empty, {}
        some = slice(0, WALKERS)
        x, labels, ids = self.x[some], self.labels[some], self.ids[some]
        start = x + directions.to_examples(x, labels, self.x, self.labels, 1, seed=self.asked.seed, ids=ids)[:, 0]
        start = start.clamp(0, 1)  # x + (y - x) may miss y, and the bounds, by a rounding
        found = walk(
            self.victim, x, labels, start, self.asked.endless, queries=self.asked.walk, seed=self.asked.seed, ids=ids
        )
        self._count("walks", int(found.queries[-1]) * len(x))
        times = len(found.queries)
        table = pd.DataFrame(
            {
                "model": self.name,
                "id": np.tile(ids.numpy(), times),
                "label": np.tile(labels.numpy(), times),
                "queries": np.repeat(found.queries.numpy(), len(x)),
                "size": found.size.flatten().numpy(),
            }
        )
        at = np.unique(np.geomspace(1, times, LOOKS).round().astype(int)) - 1
        looks = {
            "x": np.concatenate((found.x_adv[at, 0].numpy(), x[:1].numpy())),
            "queries": found.queries[at].numpy(),
            "size": found.size[at, 0].numpy(),
        }
        return table, looks


def _arrays(shown: Plane) -> dict[str, np.ndarray]:
    return {
        "classes": shown.classes.numpy().astype(np.int32),
        "margin": shown.margin.numpy().astype(np.float16),
        "size": shown.size.numpy().astype(np.float32),
    }

"""What do the shards of one model come to, and what is to be doubted of them together?"""

from typing import Any

import numpy as np

from reports import overlap, record, words
from reports.gallery import Gallery
from reports.generated import FromRun
from reports.noise import told as noise_told
from reports.piece import Piece, unpacked
from reports.plan import Plan
from reports.writer import Writer

TOLD_BY_ROWS = {"near_chance"}  # findings that reports.doubts draws from all of the examples


class Assembled:
    """What the shards of one model come to."""

    def __init__(self, name: str, plan: Plan, shape: tuple[int, ...]):
        self.name, self.plan, self.shape = name, plan, shape
        self.whole, self.gallery = Piece(), Gallery()

    @property
    def told(self) -> dict[str, Any]:
        return self.whole.told

    def add(self, piece: Piece, writer: Writer) -> None:
        for key, rows in piece.groups("row"):
            x = unpacked(rows["x"] if "x" in rows else [None] * len(rows), self.shape)
            writer.add(self.name, *key, seconds=piece.seconds.get(key, 0.0), x_adv=x, **_columns(rows, record.ROW))
        pictures = piece.of("picture")
        if len(pictures):
            images = {name: unpacked(pictures[name], self.shape) for name in ("x", "x_adv")}
            rest = pictures.drop(columns=["x", "x_adv"]).to_dict("records")
            self.gallery.offer(
                {**example, "x": images["x"][k], "x_adv": images["x_adv"][k]} for k, example in enumerate(rest)
            )
        # Little enough to be held; and whether a curve or a certificate is whole is known at the end.
        few = Piece(piece.told)
        few.tables = {kind: piece.tables[kind] for kind in ("curve", "certificate", "noise") if kind in piece.tables}
        few.seconds = piece.seconds
        self.whole.join(few)

    def hang(self, writer: Writer) -> None:
        """Curves, certificates and pictures."""
        for (norm, attack), rows in self.whole.groups("curve"):
            if norm not in self.told.get("uncurved", {}):
                seconds = self.whole.seconds.get((f"{norm}:inf", attack), 0.0)
                writer.add_curve(self.name, norm, attack, seconds=seconds, **_columns(rows, record.CURVE))
        for (threat, attack), rows in self.whole.groups("certificate"):
            if threat not in self.told.get("unbounded", {}):
                seconds = self.whole.seconds.get((threat, attack), 0.0)
                writer.add_certificates(self.name, threat, seconds=seconds, **_columns(rows, record.CERTIFICATE))
        for example in self.gallery.shown():
            writer.add_to_gallery(model=self.name, **example)

    @property
    def noise(self) -> dict[str, Any]:
        return {
            norm: noise_told(rows)
            for (norm, _), rows in self.whole.groups("noise")
            if norm not in self.told.get("uncurved", {})
        }

    def doubts(self, notes: list[str]) -> list[dict[str, Any]]:
        """What only the whole run can tell, and what was found or noted before it."""
        told = self.told
        found: list[tuple[str | None, str, str]] = [(None, "note", text) for text in notes]
        for finding in told.get("findings", []):
            if finding["severity"] != "note" and finding["code"] not in TOLD_BY_ROWS:
                found.append((None, finding["severity"], f"{finding['text']} {finding['remedy']}"))
        for text in dict.fromkeys(told.get("left", [])):
            found.append((None, "note", text))
        for text in dict.fromkeys(told.get("unbounded", {}).values()):
            found.append((None, "note", f"Nothing is certified: {text}"))
        uncurved = told.get("uncurved", {})
        for text in dict.fromkeys(uncurved.values()):
            norms = words.listed([norm for norm, why in uncurved.items() if why == text])
            found.append((None, "note", f"No curve over eps in {norms}: {text}"))
        for name, by_threat in told.get("overlap", {}).items():
            attack = self.plan.attacks[name]
            assert isinstance(attack, FromRun)
            found += [(threat, "note", text) for threat, text in overlap.notes(attack, by_threat)]
        if told.get("unanswered"):
            found.append((None, "warning", _unanswered(told["unanswered"])))
        if told.get("unsure"):
            text = (
                f"{told['unsure']} verdicts of attacks were not borne out by a second pass and are not counted: the "
                "model's logits move with the batch by more than rounding. Audit without reduced precision."
            )
            found.append((None, "warning", text))
        return [
            {"model": self.name, "threat": threat, "severity": severity, "text": text}
            for threat, severity, text in found
        ]


def _unanswered(ids: list[int]) -> str:
    some = ", ".join(map(str, sorted(ids)[:5])) + (", ..." if len(ids) > 5 else "")
    return (
        f"To {words.plural(len(ids), 'clean input')} ({some}) the model gave NaN or inf. No attack was run there; they "
        "count as wrong, clean and under attack (clean_prediction -1 in rows.parquet). Mend the model."
    )


def _columns(rows: Any, dtype: np.dtype) -> dict[str, np.ndarray]:
    """By the names that the writer gives them."""
    renamed = {"id": "ids", "label": "labels"}
    return {renamed.get(name, name): rows[name].to_numpy() for name in dtype.names or ()}

"""An audit in shards: however it is cut and whoever does it, the same bytes; stopped, it goes on."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from reports.audit import audit
from reports.record import Audit
from reports.sources.data import Dataset, from_arrays
from reports.zoo import held_out
from reports.zoo import load as digits

CLOCK = "timings.parquet"
ASKED: dict[str, Any] = {
    "threats": ["linf:0.1", "l2:0.5"],
    "attacks": ["pgd:steps=3", "square:queries=8", "gaussian_noise"],
    "certify": 4,
    "examples": 33,
}


def data() -> Dataset:
    return from_arrays(*held_out(), name="digits")


def models() -> dict[str, nn.Module]:
    return {"standard": digits()["digits_standard"]}


def run(out: Path, **options: Any) -> Audit:
    asked = {**ASKED, **options}
    return audit(asked.pop("models", None) or models(), asked.pop("data", None) or data(), out=out, **asked)


def contents(folder: Path) -> dict[str, bytes]:
    files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: content for name, content in files.items() if name != CLOCK}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "out"
    run(out)
    return contents(out)


@pytest.mark.parametrize("how", [{"shard": 7}, {"shard": 20, "batch_size": 13}, {"batch_size": 5}])
def test_any_shard_and_batch_size_gives_the_same_bytes(tmp_path: Path, whole: dict[str, bytes], how: dict[str, Any]):
    run(tmp_path / "out", **how)
    found = contents(tmp_path / "out")
    assert found.keys() == whole.keys()
    assert [name for name in whole if found[name] != whole[name]] == []

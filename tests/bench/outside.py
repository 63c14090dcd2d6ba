"""The outside classifiers and images that benchmarks run on; they lie beside the repository and are no part of it."""

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

from reports.sources.data import load

SHARED = Path(__file__).parents[3] / "shared" / "data"
MNIST = "mnist_test.npz"
CIFAR = "cifar10_jpeg_test.parquet"


def outside(name: str) -> nn.Module:
    """A classifier of [0, 1] images, by its name in models.py."""
    return getattr(_models(), name)().eval()


def data_of(name: str) -> str:
    """The file of images that the classifier is for."""
    return CIFAR if name.startswith("resnet") else MNIST


def rows_of(file: str, first: int, end: int) -> tuple[Tensor, Tensor]:
    """(x [end - first, C, H, W], labels [end - first]), the rows from `first` up to `end`."""
    (batch,) = load(str(SHARED / file)).batches(end, end)
    return batch.x[first:end], batch.labels[first:end]


@cache
def _models() -> ModuleType:
    spec = importlib.util.spec_from_file_location("outside_models", SHARED / "models.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

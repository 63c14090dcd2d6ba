"""Which texts name a model or a data set, and which file reads each?"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """One way of naming a source.

    text: as it is typed. place: the module that loads it. weights: it takes --weights.
    """

    text: str
    place: str
    weights: bool = False

    @property
    def prefix(self) -> str:
        """What it begins with, without the colon."""
        return self.text.partition(":")[0]


MODELS = (
    Form("digits", "reports.sources.models"),
    Form("digits:standard", "reports.sources.models"),
    Form("digits:robust", "reports.sources.models"),
    Form("torchvision:NAME", "reports.sources.classifiers.torchvision", weights=True),
    Form("timm:NAME", "reports.sources.classifiers.timm", weights=True),
    Form("hf:FOLDER-OR-ID", "reports.sources.classifiers.hf"),
    Form("onnx:FILE", "reports.sources.classifiers.onnx"),
    Form("torchscript:FILE", "reports.sources.classifiers.torchscript"),
    Form("export:FILE", "reports.sources.classifiers.exported"),
    Form("robustbench:NAME", "reports.sources.classifiers.robustbench"),
    Form("https://HOST/PATH", "reports.sources.classifiers.http"),
    Form("http://HOST/PATH", "reports.sources.classifiers.http"),
    Form("FILE.py:FUNCTION", "reports.sources.classifiers.python", weights=True),
    Form("PACKAGE.MODULE:FUNCTION", "reports.sources.classifiers.python", weights=True),
)

DATA = (
    Form("digits", "reports.sources.data"),
    Form("FILE.npz", "reports.sources.arrays"),
    Form("FILE.parquet", "reports.sources.parquet"),
    Form("FILE.csv", "reports.sources.tables"),
    Form("FILE.tar", "reports.sources.tars"),
    Form("FOLDER", "reports.sources.images"),
    Form("torchvision:CIFAR10", "reports.sources.torchvision_sets"),
    Form("hf:FOLDER-OR-ID[:SPLIT]", "reports.sources.hf_sets"),
)


def texts(forms: Iterable[Form]) -> list[str]:
    return [form.text for form in forms]

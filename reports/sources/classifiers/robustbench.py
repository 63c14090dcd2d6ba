"""How is a model of RobustBench's zoo loaded, where that package and its weights are at hand?"""

from pathlib import Path

from torch import nn

from attacks.errors import InputError
from reports.sources.needed import needed

USUAL = ("cifar10", "Linf")


def load(spec: str, weights: Path | None) -> tuple[str, nn.Module]:
    """`robustbench:NAME`, of CIFAR-10 and L-inf, or `robustbench:DATASET/THREAT/NAME`, say cifar100/L2/Rice2020.

    Its models normalise for themselves. The package is not among ours: install it from its authors.
    """
    parts = spec.partition(":")[2].split("/")
    if len(parts) not in (1, 3) or not all(parts):
        raise InputError(f"{spec}: write robustbench:NAME, or robustbench:DATASET/THREAT/NAME.")
    utils = needed("robustbench.utils", spec, "hub")
    (dataset, threat), name = USUAL if len(parts) == 1 else parts[:2], parts[-1]
    try:
        return name, utils.load_model(model_name=name, dataset=dataset, threat_model=threat)
    except Exception as error:  # no such name, no network, a damaged file
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{spec} cannot be loaded ({why}). See that the name and the weights are there.") from error

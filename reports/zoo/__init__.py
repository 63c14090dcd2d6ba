"""The classifiers that come with the package, for the handwritten digits that come with scikit-learn."""

from .digits import held_out, training
from .network import load

__all__ = ["held_out", "load", "training"]

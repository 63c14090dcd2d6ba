"""Adversarial data sets: made, written so that they stay adversarial, checked again, and opened for training."""

from reports.dataset.loader import AdversarialDataset, open  # reports.dataset.open, as one opens a file
from reports.dataset.make import make
from reports.dataset.manifest import Manifest
from reports.dataset.verify import Verified, verify

__all__ = ["AdversarialDataset", "Manifest", "Verified", "make", "open", "verify"]

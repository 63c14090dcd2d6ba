"""PyTorch's operators as pieces that can be bounded: the list of what a model may be made of."""

from . import arithmetic, bent, places, sums, weights

MAKERS = {**weights.MAKERS, **arithmetic.MAKERS, **sums.MAKERS, **places.MAKERS, **bent.MAKERS}

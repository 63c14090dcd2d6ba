"""The convolutional network of both classifiers: its layers, and its weights as shipped."""

from pathlib import Path

from safetensors.torch import load_file
from torch import nn

NAMES = ("digits_standard", "digits_robust")
FOLDER = Path(__file__).parent


def network() -> nn.Sequential:
    """[b, 1, 8, 8] in [0, 1] to logits [b, 10]; weights from torch's global random state."""
    return nn.Sequential(
        nn.Conv2d(1, 24, kernel_size=3),
        nn.ReLU(),
        nn.Conv2d(24, 48, kernel_size=3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def load() -> dict[str, nn.Module]:
    """Both by name, in eval mode, on the CPU: "digits_standard", and "digits_robust", trained adversarially."""
    return {name: read(FOLDER / f"{name}.safetensors") for name in NAMES}


def read(path: Path) -> nn.Module:
    model = network()
    model.load_state_dict(load_file(path))
    return model.eval()

"""Which arrays can be audited, and how is their layout told?"""

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from torch import Tensor

from attacks.errors import InputError
from reports.sources.dataset import Dataset, Pieces, class_names
from reports.sources.limits import check_room

CHANNELS = (1, 3, 4)
AT_ONCE = 1 << 22  # numbers looked at at a time, so that checking needs no second copy


def from_arrays(
    x: np.ndarray | Tensor, y: np.ndarray | Tensor, *, classes: list[str] | None = None, name: str = "arrays"
) -> Dataset:
    """A data set held in memory.

    x: [N, D], [N, H, W], [N, C, H, W] or [N, H, W, C]; uint8, or floats within [0, 1].
    y: [N] integers, the class numbers. classes: their names.
    Raises InputError where x or y cannot be used as they are.
    """
    images, labels = checked(np.asarray(x), np.asarray(y), name)

    def read(examples: int, batch_size: int) -> Pieces:
        for start in range(0, examples, batch_size):
            rows = slice(start, min(start + batch_size, examples))
            yield images[rows], labels[rows]

    names = class_names(classes, int(labels.max()), name)
    return Dataset(
        name,
        names,
        images.shape[1:],
        len(images),
        read,
        part=lambda start, stop: (images[start:stop], labels[start:stop]),
    )


def read_npz(path: Path, *, labelled: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The arrays x and y of an npz file, as they are; pickled objects are not loaded. Zeros for y unless `labelled`."""
    try:
        _check_sizes(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = list(archive.files)
            arrays = [archive[name] for name in ("x", "y") if name in names]
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        if "allow_pickle" in str(error):
            message = f"{path} holds pickled objects, which can run code and are not loaded. Save plain arrays x and y."
            raise InputError(message) from error
        raise InputError(
            f"{path} is not a whole npz file ({error or type(error).__name__}). Write it again."
        ) from error
    if not labelled and "x" in names:
        return arrays[0], np.zeros(len(arrays[0]), dtype=np.int64)
    if len(arrays) < 2:
        raise InputError(f"{path} holds {', '.join(names) or 'nothing'}; arrays x (inputs) and y (labels) are needed.")
    return arrays[0], arrays[1]


def _check_sizes(path: Path) -> None:
    """Before anything is unpacked: what the archive says that x and y will take."""
    with zipfile.ZipFile(path) as archive:
        members = [each for each in archive.infolist() if each.filename in ("x.npy", "y.npy")]
        check_room(str(path), sum(each.file_size for each in members))
        for member in members:
            with archive.open(member) as file:
                shape, size = _header(file)
            if size > member.file_size:
                raise InputError(f"{path}: {member.filename} promises {list(shape)}, and is cut short. Write it again.")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], int]:
    """Shape, and bytes of the numbers, by the header of an npy file."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, 0 if dtype.hasobject else math.prod(shape) * dtype.itemsize


def checked(x: np.ndarray, y: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    """x as [N, C, H, W] or [N, D] (a view), y as int64; InputError where they cannot be audited."""
    if x.ndim not in (2, 3, 4):
        raise InputError(f"{what}: x is {x.shape}; [N, D], [N, H, W], [N, C, H, W] or [N, H, W, C] is needed.")
    labels = _labels(y, what)
    if len(x) != len(labels):
        raise InputError(f"{what}: x has {len(x)} examples and y {len(labels)}; each input needs one label.")
    if x.size == 0:
        raise InputError(f"{what} is empty: x is {x.shape}. At least one example is needed.")
    if x.dtype != np.uint8:
        _check_floats(x, what)
    return _channels_first(x, what), labels


def _labels(y: np.ndarray, what: str) -> np.ndarray:
    if y.ndim != 1:
        remedy = "Of one-hot rows take y.argmax(1)." if y.ndim == 2 and y.shape[1] > 1 else "Flatten it."
        raise InputError(f"{what}: y is {y.shape}; class numbers [N] are needed. {remedy}")
    if not np.issubdtype(y.dtype, np.integer):
        raise InputError(f"{what}: y is {y.dtype}; class numbers are integers. Save y.astype('int64').")
    if len(y) and y.min() < 0:
        count = int((y < 0).sum())
        raise InputError(f"{what}: {count} of {len(y)} labels are negative (least {y.min()}); classes count from 0.")
    if len(y) and y.max() > np.iinfo(np.int64).max:
        raise InputError(f"{what} has the label {y.max()}; labels are class numbers from 0. Renumber the classes.")
    return y.astype(np.int64)


def _check_floats(x: np.ndarray, what: str) -> None:
    if not np.issubdtype(x.dtype, np.floating):
        raise InputError(f"{what}: x is {x.dtype}; give uint8 (0 to 255) or floats within [0, 1].")
    rows = max(1, AT_ONCE // max(1, x[0].size))
    low, high = np.inf, -np.inf
    for start in range(0, len(x), rows):
        piece = x[start : start + rows]
        finite = np.isfinite(piece).reshape(len(piece), -1).all(1)
        if not finite.all():
            first = start + int(np.argmin(finite))
            raise InputError(f"{what}: example {first} holds NaN or inf; clean the data before an audit.")
        low, high = min(low, float(piece.min())), max(high, float(piece.max()))
    if low < 0 or high > 1:
        raise InputError(
            f"{what}: x runs from {low:.4g} to {high:.4g}; inputs must lie within [0, 1]. "
            "Save pixels as uint8, or divide them by 255; of normalised inputs undo the normalisation and put it into "
            "the model (attacks.models.Normalized)."
        )


def _channels_first(x: np.ndarray, what: str) -> np.ndarray:
    if x.ndim == 2:
        return x
    if x.ndim == 3:
        return x[:, None]
    first, last = x.shape[1] in CHANNELS, x.shape[3] in CHANNELS
    if first and last:
        raise InputError(
            f"{what}: x is {x.shape}, which may be [N, C, H, W] or [N, H, W, C]. "
            "Of grey images drop the axis of one channel; pad others so that only the channels are 1, 3 or 4."
        )
    if not first and not last:
        raise InputError(f"{what}: x is {x.shape}; images have 1, 3 or 4 channels, on axis 1 or on axis 3.")
    return x if first else np.moveaxis(x, 3, 1)

"""How do image files become arrays of one shape?"""

import contextlib
import itertools
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from attacks.errors import InputError
from reports.sources.dataset import Dataset, Pieces
from reports.sources.limits import MOST_PIXELS

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
GREY = ("1", "L", "LA")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # Pillow reads others by running other programs
DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # more than 8 bits per pixel
MOST_CLASSES = 10**5
LOOK_AT = 64  # images that decide whether a data set is grey


class Picture(NamedTuple):
    name: str  # for messages
    source: Image.Image | bytes | Path
    label: int


@dataclass(frozen=True)
class Frame:
    """What all images of a data set have in common."""

    channels: int
    height: int
    width: int
    resize: int | None

    @classmethod
    def of(cls, pictures: Iterable[Picture], resize: int | None) -> "Frame":
        """The frame of a data set from its first pictures: grey where all of them are, as large as the first."""
        modes, sizes = zip(*map(_look, itertools.islice(pictures, LOOK_AT)), strict=True)
        width, height = (resize, resize) if resize else sizes[0]
        return cls(1 if set(modes) <= set(GREY) else 3, height, width, resize)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    def pixels(self, picture: Picture) -> np.ndarray:
        """[C, H, W] uint8. InputError where the image cannot be decoded or is of another size."""
        image = _decoded(picture)
        if image.mode in DEEP:
            raise InputError(
                f"{picture.name} has more than 8 bits per pixel; save 8-bit images, or floats in an npz file."
            )
        if self.channels == 1 and image.mode not in GREY:
            raise InputError(f"{picture.name} is in colour ({image.mode}), those before it are grey. Save all alike.")
        image = _resized(_converted(image, self.channels), self.resize)
        if image.size != (self.width, self.height):
            raise InputError(
                f"{picture.name} is {image.width} x {image.height} pixels, those before it are {self.width} x "
                f"{self.height}. Bring all to one size with --image-size {min(self.width, self.height)}."
            )
        return np.asarray(image).reshape(self.height, self.width, self.channels).transpose(2, 0, 1)


def stacked(pictures: Iterable[Picture], frame: Frame, batch_size: int) -> Pieces:
    """x [b, C, H, W] uint8 and y [b] int64, batch_size pictures at a time."""
    waiting = iter(pictures)
    while some := list(itertools.islice(waiting, batch_size)):
        yield np.stack([frame.pixels(picture) for picture in some]), np.array([p.label for p in some], dtype=np.int64)


def load_folder(folder: Path, *, image_size: int | None = None, labelled: bool = True) -> Dataset:
    """A folder with one folder of images per class; labels count the classes in the order of their names.

    Where metadata.csv says which label the files of each folder have (columns file_name and label), they have that one.
    Unless `labelled`, all images are of one class, wherever in the folder they are. Examples are taken in turn from the
    classes, so that the first ones are spread over all of them.
    """
    places = _folders(folder) if labelled else [""]
    labels = _labels(folder, places)
    classes = [str(label) for label in range(max(labels, default=-1) + 1)]
    for place, label in zip(places, labels, strict=True):
        classes[label] = place
    files = [_image_files(folder / place) for place in places]
    count = sum(map(len, files))
    if count == 0:
        if not labelled:
            raise InputError(f"{folder} holds no images ({', '.join(ENDINGS[:3])}, ...).")
        what = f"{len(places)} folders without images" if places else "no folders"
        raise InputError(
            f"{folder} holds {what}; a folder of images per class is needed ({', '.join(ENDINGS[:3])}, ...): "
            f"{folder.name}/CLASS/IMAGE.png."
        )

    def pictures() -> Iterator[Picture]:
        for turn in range(max(map(len, files))):
            for place, label, names in zip(places, labels, files, strict=True):
                if turn < len(names):
                    path = folder / place / names[turn]
                    yield Picture(str(path), path, label)

    frame = Frame.of(pictures(), image_size)

    def part(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        return next(stacked(itertools.islice(pictures(), start, stop), frame, stop - start))

    def read(examples: int, batch_size: int) -> Pieces:
        return stacked(itertools.islice(pictures(), examples), frame, batch_size)

    return Dataset(str(folder), classes, frame.shape, count, read, part=part)


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _labels(folder: Path, places: list[str]) -> list[int]:
    """One for each class's folder, no two the same."""
    ordered = list(range(len(places)))
    path = folder / "metadata.csv"
    if not path.is_file():
        return ordered
    try:
        said = pd.read_csv(path, usecols=["file_name", "label"], dtype={"file_name": str, "label": "int64"})
    except ValueError:  # no such columns, or labels in words
        return ordered
    found = said.label.groupby(said.file_name.str.partition("/")[0]).unique().reindex(places)
    labels = [int(each[0]) for each in found if isinstance(each, np.ndarray) and len(each) == 1]
    whole = len(set(labels)) == len(places) and all(0 <= label < MOST_CLASSES for label in labels)
    return labels if whole else ordered


def _image_files(folder: Path) -> list[str]:
    """Paths relative to the folder, those in its own folders included."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and not path.name.startswith("."))
    return sorted(str(path.relative_to(folder)) for path in found if path.is_file())


def _look(picture: Picture) -> tuple[str, tuple[int, int]]:
    """Mode and size, from the header alone."""
    with _opened(picture) as image:
        return image.mode, image.size


def _decoded(picture: Picture) -> Image.Image:
    with _opened(picture) as image, _explained(picture):
        image.load()
        return image


def _opened(picture: Picture) -> Image.Image:
    source = picture.source
    if isinstance(source, Image.Image):
        return source
    with _explained(picture), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the check below is the stricter one
        image = Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise InputError(
            f"{picture.name} is {image.width:,} x {image.height:,} pixels; at most {MOST_PIXELS:,} are decoded."
        )
    return image


@contextlib.contextmanager
def _explained(picture: Picture) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each decoder raises its own
        why = "unknown format, or damaged" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(f"{picture.name} is not an image that can be read ({why}).") from error


def _converted(image: Image.Image, channels: int) -> Image.Image:
    if channels == 1:
        return image.convert("L")
    has_alpha = image.mode == "P" and "transparency" in image.info
    return (image.convert("RGBA") if has_alpha else image).convert("RGB")


def _resized(image: Image.Image, side: int | None) -> Image.Image:
    """The shorter side brought to `side` pixels, then the square in the centre."""
    if side is None:
        return image
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    left, top = (width - side) // 2, (height - side) // 2
    return image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + side, top + side))

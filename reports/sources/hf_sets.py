"""How is a set of images of Hugging Face's datasets read, from a folder that it saved or from the hub?"""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attacks.errors import InputError, unknown
from reports.sources.dataset import Dataset, Pieces, class_names
from reports.sources.images import Frame, Picture, stacked
from reports.sources.limits import check_count
from reports.sources.needed import needed

LABELS = ("label", "labels", "fine_label", "target", "cls")


def load_hf(spec: str, *, image_size: int | None = None, training: bool = False) -> Dataset:
    """`hf:PLACE`, `hf:PLACE:SPLIT` or `hf:PLACE:CONFIGURATION:SPLIT`; without a split the test split.

    PLACE is a folder that save_to_disk wrote, or a name on the hub. Scripts that come with a set are never run.
    """
    place, *rest = spec.partition(":")[2].split(":")
    if len(rest) > 2 or not place or not all(rest):
        raise InputError(f"{spec}: write hf:PLACE, hf:PLACE:SPLIT or hf:PLACE:CONFIGURATION:SPLIT.")
    split = rest[-1] if rest else ("train" if training else "test")
    datasets = needed("datasets", spec, "hub")
    with _explained(spec):
        found = _from_folder(datasets, spec, Path(place), split) if Path(place).is_dir() else None
        if found is None:
            configuration = rest[0] if len(rest) == 2 else None
            found = datasets.load_dataset(place, configuration, split=split)
        return _dataset(datasets, spec, found, image_size)


def _from_folder(datasets: Any, spec: str, folder: Path, split: str) -> Any:
    if not any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        raise InputError(f"{folder} holds no set that save_to_disk wrote. A folder of images needs no hf: before it.")
    found = datasets.load_from_disk(str(folder))
    if not isinstance(found, dict):
        return found
    if split not in found:
        raise unknown(f"split of {spec}", split, found)
    return found[split]


def _dataset(datasets: Any, spec: str, found: Any, image_size: int | None) -> Dataset:
    check_count(spec, len(found))
    if len(found) == 0:
        raise InputError(f"{spec} is empty. At least one example is needed.")
    image, label = _columns(datasets, spec, found.features)
    names = getattr(found.features[label], "names", None)
    rows = found.select_columns([image, label]).cast_column(image, datasets.Image(decode=False))
    largest = 0
    for batch in rows.select_columns([label]).iter(batch_size=4096):
        numbers = batch[label]
        if any(not isinstance(each, int) or each < 0 for each in numbers):
            raise InputError(f"{spec}: labels in {label} are missing or negative; class numbers from 0 are needed.")
        largest = max(largest, *numbers)

    def pictures() -> Iterator[Picture]:
        for k, row in enumerate(rows):
            yield Picture(f"The image in row {k} of {spec}", _source(row[image], f"row {k} of {spec}"), row[label])

    frame = Frame.of(pictures(), image_size)

    def read(examples: int, batch_size: int) -> Pieces:
        return stacked(itertools.islice(pictures(), examples), frame, batch_size)

    return Dataset(spec, class_names(names, largest, spec), frame.shape, len(found), read)


def _columns(datasets: Any, spec: str, features: dict[str, Any]) -> tuple[str, str]:
    """The names of the images' column and of the labels'."""
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    kinds = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    labels = [name for name in LABELS if name in features] + kinds
    if not images or not labels:
        raise InputError(f"{spec} has the columns {', '.join(features)}; one of images and one of labels are needed.")
    return images[0], labels[0]


def _source(value: dict[str, Any] | None, what: str) -> bytes | Path:
    if value and value.get("bytes") is not None:
        return value["bytes"]
    if value and value.get("path") and Path(value["path"]).is_file():
        return Path(value["path"])
    raise InputError(f"The image in {what} has neither bytes nor a file. Save the set with its images embedded.")


@contextlib.contextmanager
def _explained(spec: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # datasets, Arrow and the hub each raise their own
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{spec} cannot be read ({why}). Without a network, name a folder of save_to_disk's."
        ) from error

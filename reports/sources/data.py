"""Which examples does a text such as `digits`, `test.npz`, `people.csv`, `photos/` or `torchvision:CIFAR10` name?"""

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from attacks.errors import InputError, unknown
from reports.sources.arrays import from_arrays, read_npz
from reports.sources.dataset import Batch, Dataset
from reports.sources.forms import DATA, texts

__all__ = ["Batch", "Dataset", "from_arrays", "load"]

FORMS = texts(DATA)
FILES = (".npz", ".parquet", ".csv", ".tar")


def load(
    spec: str,
    *,
    image_size: int | None = None,
    root: Path | None = None,
    labelled: bool = True,
    training: bool = False,
) -> Dataset:
    """The data set that a text names.

    spec: `digits`; a file .npz (x, y), .parquet (image, label), .csv (numbers and a label) or .tar (WebDataset); a
        folder with one folder of images per class; `torchvision:NAME`, its test split under `root`; `hf:PLACE:SPLIT`.
    image_size: images are resized to it (the shorter side) and cropped to its square (the centre).
    labelled: False also takes an npz file without y and a folder of images without folders: one class.
    training: the training split of torchvision's sets and of the hub's instead.
    Raises InputError for whatever cannot be found or used.
    """
    if image_size is not None and image_size < 1:
        raise InputError(f"The image size is {image_size}; it must be at least 1 pixel.")
    path = Path(spec)
    if spec == "digits" or (path.suffix in (".npz", ".csv") and path.is_file()):
        if image_size is not None:
            raise InputError(f"--image-size is for images read from files; {spec} is an array and is taken as it is.")
        if path.suffix == ".csv":
            from reports.sources.tables import load_table

            return replace(load_table(path), name=spec)
        return replace(
            _digits() if spec == "digits" else from_arrays(*read_npz(path, labelled=labelled), name=spec), name=spec
        )
    # Pillow, pyarrow and torchvision are slow to import: each only where it is needed.
    if spec.startswith("torchvision:"):
        from reports.sources.torchvision_sets import load_torchvision

        return load_torchvision(spec, image_size=image_size, root=root, training=training)
    if spec.startswith("hf:"):
        from reports.sources.hf_sets import load_hf

        return load_hf(spec, image_size=image_size, training=training)
    if path.suffix == ".tar" and path.is_file():
        from reports.sources.tars import load_tar

        return replace(load_tar(path, image_size=image_size), name=spec)
    if path.suffix == ".parquet" and path.is_file():
        from reports.sources.parquet import load_parquet

        return replace(load_parquet(path, image_size=image_size), name=spec)
    if path.is_dir():
        from reports.sources.images import load_folder

        return replace(load_folder(path, image_size=image_size, labelled=labelled), name=spec)
    raise _not_there(spec, path)


def _digits() -> Dataset:
    from reports import zoo

    return from_arrays(*zoo.held_out(), name="digits")


def _not_there(spec: str, path: Path) -> InputError:
    if path.exists():
        return InputError(f"{spec} is not data that can be read here. Known: {', '.join(FORMS)}.")
    if len(path.parts) == 1 and path.suffix not in FILES:
        return unknown("data set", spec, FORMS)
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, beside, n=1, cutoff=0.6)
    hint = f" Did you mean {path.parent / near[0]}?" if near else ""
    return InputError(f"There is no file or folder {spec}.{hint}")

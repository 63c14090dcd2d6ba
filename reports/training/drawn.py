"""How are samples of a trained generator written: as a picture, and as arrays that an audit reads?"""

import io
import math
from pathlib import Path

import numpy as np
import torch

from advgan.checkpoint import write
from advgan.run import Run
from advgan.sample import labels_of, sample
from attacks.errors import InputError, unknown
from reports import figures
from reports.devices import device_named
from reports.training.saved import ABOUT, SavedRun
from reports.training.searched import search


def draw(
    folder: Path,
    n: int,
    *,
    label: str | None,
    seed: int,
    picture: Path | None,
    npz: Path | None,
    device: str,
    overwrite: bool,
    against: str | None = None,
    judge: str | None = None,
) -> tuple[list[Path], list[str]]:
    """Writes n samples, or of those the ones that a search made a model mistake; gives the files, and what to say.

    InputError for what cannot be drawn or written, before anything is. Where nothing was found no file is written.
    """
    if judge is not None and against is None:
        raise InputError(f"--judge {judge} judges what is found --against a model, and none is named.")
    check_asked(n, seed)
    files = [file for file in (picture, npz) if file is not None]
    for file, ending in ((picture, ".png"), (npz, ".npz")):
        if file is not None:
            check_free(file, ending, overwrite)
    run = Run.load(folder)
    if picture is not None and len(run.shape) != 3:
        raise InputError(
            f"{folder} makes vectors {list(run.shape)}, of which there is no picture. Name --npz FILE.npz."
        )
    run.generator.to(device_named(device))
    labels, told = labels_of(run, n, _class(folder, run, label)), []
    if against is None:
        x, labels = sample(run, n, labels, seed)
    else:
        found = search(run, n, labels, seed, against, judge)
        x, labels, told = found.x, found.labels, found.told
        if not len(x):
            return [], told
    if picture is not None:
        write(picture, figures.png_file(figures.sheet(figures.shown(x.numpy()), _columns(len(x)))))
    if npz is not None:
        write(npz, _archive(x.numpy(), labels))
    return files, told


def _columns(n: int) -> int:
    return math.ceil(math.sqrt(n))


def _archive(x: np.ndarray, labels: torch.Tensor | None) -> bytes:
    """x as the npz files of an audit hold it: images [N, H, W] or [N, H, W, C] uint8, vectors float32."""
    if x.ndim == 4:
        x = np.moveaxis(np.round(255 * x).astype(np.uint8), 1, 3)
        x = x[..., 0] if x.shape[3] == 1 else x
    arrays = {"x": x} if labels is None else {"x": x, "y": labels.numpy()}
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def check_asked(n: int, seed: int) -> None:
    """InputError for numbers that make no sense."""
    if n < 1:
        raise InputError(f"--n is {n}; at least one sample is needed.")
    if not 0 <= seed < 2**32:
        raise InputError(f"--seed is {seed}; it must be within 0 and {2**32 - 1}.")


def check_free(file: Path, ending: str | None, overwrite: bool) -> None:
    """InputError unless the file ends so (None: as it likes), its folder is there, and nothing is in its place."""
    if ending is not None and file.suffix != ending:
        raise InputError(
            f"{file} was named for a file that ends in {ending}. Pictures: --out FILE.png, arrays: --npz FILE.npz."
        )
    if file.is_dir() or (file.exists() and not overwrite):
        raise InputError(f"{file} exists. Name another, or replace it with --overwrite.")
    if not file.parent.is_dir():
        raise InputError(f"There is no folder {file.parent} for {file.name}. Make it, or name another.")


def _class(folder: Path, run: Run, text: str | None) -> int | None:
    """The number of a class that was named or numbered."""
    if text is None:
        return None
    if run.classes is None:
        raise InputError(f"--class {text}: {folder} was trained without classes. Leave --class out.")
    about = SavedRun.load(folder).about if (folder / ABOUT).is_file() else {}
    names = about.get("data", {}).get("classes") or [str(k) for k in range(run.classes)]
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < run.classes:
        return int(text)
    raise unknown("class", text, names)

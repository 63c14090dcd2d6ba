"""How is what a trained generator of sequences writes put on the terminal, and into files?"""

import io
from pathlib import Path

import numpy as np
import torch

from advgan.checkpoint import unpack, write
from advgan.run import GENERATOR
from advgan.sequences import generators
from advgan.sequences.sampling import sample
from attacks.errors import InputError
from reports.devices import device_named
from reports.sequencing.written import Reader
from reports.training.drawn import check_asked, check_free


def draw(
    folder: Path,
    n: int,
    *,
    seed: int,
    temperature: float | None,
    out: Path | None,
    npz: Path | None,
    device: str,
    overwrite: bool,
) -> tuple[list[Path], list[str]]:
    """Writes n sequences, one a line, or as an array x [n, T]; without a file, the lines to print, escaped.

    InputError for what cannot be written, before anything is.
    """
    check_asked(n, seed)
    for file, endings in ((out, None), (npz, ".npz")):
        if file is not None:
            check_free(file, endings, overwrite)
    model, reader = generators.load(folder).to(device_named(device)), Reader.of(folder)
    config = unpack(folder / GENERATOR)[1]["config"]
    if "length" not in config:
        raise InputError(f"{folder} was not written by `advgan train sequence`: its length is not written down.")
    model = model if temperature is None else model.at_temperature(temperature)
    ids = torch.arange(n, device=model.out.device)
    tokens = sample(model, ids, config["length"], seed).cpu().numpy()
    if out is not None:
        write(out, "".join(f"{line}\n" for line in reader.lines(tokens)).encode())
    if npz is not None:
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, x=tokens)
        write(npz, file.getvalue())
    files = [file for file in (out, npz) if file is not None]
    return files, [] if files else reader.shown(tokens)

"""How are images and labels read from a WebDataset tar, none of which is ever unpacked to the disk?"""

import itertools
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from attacks.errors import InputError
from reports.sources.dataset import Dataset, Pieces, class_names
from reports.sources.images import ENDINGS, Frame, Picture, stacked
from reports.sources.limits import check_count

LABEL, ABOUT = ".cls", ".json"  # a class number as text; an object with "label" (or "cls")
MOST_BYTES = 2**26  # of one file in it


def load_tar(path: Path, *, image_size: int | None = None) -> Dataset:
    """Files that share a name are one example: an image, and NAME.cls or NAME.json with its label.

    Of several images of one name the first counts. Whatever else is in the archive is passed over: links, devices,
    folders and where names lead to, too, since everything is read in place.
    """
    count, largest = 0, 0
    for label in _labels(path):
        count, largest = count + 1, max(largest, label)
        check_count(str(path), count)
    if count == 0:
        raise InputError(f"{path} holds no image with a label; NAME.png beside NAME.cls or NAME.json is needed.")
    frame = Frame.of(_pictures(path), image_size)

    def read(examples: int, batch_size: int) -> Pieces:
        return stacked(itertools.islice(_pictures(path), examples), frame, batch_size)

    return Dataset(str(path), class_names(None, largest, str(path)), frame.shape, count, read)


def _labels(path: Path) -> Iterator[int]:
    return (picture.label for picture in _pictures(path, images=False))


def _pictures(path: Path, images: bool = True) -> Iterator[Picture]:
    """In the order of the archive; without `images` their bytes are left out."""
    try:
        with tarfile.open(path, "r:") as archive:
            for key, members in itertools.groupby(_files(archive), key=lambda each: _parts(each.name)[0]):
                example = {_parts(member.name)[1]: member for member in members}
                image = next((example[end] for end in example if end in ENDINGS), None)
                label = _label(archive, example, f"{key} in {path}")
                if image is not None and label is not None:
                    yield Picture(f"{image.name} in {path}", _content(archive, image) if images else b"", label)
    except (OSError, tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a whole tar file ({error or type(error).__name__}).") from error


def _files(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while member := archive.next():
        archive.members = []  # type: ignore[attr-defined]  # else every header that was read is kept
        if member.isreg() and not member.issparse():
            yield member


def _parts(name: str) -> tuple[str, str]:
    """folder/0001.cls -> (folder/0001, .cls): the key ends at the first dot of the file's name."""
    file = PurePosixPath(name).name
    stem, _, end = file.partition(".")
    return name.removesuffix(file) + stem, f".{end.lower()}"


def _label(archive: tarfile.TarFile, example: dict[str, tarfile.TarInfo], what: str) -> int | None:
    """InputError where it is there and is no class number."""
    if LABEL in example:
        said: object = _content(archive, example[LABEL]).decode("ascii", "replace").strip()
    elif ABOUT in example:
        try:
            about = json.loads(_content(archive, example[ABOUT]))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{what}: its json cannot be read ({error}).") from error
        said = about.get("label", about.get("cls")) if isinstance(about, dict) else None
    else:
        return None
    text = str(said)
    if isinstance(said, bool) or not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InputError(f"{what}: its label is {text[:40]!r}; class numbers from 0 are needed.")
    return int(text)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > MOST_BYTES:
        raise InputError(f"{member.name} says that it has {member.size:,} bytes; at most {MOST_BYTES:,} are read.")
    file = archive.extractfile(member)
    content = b"" if file is None else file.read(member.size)
    if len(content) < member.size:
        raise InputError(f"{member.name} ends before its {member.size:,} bytes: the archive is cut short.")
    return content

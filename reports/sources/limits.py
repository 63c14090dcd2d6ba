"""How large may what a file holds be, before anything is made of it?

A small file can promise much: a zip of zeros, a header with a huge shape, an image of a million by a million pixels.
"""

import io
import os
import zipfile
import zlib
from pathlib import Path

from attacks.errors import InputError

MOST_PIXELS = 2**25  # of one image
MOST_EXAMPLES = 10**8
SHARE = 0.5  # of the machine's memory, for what one file holds


def check_room(what: str, size: int) -> None:
    """InputError where so many bytes are more than the machine should be asked for."""
    most = int(SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    if size > most:
        raise InputError(
            f"{what} holds {size:,} bytes once it is unpacked, and this machine's memory allows {most:,}. "
            "Cut it into parts, or take a larger machine."
        )


def check_count(what: str, count: int) -> None:
    if count > MOST_EXAMPLES:
        raise InputError(f"{what} says that it has {count:,} examples; at most {MOST_EXAMPLES:,} are taken.")


def unzipped(path: Path, what: str) -> dict[str, bytes]:
    """The files in a zip archive by name, in memory; nothing is written. InputError where it is none, or too large."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [each for each in archive.infolist() if not each.is_dir()]
            check_room(str(path), sum(each.file_size for each in members))
            if len({each.filename for each in members}) < len(members):
                raise InputError(f"{path} holds a file twice, which readers of archives may take for one another.")
            return {each.filename: archive.read(each) for each in members}
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"{path} is not a whole {what} ({error or type(error).__name__}).") from error


def zipped(files: dict[str, bytes]) -> io.BytesIO:
    """A plain archive of these files and nothing else, as PyTorch reads them."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    packed.seek(0)
    return packed

"""Is an optional package there, and what is said where it is not?"""

import importlib
from typing import Any

from attacks.errors import InputError


def needed(package: str, spec: str, extra: str) -> Any:
    """The module; InputError, which says how to install it, where it is not there."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"{spec} needs {package}, which cannot be imported ({error}): pip install 'advgan[{extra}]'."
        ) from error

"""How is a saved table read back, and what is said where it is not whole?"""

from pathlib import Path

import pandas as pd
import pyarrow as pa

from attacks.errors import InputError


def read_table(path: Path, columns: list[str], remedy: str) -> pd.DataFrame:
    """InputError, which ends with the remedy, where the parquet file cannot be read or lacks one of the columns."""
    try:
        frame = pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({error}). {remedy}") from error
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(f"{path} lacks the columns {', '.join(missing)}. {remedy}")
    return frame

"""Files that somebody else may have written: read within bounds, and checked value by value.

In: a path, or JSON values. Out: bytes and values of known types; or an error that names the field.
"""

from aimz_lab.files.json_text import (
    NONFINITE,
    Limits,
    checksum_of,
    parse_json,
    plain_number,
    read_sealed,
    sealed_text,
    unsealed,
)
from aimz_lab.files.refusals import Malformed, refusing
from aimz_lab.files.regular_file import as_path, machine_bytes, open_regular
from aimz_lab.files.value import MOST_EPOCHS, Value

__all__ = [
    "MOST_EPOCHS",
    "NONFINITE",
    "Limits",
    "Malformed",
    "Value",
    "as_path",
    "checksum_of",
    "machine_bytes",
    "open_regular",
    "parse_json",
    "plain_number",
    "read_sealed",
    "refusing",
    "sealed_text",
    "unsealed",
]

"""How much a label counts that joins the readings of several readers."""

from typing import Any

READER_SD_MONTHS = 6.0
"""Standard deviation between readers where it is not known, in months; a choice of this package."""
_NUM_EXPECTED = 4.0


def weigh_label(num_readers: Any, reader_sd_months: Any) -> Any:
    """Return the inverse variance of a label, by that of one reader with the error `READER_SD_MONTHS`.

    The variance between two or three readers is hardly known: it is averaged with `READER_SD_MONTHS` squared, which
    counts as much as five readers. A label of one reader has the weight 1, that of `n` with the usual error `n`.

    Args:
        num_readers: Number of readers, at least 1; a float, an array or a tensor of floats.
        reader_sd_months: Standard deviation between them, in months; of one reader it does not count.
    """
    degrees = num_readers - 1.0
    squares = _NUM_EXPECTED + degrees * (reader_sd_months / READER_SD_MONTHS) ** 2
    return num_readers * (_NUM_EXPECTED + degrees) / squares

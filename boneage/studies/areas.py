"""The area of the field of a radiograph beside that of the hand in it."""

from pathlib import Path

import numpy as np

from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.io.isolated import read_isolated
from boneage.preprocessing.process import analyse_hand, find_reasons
from boneage.preprocessing.segmentation.film import find_film

AREAS = ("field_area_mm2", "hand_area_mm2", "hand_share")
"""What is measured: areas at the hand, in mm², and the share of the field that is hand, in [0, 1]."""


def measure_areas(path: str | Path) -> dict[str, float]:
    """Measure the field and the hand of a radiograph.

    The field is what shows exposed film: without the uniform borders that shutters leave. Areas are by `PixelSpacing`,
    else by `ImagerPixelSpacing` and the magnification that the header states.

    Args:
        path: A radiograph.

    Returns:
        `AREAS`; areas are NaN where the file states no spacing, and those of a hand that the gate rejects, too.

    Raises:
        UnreadableImageError: If it cannot be read.
    """
    radiograph, config = read_isolated(Path(path)), PreprocessingConfig()
    hand = analyse_hand(radiograph, config)
    film = find_film(hand.pixels)
    num_field, num_hand = int(film.sum()), int((film & hand.segmentation.mask).sum())
    is_trusted = num_field > 0 and not find_reasons(radiograph, hand, gate=config.gate)
    spacing = radiograph.pixel_spacing_mm
    mm2 = np.nan if spacing is None else spacing[0] * spacing[1]
    return {
        "field_area_mm2": num_field * mm2,
        "hand_area_mm2": num_hand * mm2 if is_trusted else np.nan,
        "hand_share": num_hand / num_field if is_trusted else np.nan,
    }

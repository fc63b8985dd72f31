"""The radiographs of a record folder, worst first: their tiles, and their sources on demand."""

import base64
import dataclasses
import functools
import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from boneage.base.errors import BoneAgeError
from boneage.configuration.build import build
from boneage.preprocessing.config import PreprocessingConfig, fingerprint
from boneage.preprocessing.crop.crop import Box
from boneage.preprocessing.hand.find_hand import Hand
from boneage.preprocessing.hand.interactive_correction import Click, correct_mask, rotate_predictor
from boneage.preprocessing.hand.segmenters import HAND_SAM_FILE
from boneage.preprocessing.io.isolated import read_isolated
from boneage.preprocessing.io.radiograph import Radiograph
from boneage.preprocessing.jobs.contact_sheets import Tile, draw_tile, list_tiles
from boneage.preprocessing.process import analyse_hand, process
from boneage.preprocessing.segmentation.hand_sam import load_hand_sam
from boneage.preprocessing.sources.listing import find_radiographs, list_files
from boneage.preprocessing.sources.review_csv import Review
from boneage.tfrecords.info import read_info
from boneage.tfrecords.writer import REVIEW_FOLDER

# Radiographs cached with their hands: the current one and the one before.
_NUM_KEPT = 2
# Tolerance of a simplified outline, invisible on a screen, as a share of the longest side.
_OUTLINE_SHARE = 1 / 2000


class DeskError(BoneAgeError):
    """Raised if records cannot be reviewed with the given source."""


@dataclasses.dataclass(frozen=True, eq=False)
class ProcessedHand:
    """A radiograph processed with its review decision.

    Args:
        hand: The detected hand.
        crop: The crop, also of a rejected hand; None without a hand.
    """

    hand: Hand
    crop: UInt8[np.ndarray, "size size"] | None


class Desk:
    """The radiographs of a record folder, worst first.

    Args:
        records: The record folder.
        source: Source of the records: the folder given to `boneage prepare`.

    Raises:
        BoneAgeError: If there are no contact sheets, a radiograph is missing from the source, or the records have
            different preprocessing from this version of the package.
    """

    def __init__(self, records: Path, *, source: Path):
        info = read_info(records)
        self._config = build(PreprocessingConfig, info.get("preprocessing", {}), where=f"{records} preprocessing")
        if fingerprint(self._config) != info["fingerprint"]:
            raise DeskError(f"{records}: were prepared with different preprocessing; prepare the records again.")
        self.tiles: list[Tile] = list_tiles(records / REVIEW_FOLDER)
        files, _ = find_radiographs(list_files(source)[0])
        paths = {file.id: file.path for file in files}
        if missing := [tile.id for tile in self.tiles if tile.id not in paths]:
            raise DeskError(f"{source}: does not contain {missing[0]!r} of {records}; give the source of the records.")
        self._paths = [paths[tile.id] for tile in self.tiles]
        # One at a time: parallel requests would compete for the cores, and DICOM decoding is not thread-safe.
        self._working = threading.Lock()
        self._open = functools.lru_cache(_NUM_KEPT)(self._read)
        self._examine = functools.lru_cache(_NUM_KEPT)(self._find_hand)
        self._predict = load_hand_sam(HAND_SAM_FILE)

    def draw_tile(self, number: int, review: Review) -> bytes:
        """Draw a radiograph with its outline, and its crop, as JPEG: from the contact sheet, or again if corrected.

        Args:
            number: Index of the radiograph in `tiles`.
            review: Its review decision.

        Raises:
            BoneAgeError: If sheet or radiograph cannot be read.
        """
        if not (review.rotate_degrees or review.flip or review.mask):
            return self.tiles[number].read()
        processed = self.process(number, review)
        return base64.b64decode(draw_tile(processed.hand, processed.crop))

    def process(self, number: int, review: Review) -> ProcessedHand:
        """Preprocess a radiograph with its review decision.

        Raises:
            UnreadableImageError: If it cannot be read.
        """
        with self._working:
            hand = self._examine(number, review.mask)
            return ProcessedHand(hand, process(self._open(number), self._config, review=review, hand=hand).image)

    def correct(
        self, number: int, review: Review, *, clicks: Sequence[Click], box: Box | None
    ) -> Bool[np.ndarray, "height width"]:
        """Correct a mask with clicks or a box; see `boneage.preprocessing.hand.interactive_correction`.

        Raises:
            UnreadableImageError: If the radiograph cannot be read.
            ValueError: If `box` is too small or outside the image.
        """
        with self._working:
            hand = self._examine(number, review.mask)
            predict = rotate_predictor(self._predict, quarter_turns=hand.pose.quarter_turns if hand.pose else 0)
            # A box asks for another hand than the current mask.
            return correct_mask(
                predict, hand.pixels, clicks=clicks, mask=None if box else hand.segmentation.mask, box=box
            )

    def _read(self, number: int) -> Radiograph:
        return read_isolated(self._paths[number])

    def _find_hand(self, number: int, mask: Path | None) -> Hand:
        return analyse_hand(self._open(number), self._config, review=Review(mask=mask))


def trace_outline(mask: Bool[np.ndarray, "height width"]) -> str:
    """Trace the outline of a mask as an SVG path, in pixels of the image."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    traced = (cv2.approxPolyDP(outline, _OUTLINE_SHARE * max(mask.shape), True)[:, 0] for outline in outlines)
    return "".join(f"M{'L'.join(f'{x + 0.5} {y + 0.5}' for x, y in points)}Z" for points in traced)

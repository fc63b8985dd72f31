"""The radiographs of a record folder, worst first: their tiles, and what their sources show on demand."""

import base64
import dataclasses
import functools
import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from boneage.config import build
from preprocessing.correct import Click, correct_mask, looking_turned
from preprocessing.crop import Box
from preprocessing.hand import Hand
from preprocessing.hand_sam import load_hand_sam
from preprocessing.listing import find_radiographs, list_files
from preprocessing.pipeline import PreprocessingConfig, Untrusted, cut_out, examine, fingerprint
from preprocessing.radiograph import Radiograph
from preprocessing.read import read_radiograph
from preprocessing.review import Review
from preprocessing.segmenters import HAND_SAM_FILE
from preprocessing.sheets import Tile, draw_tile, find_tiles
from tfrecords.errors import BoneAgeError
from tfrecords.info import read_info
from tfrecords.write import REVIEW_FOLDER

# Radiographs that are kept in memory with their hands: the one that someone works on, and the one before.
_NUM_KEPT = 2
# Detail of an outline that nobody sees on a screen, as a share of the longest side.
_OUTLINE_SHARE = 1 / 2000


class DeskError(BoneAgeError):
    """Records that cannot be reviewed with the given source."""


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """A radiograph as its review leaves it.

    Args:
        hand: What was found of the hand.
        crop: The square that comes of it, or would; None where there is no hand.
    """

    hand: Hand
    crop: UInt8[np.ndarray, "size size"] | None


class Desk:
    """The radiographs of a record folder, worst first.

    Args:
        records: The record folder.
        source: What it was prepared from.

    Raises:
        BoneAgeError: If there are no contact sheets, a radiograph is not in the source, or this version of the package
            would prepare other pixels.
    """

    def __init__(self, records: Path, *, source: Path):
        info = read_info(records)
        self._config = build(PreprocessingConfig, info["preprocessing"], where=f"{records} preprocessing")
        if fingerprint(self._config) != info["fingerprint"]:
            raise DeskError(f"{records}: prepared by another version of boneage; prepare the records again.")
        self.tiles: list[Tile] = find_tiles(records / REVIEW_FOLDER)
        files, _ = find_radiographs(list_files(source)[0])
        paths = {file.id: file.path for file in files}
        if missing := [tile.id for tile in self.tiles if tile.id not in paths]:
            raise DeskError(f"{source}: lacks {missing[0]!r} of {records}; give the source that it was prepared from.")
        self._paths = [paths[tile.id] for tile in self.tiles]
        # One after the other: they would but compete for the cores, and no two DICOM files may be decoded at once.
        self._working = threading.Lock()
        self._open = functools.lru_cache(_NUM_KEPT)(self._read)
        self._examine = functools.lru_cache(_NUM_KEPT)(self._find_hand)
        self._predict = load_hand_sam(HAND_SAM_FILE)

    def draw_tile(self, number: int, review: Review) -> bytes:
        """Draw a radiograph with its outline, and its crop, JPEG: from the contact sheet, or anew where it was mended.

        Args:
            number: Place of the radiograph among `tiles`.
            review: What was decided of it.

        Raises:
            BoneAgeError: If sheet or radiograph cannot be read.
        """
        if not (review.rotate_degrees or review.flip or review.mask):
            return self.tiles[number].read()
        look = self.look(number, review)
        return base64.b64decode(draw_tile(look.hand, look.crop))

    def look(self, number: int, review: Review) -> Look:
        """Take a radiograph through the preprocessing of the records, as a review leaves it.

        Raises:
            UnreadableImage: If it cannot be read.
        """
        with self._working:
            path, radiograph = self._paths[number], self._open(number)
            hand = self._examine(number, review.mask)
            try:
                return Look(hand, cut_out(radiograph, hand, self._config, path=path, review=review).image)
            except Untrusted as error:
                return Look(hand, error.crop)

    def correct(
        self, number: int, review: Review, *, clicks: Sequence[Click], box: Box | None
    ) -> Bool[np.ndarray, "height width"]:
        """Draw the mask of a radiograph as a person wants it; see `preprocessing.correct`.

        Raises:
            UnreadableImage: If the radiograph cannot be read.
            ValueError: If `box` is too small or not within the frame.
        """
        with self._working:
            hand = self._examine(number, review.mask)
            predict = looking_turned(self._predict, quarters=hand.pose.quarters if hand.pose else 0)
            # A box asks for another hand than the one that was found or drawn.
            return correct_mask(
                predict, hand.pixels, clicks=clicks, mask=None if box else hand.segmentation.mask, box=box
            )

    def _read(self, number: int) -> Radiograph:
        return read_radiograph(self._paths[number])

    def _find_hand(self, number: int, mask: Path | None) -> Hand:
        return examine(self._open(number), self._config, review=Review(mask=mask))


def trace(mask: Bool[np.ndarray, "height width"]) -> str:
    """Trace the outline of a mask as a path of SVG, in pixels of the frame."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    traced = (cv2.approxPolyDP(each, _OUTLINE_SHARE * max(mask.shape), True)[:, 0] for each in outlines)
    return "".join(f"M{'L'.join(f'{x + 0.5} {y + 0.5}' for x, y in each)}Z" for each in traced)

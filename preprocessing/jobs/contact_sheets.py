"""Contact sheets: a small picture of the mask and crop of each radiograph, worst first, for people to inspect."""

import base64
import dataclasses
import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from boneage.base.errors import BoneAgeError
from boneage.base.files import open_atomic, write_text
from boneage.base.json_files import DamagedFileError, parse_json
from boneage.preprocessing.crop.crop import resize
from boneage.preprocessing.crop.letterbox import Letterbox
from boneage.preprocessing.hand.find_hand import Hand

TILES_FILE = "tiles.jsonl"
TILES_PER_PAGE = 200
_TILE_PX = 160
_JPEG_QUALITY = 70
_CONTOUR_BGR = (80, 220, 80)
_OTHER_BGR = (190, 130, 90)
_POINT_BGR = (60, 120, 255)

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 14px system-ui, sans-serif; margin: 1.5rem; background: #16181d; color: #e8e8e8 }}
a {{ color: #8ab4f8 }} nav a {{ margin-right: .6em }}
main {{ display: flex; flex-wrap: wrap; gap: 12px; margin-top: 1rem }}
figure {{ margin: 0; width: {width}px; background: #22252c; border-radius: 4px; overflow: hidden }}
figure.rejected {{ outline: 2px solid #d9534f }}
figcaption {{ padding: 4px 8px; overflow-wrap: anywhere }} img {{ display: block; width: {width}px; height: {tile}px }}
b {{ color: #ff8a80; font-weight: 600 }}
</style>
<h1>{title}</h1>
<p>{summary} Radiograph with the outline of the mask (green), of the masks that were not chosen (blue) and the
landmarks, then the crop. To override the gate: run <code>boneage review</code>, or
write a CSV with <code>id,decision,value</code> (keep, reject, rotate and degrees, flip, mask and the name of a PNG),
and pass the CSV to <code>boneage prepare --decisions</code>.</p>
<nav>{links}</nav>
<main>
{figures}
</main>
</html>
"""


@dataclasses.dataclass(frozen=True)
class Tile:
    """A radiograph on the contact sheets: one line of `tiles.jsonl`.

    Args:
        id: Its id.
        score: Score of its mask, in [0, 1]; None where the segmenter measures nothing.
        side: Which hand it shows, `"left"` or `"right"`, or `""` where unknown.
        reasons: Why it was rejected; none where it was not.
        file: The `tiles.jsonl` that contains it.
        offset: Byte of the file where its line begins.
    """

    id: str
    score: float | None
    side: str
    reasons: tuple[str, ...]
    file: Path
    offset: int

    def read(self) -> bytes:
        """Read its picture, the JPEG of `draw_tile`.

        Raises:
            ContactSheetError: If the file has changed since it was listed.
        """
        row = _read_row(self.file, self.offset)
        if row is None or row["id"] != self.id:
            raise ContactSheetError(f"{self.file}: changed while in use; restart `boneage review`.")
        return base64.b64decode(row["tile"])


class ContactSheetError(BoneAgeError):
    """Contact sheets that are missing or cannot be read."""


def draw_tile(hand: Hand, crop: UInt8[np.ndarray, "size size"] | None) -> str:
    """Draw a radiograph with the outlines of its mask and of the masks not chosen, its landmarks, and its crop.

    Args:
        hand: The hand found in it.
        crop: The prepared square; black where None.

    Returns:
        A JPEG of 320 x 160 pixels, base64.
    """
    box = Letterbox(hand.pixels.shape, _TILE_PX)
    raw = cv2.cvtColor(resize(hand.pixels, size=box.frame_size[::-1]), cv2.COLOR_GRAY2BGR)
    for candidate in hand.segmentation.candidates[1:]:
        draw_outline(raw, candidate.logits > 0, colour=_OTHER_BGR)
    draw_outline(raw, hand.segmentation.mask, colour=_CONTOUR_BGR)
    if hand.landmarks is not None:
        for x, y in (hand.landmarks.points + 0.5) * box.scale:
            cv2.circle(raw, (int(x), int(y)), 1, _POINT_BGR, -1)
    tile = np.zeros((_TILE_PX, 2 * _TILE_PX, 3), np.uint8)
    tile[box.frame_slices] = raw
    if crop is not None:
        small = resize(crop, size=(_TILE_PX, _TILE_PX))
        tile[:, _TILE_PX:] = small[..., None]
    _, jpeg = cv2.imencode(".jpg", tile, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return base64.b64encode(jpeg.tobytes()).decode("ascii")


def draw_outline(picture: np.ndarray, mask: np.ndarray, *, colour: tuple[int, int, int], width_px: int = 1) -> None:
    """Draw the outline of a mask onto a picture of the same frame.

    Args:
        picture: Shape `(rows, columns, 3)`, uint8; it is drawn on.
        mask: The mask, bool, of any size.
        colour: Colour, in the order of the picture's channels.
        width_px: Width of the line.
    """
    sized = cv2.resize(mask.astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(sized, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, colour, width_px, cv2.LINE_AA if width_px > 1 else cv2.LINE_8)


def write_contact_sheets(folder: Path, parts: Sequence[Path]) -> None:
    """Write the contact sheets of a preparation: rejected radiographs first, then those with the lowest mask scores.

    `tiles.jsonl` contains the tiles in this order; the pages are drawn from it. Pictures are read one page at a time.

    Args:
        folder: Where `tiles.jsonl` and the pages go; made if there is a tile at all.
        parts: Files of tiles, one JSON document a line: `id`, `score`, `side`, `reasons`, `tile` (the picture).
    """
    tiles = [tile for part in parts for tile in _read_tiles(part)]
    if not tiles:
        return
    tiles.sort(key=lambda tile: (not tile.reasons, tile.score or 0.0, tile.id))
    folder.mkdir()
    with open_atomic(folder / TILES_FILE) as file:
        for tile in tiles:
            file.write(_read_line(tile.file, tile.offset))
    _write_pages(folder, list_tiles(folder))


def list_tiles(folder: Path) -> list[Tile]:
    """List the radiographs on the contact sheets of a preparation in their order; pictures stay on the disk.

    Args:
        folder: Where `write_contact_sheets` wrote.

    Raises:
        ContactSheetError: If there are none.
    """
    path = folder / TILES_FILE
    if not path.exists():
        raise ContactSheetError(
            f"{folder}: no contact sheets; `boneage prepare` writes them unless the segmenter is 'none'."
        )
    return list(_read_tiles(path))


def _write_pages(folder: Path, tiles: Sequence[Tile]) -> None:
    num_rejected = sum(bool(tile.reasons) for tile in tiles)
    pages = [tiles[start : start + TILES_PER_PAGE] for start in range(0, len(tiles), TILES_PER_PAGE)]
    names = ["index.html", *(f"page-{number}.html" for number in range(2, len(pages) + 1))]
    for number, (name, shown) in enumerate(zip(names, pages, strict=True), start=1):
        page = _PAGE.format(
            title=f"Hands found, page {number} of {len(pages)}",
            summary=f"{len(tiles):,} radiographs, {num_rejected:,} rejected; worst first.",
            links=" ".join(f'<a href="{link}">{index}</a>' for index, link in enumerate(names, start=1)),
            figures="\n".join(map(_figure, shown)),
            width=2 * _TILE_PX,
            tile=_TILE_PX,
        )
        write_text(folder / name, page)


def _read_tiles(path: Path) -> Iterator[Tile]:
    with path.open("rb") as file:
        offset = 0
        for line in file:
            try:
                row = parse_json(line)
                tile = Tile(row["id"], row["score"], row["side"], tuple(row["reasons"]), file=path, offset=offset)
            except (KeyError, TypeError, ValueError) as error:
                raise DamagedFileError(
                    f"{path}: damaged ({error}); remove its folder, and prepare the records again."
                ) from error
            yield tile
            offset += len(line)


def _read_line(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.readline()


def _read_row(path: Path, offset: int) -> dict[str, Any] | None:
    """Read the tile that begins at byte `offset`, or None where none begins."""
    try:
        row = parse_json(_read_line(path, offset))
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"id", "tile"} <= row.keys() else None


def _figure(tile: Tile) -> str:
    score = "" if tile.score is None else f" {tile.score:.2f}"
    reasons = f" <b>{html.escape(', '.join(tile.reasons))}</b>" if tile.reasons else ""
    side = " right" if tile.side == "right" else ""
    kind = ' class="rejected"' if tile.reasons else ""
    id = html.escape(tile.id)
    picture = base64.b64encode(tile.read()).decode("ascii")
    return (
        f'<figure{kind}><img loading="lazy" alt="{id}" src="data:image/jpeg;base64,{picture}">'
        f"<figcaption>{id}{score}{side}{reasons}</figcaption></figure>"
    )

"""Contact sheets: small pictures of what was done to each radiograph, worst first, for people to look through."""

import base64
import dataclasses
import html
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from preprocessing.crop import resize
from preprocessing.hand import Hand
from preprocessing.letterbox import Letterbox
from tfrecords.errors import BoneAgeError
from tfrecords.write import write_text

ROWS_A_PAGE = 200
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
landmarks, then the crop that was kept, or would have been. To overrule: decide on them by <code>boneage review</code>,
or write <code>id,decision,value</code> into a CSV (keep, reject, rotate and degrees, flip, mask and a PNG's name), and
give the CSV to <code>boneage prepare --review</code>.</p>
<nav>{links}</nav>
<main>
{figures}
</main>
</html>
"""

# A figure as `_figure` writes it.
_FIGURE = re.compile(
    r'<figure[^>]*><img [^>]*alt="(?P<id>[^"]*)" src="data:image/jpeg;base64,(?P<picture>[^"]*)"><figcaption>(?P=id)'
    r"(?: (?P<score>\d\.\d\d))?(?P<side> right)?(?: <b>(?P<reasons>[^<]*)</b>)?</figcaption></figure>\n?"
)


@dataclasses.dataclass(frozen=True)
class Tile:
    """A radiograph on a contact sheet.

    Args:
        id: Its id.
        score: Trust in its mask, in [0, 1], to two digits; None where the segmenter measures nothing.
        side: `"right"` where it was mirrored, else `""`.
        reasons: Why it was rejected; none where it was not.
        page: The page that it stands on.
        offset: Byte of the page where it begins.
    """

    id: str
    score: float | None
    side: str
    reasons: tuple[str, ...]
    page: Path
    offset: int

    def read(self) -> bytes:
        """Read its picture, the JPEG of `draw_tile`."""
        with self.page.open("rb") as file:
            file.seek(self.offset)
            found = _FIGURE.fullmatch(file.readline().decode())
        if found is None:
            raise SheetsError(f"{self.page}: changed since it was first read; start again.")
        return base64.b64decode(found["picture"])


class SheetsError(BoneAgeError):
    """Contact sheets that are missing or cannot be read."""


def draw_tile(hand: Hand, crop: UInt8[np.ndarray, "size size"] | None) -> str:
    """Draw a radiograph with its mask's outline, those of the masks not chosen, and landmarks, and beside it the crop.

    Args:
        hand: What was found.
        crop: The prepared square; None leaves its place dark.

    Returns:
        A JPEG of 320 x 160 pixels, base64.
    """
    box = Letterbox(hand.pixels.shape, _TILE_PX)
    raw = cv2.cvtColor(resize(hand.pixels, size=box.size[::-1]), cv2.COLOR_GRAY2BGR)
    for candidate in hand.segmentation.candidates[1:]:
        draw_outline(raw, candidate.logits > 0, colour=_OTHER_BGR)
    draw_outline(raw, hand.segmentation.mask, colour=_CONTOUR_BGR)
    if hand.landmarks is not None:
        for x, y in (hand.landmarks.points + 0.5) * box.scale:
            cv2.circle(raw, (int(x), int(y)), 1, _POINT_BGR, -1)
    tile = np.zeros((_TILE_PX, 2 * _TILE_PX, 3), np.uint8)
    tile[box.inside] = raw
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


def write_sheets(folder: Path, parts: Sequence[Path]) -> None:
    """Write the contact sheets of a preparation: rejected radiographs first, then those with the least trusted masks.

    Pictures are read part by part, and stay on the disk until their page is written.

    Args:
        folder: Where the pages go; made if there is a picture at all.
        parts: Files of one JSON document a line: `id`, `score`, `reasons`, `tile`.
    """
    places: list[tuple[bool, float, str, Path, int]] = []
    for part in parts:
        with part.open("rb") as file:
            while line := (file.tell(), file.readline()):
                offset, text = line
                if not text:
                    break
                row = json.loads(text)
                score = 0.0 if row["score"] is None else row["score"]
                places.append((not row["reasons"], score, row["id"], part, offset))
    if not places:
        return
    places.sort(key=lambda place: place[:3])
    folder.mkdir()
    rejected = sum(not accepted for accepted, *_ in places)
    num_pages = -(-len(places) // ROWS_A_PAGE)
    names = [_page_name(number) for number in range(1, num_pages + 1)]
    for number, name in enumerate(names):
        chosen = places[number * ROWS_A_PAGE : (number + 1) * ROWS_A_PAGE]
        figures = "\n".join(_figure(_read_row(part, offset)) for *_, part, offset in chosen)
        page = _PAGE.format(
            title=f"Hands found, page {number + 1} of {num_pages}",
            summary=f"{len(places):,} radiographs, {rejected:,} rejected; worst first.",
            links=" ".join(f'<a href="{each}">{index}</a>' for index, each in enumerate(names, start=1)),
            figures=figures,
            width=2 * _TILE_PX,
            tile=_TILE_PX,
        )
        write_text(folder / name, page)


def find_tiles(folder: Path) -> list[Tile]:
    """List the radiographs on the contact sheets of a preparation in their order; pictures stay on the disk.

    Args:
        folder: Where `write_sheets` wrote.

    Raises:
        SheetsError: If there are none.
    """
    tiles: list[Tile] = []
    for number in itertools.count(1):
        page = folder / _page_name(number)
        if not page.exists():
            break
        with page.open("rb") as file:
            offset = 0
            for line in file:
                if line.startswith(b"<figure") and (found := _FIGURE.fullmatch(line.decode())):
                    score, reasons = found["score"], html.unescape(found["reasons"] or "")
                    tiles.append(
                        Tile(
                            id=html.unescape(found["id"]),
                            score=float(score) if score else None,
                            side=(found["side"] or "").strip(),
                            reasons=tuple(reasons.split(", ")) if reasons else (),
                            page=page,
                            offset=offset,
                        )
                    )
                offset += len(line)
    if not tiles:
        raise SheetsError(f"{folder}: no contact sheets; they are made of hands, by `boneage prepare`.")
    return tiles


def _page_name(number: int) -> str:
    return "index.html" if number == 1 else f"page-{number}.html"


def _read_row(part: Path, offset: int) -> dict[str, Any]:
    with part.open("rb") as file:
        file.seek(offset)
        return json.loads(file.readline())


def _figure(row: dict[str, Any]) -> str:
    score = "" if row["score"] is None else f" {row['score']:.2f}"
    reasons = f" <b>{html.escape(', '.join(row['reasons']))}</b>" if row["reasons"] else ""
    side = f" {html.escape(row['side'])}" if row["side"] == "right" else ""
    kind = ' class="rejected"' if row["reasons"] else ""
    id = html.escape(row["id"])
    return (
        f'<figure{kind}><img loading="lazy" alt="{id}" src="data:image/jpeg;base64,{row["tile"]}">'
        f"<figcaption>{id}{score}{side}{reasons}</figcaption></figure>"
    )

"""Draw the way of one radiograph and of one experiment through the rooms.

python docs/draw_architecture.py docs/images/architecture.svg
"""

import html
import sys
from pathlib import Path

WIDTH, BOX_WIDTH, BOX_HEIGHT, STEP = 1120, 156, 52, 184
LEFT, RADIOGRAPH_TOP, EXPERIMENT_TOP = 20, 84, 350
# The columns of the first row that are rooms of preprocessing.
PREPROCESSING = (1, 4)

# Rooms and what lies between them: (column, row, title, what happens there, kind).
RADIOGRAPH = [
    (0, 0, "file", "PNG, JPEG, TIFF, DICOM", "thing"),
    (1, 0, "sources, io", "ids, labels, pixels", "room"),
    (2, 0, "segmentation, hand", "mask, landmarks, gate", "room"),
    (3, 0, "crop", "upright square", "room"),
    (4, 0, "jobs", "many files, resumable", "room"),
    (5, 0, "records", "format: tfrecords", "thing"),
    (2, 1, "reasons", "rejected.csv, review", "thing"),
    (3, 1, "inference", "reader, with a bundle", "room"),
    (4, 1, "reports, serve", "DICOM, FHIR, page", "room"),
    (5, 1, "bone age", "interval, occlusion map", "thing"),
]
EXPERIMENT = [
    (0, 0, "recipe", "TOML, --set", "thing"),
    (1, 0, "configuration", "every value checked", "room"),
    (2, 0, "models", "network, random weights", "room"),
    (3, 0, "training", "weights, data, fit loop", "room"),
    (4, 0, "bundles", "saved with all it needs", "room"),
    (5, 0, "evaluation", "metrics, intervals, plots", "room"),
    (2, 1, "tuning", "many heads", "room"),
    (3, 1, "tracking", "outbox, then MLflow", "room"),
    (4, 1, "bundle", "used by inference", "thing"),
    (5, 1, "calibrate, join", "new bundles of old ones", "room"),
]
RADIOGRAPH_ARROWS = [
    ((0, 0), (1, 0)), ((1, 0), (2, 0)), ((2, 0), (3, 0)), ((3, 0), (4, 0)), ((4, 0), (5, 0)),
    ((2, 0), (2, 1)), ((3, 0), (3, 1)), ((3, 1), (4, 1)), ((4, 1), (5, 1)),
]  # fmt: skip
EXPERIMENT_ARROWS = [
    ((0, 0), (1, 0)), ((1, 0), (2, 0)), ((2, 0), (3, 0)), ((3, 0), (4, 0)), ((4, 0), (5, 0)),
    ((2, 1), (2, 0)), ((3, 0), (3, 1)), ((4, 0), (4, 1)), ((5, 0), (5, 1)),
]  # fmt: skip
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2933; text-anchor: middle }
  .head { font-size: 16px; font-weight: 600; text-anchor: start }
  .title { font-weight: 600; font-size: 12px }
  .small { font-size: 11.5px; fill: #52606d }
  .room { fill: #e3edf9; stroke: #3b6ea5 }
  .band { fill: #f1f4f8; stroke: #cbd2d9 }
  .thing { fill: #fff; stroke: #9aa5b1; stroke-dasharray: 4 3 }
  line { stroke: #52606d; stroke-width: 1.5; marker-end: url(#tip) }
"""


def draw() -> str:
    """Return the picture as SVG."""
    height = EXPERIMENT_TOP + 2 * BOX_HEIGHT + 90
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#52606d"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#fbfcfd"/>',
        _draw_band(*(_corner(column, 0, RADIOGRAPH_TOP) for column in PREPROCESSING), "preprocessing"),
    ]
    for heading, top, boxes, arrows in (
        ("One radiograph", RADIOGRAPH_TOP, RADIOGRAPH, RADIOGRAPH_ARROWS),
        ("One experiment", EXPERIMENT_TOP, EXPERIMENT, EXPERIMENT_ARROWS),
    ):
        parts.append(f'<text class="head" x="{LEFT}" y="{top - 46}">{heading}</text>')
        parts += [_draw_arrow(_corner(*start, top), _corner(*end, top)) for start, end in arrows]
        parts += [_draw_box(_corner(column, row, top), *words) for column, row, *words in boxes]
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _corner(column: int, row: int, top: int) -> tuple[int, int]:
    return LEFT + column * STEP, top + row * (BOX_HEIGHT + 58)


def _draw_band(first: tuple[int, int], last: tuple[int, int], title: str) -> str:
    x, y = first
    width = last[0] + BOX_WIDTH - x
    return (
        f'<rect class="band" x="{x - 10}" y="{y - 26}" width="{width + 20}" height="{BOX_HEIGHT + 36}" rx="8"/>'
        f'<text class="small" x="{x + width / 2}" y="{y - 10}">{html.escape(title)}</text>'
    )


def _draw_box(corner: tuple[int, int], title: str, text: str, kind: str) -> str:
    x, y = corner
    middle = x + BOX_WIDTH / 2
    return (
        f'<rect class="{kind}" x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"/>'
        f'<text class="title" x="{middle}" y="{y + 22}">{html.escape(title)}</text>'
        f'<text class="small" x="{middle}" y="{y + 39}">{html.escape(text)}</text>'
    )


def _draw_arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    (x1, y1), (x2, y2) = start, end
    if y1 == y2:
        return f'<line x1="{x1 + BOX_WIDTH}" y1="{y1 + BOX_HEIGHT / 2}" x2="{x2 - 2}" y2="{y2 + BOX_HEIGHT / 2}"/>'
    middle = x1 + BOX_WIDTH / 2
    below = y2 > y1
    y1, y2 = (y1 + BOX_HEIGHT, y2 - 2) if below else (y1, y2 + BOX_HEIGHT + 2)
    return f'<line x1="{middle}" y1="{y1}" x2="{middle}" y2="{y2}"/>'


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(), encoding="utf-8")

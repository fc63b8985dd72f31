"""One part of a preparation: from cases to encoded records, to tiles of the contact sheet, and to what was rejected."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from preprocessing.assemble import name_in_source
from preprocessing.hand import Hand
from preprocessing.pipeline import Prepared, PreprocessingConfig, Untrusted, fingerprint, process
from preprocessing.read import UnreadableImage, pixel_hash, read_radiograph
from preprocessing.rejections import reject
from preprocessing.review import UNREVIEWED, Review
from preprocessing.sheets import draw_tile
from preprocessing.sources import Case
from tfrecords.framing import frame
from tfrecords.schema import Record, encode
from tfrecords.write import write_json, write_text, write_whole

# zlib level: 6 is a tenth smaller than 1 and costs nothing that decoding the source would not hide.
PNG_COMPRESSION = 6


def process_part(
    cases: Sequence[Case], note: Path, *, config: PreprocessingConfig, reviews: Mapping[str, Review], root: Path
) -> None:
    """Write one part: encoded records, tiles of the contact sheet, and, last, the note that makes the part done.

    Two processes may do the same part at once: both write the same bytes.

    Args:
        cases: Its radiographs.
        note: The note to write, `part-00000.json`; records and tiles lie beside it.
        config: The preprocessing.
        reviews: What people decided, by id.
        root: The source, within which files are named.
    """
    index: list[dict[str, Any]] = []
    rejected: list[dict[str, str]] = []
    tiles: list[str] = []
    with write_whole(note.with_suffix(".tfrecord")) as file:
        for case in cases:
            try:
                record, prepared = make_record(case, config, review=reviews.get(case.id, UNREVIEWED))
            except UnreadableImage as error:
                # A source may be a single file.
                rejection = reject(case.id, file=name_in_source(case.path, root), error=error)
                if isinstance(error, Untrusted):
                    rejection = dataclasses.replace(rejection, decisions=_to_json(error.decisions))
                    tiles.append(_tile(case.id, error.hand, error.crop, reasons=error.reason.split(";")))
                rejected.append(dataclasses.asdict(rejection))
                continue
            index.append({"id": case.id, "offset": file.tell(), "pixel_sha256": record.pixel_sha256})
            file.write(frame(encode(record)))
            if prepared.hand is not None:
                tiles.append(_tile(case.id, prepared.hand, prepared.image, reasons=[]))
    write_text(note.with_suffix(".tiles"), "".join(f"{tile}\n" for tile in tiles))
    write_json(note, {"index": index, "rejected": rejected})


def _tile(id: str, hand: Hand, crop: np.ndarray | None, *, reasons: list[str]) -> str:
    side = hand.pose.side if hand.pose else ""
    score = hand.segmentation.score
    return _to_json({"id": id, "score": score, "side": side, "reasons": reasons, "tile": draw_tile(hand, crop)})


def _to_json(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def make_record(case: Case, config: PreprocessingConfig, *, review: Review = UNREVIEWED) -> tuple[Record, Prepared]:
    """Read and process one case.

    Args:
        case: The case.
        config: The preprocessing.
        review: What a person decided of it.

    Returns:
        Its record, and what it was made of.

    Raises:
        UnreadableImage: If the file cannot be read or holds no usable radiograph; `reason` names why.
    """
    try:
        radiograph = read_radiograph(case.path)
    except OSError as error:
        raise UnreadableImage(
            f"{case.path} cannot be read ({error.strerror or error}); copy it again from its source.",
            reason="damaged_image",
        ) from error
    sex = case.sex or radiograph.sex
    if sex is None:
        raise UnreadableImage(f"{case.path}: the sex is not known; add it to the table.", reason="no_sex")
    prepared = process(radiograph, config, path=case.path, review=review)
    encoded, png = cv2.imencode(".png", prepared.image, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])
    if not encoded:
        raise UnreadableImage(f"{case.path}: the prepared image could not be encoded.", reason="damaged_image")
    age = case.chronological_age_months
    record = Record(
        image=png.tobytes(),
        id=case.id,
        sex=sex,
        source_sha256=radiograph.source_sha256,
        pixel_sha256=pixel_hash(radiograph.pixels),
        original_size_px=(radiograph.pixels.shape[0], radiograph.pixels.shape[1]),
        crop_box_px=prepared.crop_box_px,
        rotation_degrees=prepared.rotation_degrees,
        mirrored=int(prepared.mirrored),
        decisions=_to_json(prepared.decisions) if prepared.decisions else None,
        fingerprint=fingerprint(config),
        bone_age_months=case.bone_age_months,
        chronological_age_months=radiograph.chronological_age_months if age is None else age,
        pixel_spacing_mm=prepared.pixel_spacing_mm,
        mask_score=prepared.mask_score,
    )
    return record, prepared

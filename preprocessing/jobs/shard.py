"""One shard of a preparation: from cases to encoded records, tiles of the contact sheets and rejections."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from boneage.base.files import open_atomic, write_json, write_text
from boneage.preprocessing.config import PreprocessingConfig, fingerprint
from boneage.preprocessing.decisions import describe_rejection
from boneage.preprocessing.hand.find_hand import Hand
from boneage.preprocessing.io.isolated import read_isolated
from boneage.preprocessing.io.radiograph import UnreadableImageError, hash_pixels, resolve_sex
from boneage.preprocessing.jobs.contact_sheets import draw_tile
from boneage.preprocessing.process import Prepared, process
from boneage.preprocessing.sources.rejections import InvalidEntryError, make_rejection
from boneage.preprocessing.sources.review_csv import UNREVIEWED, Review
from boneage.preprocessing.sources.sources import Case
from boneage.tfrecords.framing import frame_record
from boneage.tfrecords.schema import Record, encode

# zlib level: 6 is a tenth smaller than 1 and costs nothing that decoding the source would not hide.
PNG_COMPRESSION = 6


@dataclasses.dataclass(frozen=True)
class Shard:
    """Some radiographs of a preparation, processed as one unit of work.

    Args:
        cases: Its radiographs.
        manifest: Its manifest, `part-00000.json`. It is written last: a shard whose manifest exists is complete.
    """

    cases: Sequence[Case]
    manifest: Path


def process_shard(shard: Shard, *, config: PreprocessingConfig, reviews: Mapping[str, Review]) -> None:
    """Write the encoded records of a shard, its tiles of the contact sheets and, last, its manifest.

    Two processes may process the same shard at once: both write the same bytes.

    Args:
        shard: The shard; records and tiles are written beside its manifest.
        config: The preprocessing.
        reviews: Decisions of reviewers, by id.
    """
    manifest = shard.manifest
    index: list[dict[str, Any]] = []
    rejected: list[dict[str, str]] = []
    tiles: list[str] = []
    with open_atomic(manifest.with_suffix(".tfrecord")) as file:
        for case in shard.cases:
            try:
                record, prepared = make_record(case, config, review=reviews.get(case.id, UNREVIEWED))
            except UnreadableImageError as error:
                rejected.append(dataclasses.asdict(make_rejection(case.id, file=case.name, error=error)))
                continue
            if prepared.hand is not None:
                tiles.append(_tile(case.id, prepared.hand, prepared.image, reasons=prepared.reasons))
            if record is None:
                detail = describe_rejection(case.path, prepared.reasons)
                untrusted = InvalidEntryError(detail, reason=";".join(prepared.reasons))
                rejection = dataclasses.asdict(make_rejection(case.id, file=case.name, error=untrusted))
                rejected.append({**rejection, "decisions": _to_json(prepared.decisions)})
                continue
            index.append({"id": case.id, "offset": file.tell(), "pixel_sha256": record.pixel_sha256})
            file.write(frame_record(encode(record)))
    write_text(manifest.with_suffix(".tiles"), "".join(f"{tile}\n" for tile in tiles))
    write_json(manifest, {"index": index, "rejected": rejected})


def _tile(id: str, hand: Hand, crop: np.ndarray | None, *, reasons: Sequence[str]) -> str:
    side = hand.pose.side if hand.pose else ""
    score = hand.segmentation.score
    return _to_json({"id": id, "score": score, "side": side, "reasons": reasons, "tile": draw_tile(hand, crop)})


def _to_json(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def make_record(
    case: Case, config: PreprocessingConfig, *, review: Review = UNREVIEWED
) -> tuple[Record | None, Prepared]:
    """Read and process one case.

    Args:
        case: The case.
        config: The preprocessing.
        review: The reviewer's decisions.

    Returns:
        Its record, None where the hand is rejected; and the prepared radiograph, with the reasons.

    Raises:
        UnreadableImageError: If the file cannot be read or contains no usable radiograph; `reason` is the code.
    """
    try:
        radiograph = read_isolated(case.path)
    except OSError as error:
        raise UnreadableImageError(
            f"{case.path} cannot be read ({error.strerror or error}); copy it again from its source.",
            reason="damaged_image",
        ) from error
    sex = resolve_sex(radiograph, case.sex, path=case.path)
    if sex is None:
        raise UnreadableImageError(f"{case.path}: unknown sex; add it to the table.", reason="no_sex")
    prepared = process(radiograph, config, review=review)
    if prepared.reasons or prepared.image is None or prepared.crop_box_px is None:
        return None, prepared
    encoded, png = cv2.imencode(".png", prepared.image, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])
    if not encoded:
        raise UnreadableImageError(f"{case.path}: the prepared image could not be encoded.", reason="damaged_image")
    age = case.chronological_age_months
    record = Record(
        image=png.tobytes(),
        id=case.id,
        sex=sex,
        source_sha256=radiograph.source_sha256,
        pixel_sha256=hash_pixels(radiograph.pixels),
        original_size_px=(radiograph.pixels.shape[0], radiograph.pixels.shape[1]),
        crop_box_px=prepared.crop_box_px,
        rotation_degrees=prepared.rotation_degrees,
        mirrored=int(prepared.mirrored),
        decisions=_to_json(prepared.decisions) if prepared.decisions else None,
        fingerprint=fingerprint(config),
        bone_age_months=case.bone_age_months,
        num_readers=case.num_readers,
        reader_sd_months=case.reader_sd_months,
        chronological_age_months=radiograph.chronological_age_months if age is None else age,
        pixel_spacing_mm=prepared.pixel_spacing_mm,
        mask_score=prepared.mask_score,
    )
    return record, prepared

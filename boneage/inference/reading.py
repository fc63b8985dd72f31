"""The result of reading one radiograph, and how it is shown in a notebook and in a figure."""

import base64
import dataclasses
import html
import io
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from boneage.inference.comparison import NO_AGE, Comparison
from boneage.inference.messages import explain_reasons, explain_warning, format_age, format_interval
from boneage.preprocessing.hand.find_hand import Hand
from boneage.preprocessing.io.radiograph import Radiograph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAN = float("nan")
_NO_COMPARISON = Comparison("", None, _NAN, NO_AGE, "", None, is_far=False)
_SHOWN_PX = 240
_NOTICE = "Research use, not a medical device."


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Reading:
    """The result of reading a radiograph: a bone age, or the reasons why there is none.

    Args:
        bone_age_months: Bone age in months; NaN if the radiograph is rejected.
        low_months: Lower end of the prediction interval in months, never below 0; NaN if the bundle has none. If no sex
            was recorded, the interval covers those of both sexes.
        high_months: Upper end of the prediction interval in months;
            `boneage.evaluation.conformal.MAX_BONE_AGE_MONTHS` where it is open.
        sex: The sex assumed, `"female"` or `"male"`; None if it is unknown.
        male_probability: Predicted probability that the child is male, in [0, 1]; NaN without a sex bundle.
        predictions: Bone age in months by plausible sex: one if the sex was recorded, else two.
        comparison: The bone age beside the chronological age.
        network_age_months: The chronological age that the network was given, in months; None if it uses none or was
            given none.
        laterality: The side by the header, `"left"`, `"right"` or None.
        marker: `"left"` if a letter L is read on the film, else None. Looked for where header or image say right.
        side: The side by the pose of the hand, `"left"` or `"right"`; a right one is mirrored. None for whole frames.
        warnings: Keys of `boneage.inference.messages.WARNINGS`.
        part: The part of a film of two hands that shows this one, with its side as `laterality`, only from
            `boneage.inference.two_hands`.
        other: Of the left hand of a film of two hands, the reading of the right one.
        reasons: Why the radiograph is rejected, as codes; empty if it is accepted.
        detail: One line on a rejection that names the fix; empty if it is accepted.
        hand: The detected hand, only from `Reader.read`; None for a network of whole frames.
        crop: The network input before resizing, shape `(size, size)`, uint8; None where there is nothing to crop.
        statements: What there is to say beside the bone age, as pairs of a name and a text, only from
            `Reader.predict`; see `boneage.inference.statements`.
        picture: The radiograph with the outline of the hand as PNG, only from `Reader.predict`; None where no pixels
            could be read.
    """

    bone_age_months: float = _NAN
    low_months: float = _NAN
    high_months: float = _NAN
    sex: str | None = None
    male_probability: float = _NAN
    predictions: Mapping[str, float] = dataclasses.field(default_factory=dict)
    comparison: Comparison = _NO_COMPARISON
    network_age_months: float | None = None
    laterality: str | None = None
    marker: str | None = None
    side: str | None = None
    warnings: tuple[str, ...] = ()
    part: Radiograph | None = None
    other: "Reading | None" = None
    reasons: tuple[str, ...] = ()
    detail: str = ""
    hand: Hand | None = None
    crop: UInt8[np.ndarray, "size size"] | None = None
    statements: tuple[tuple[str, str], ...] = ()
    picture: bytes | None = None

    @property
    def hands(self) -> "tuple[Reading, ...]":
        """The reading of each hand of the film, that of the left one first."""
        return (self,) if self.other is None else (self, self.other)

    @property
    def sds(self) -> float:
        """Standard deviation score of the bone age; NaN if there is none."""
        return self.comparison.sds

    @property
    def accepted(self) -> bool:
        """Whether there is a bone age."""
        return not self.reasons

    @property
    def interval(self) -> str:
        """The prediction interval as text, such as `165.4 months or more`; empty if there is none."""
        return format_interval(self.low_months, self.high_months)

    def __repr__(self) -> str:
        """One line: the bone age with its interval, or the reasons."""
        parts = [f"{self.bone_age_months:.1f} months"] if self.accepted else ["rejected", *self.reasons]
        parts += [f"interval {self.interval}"] if self.interval else []
        return f"Reading({', '.join([*parts, *([self.sex] if self.sex else []), *self.warnings])})"

    def _repr_html_(self) -> str:
        """The pictures and the texts of each hand, for a notebook."""
        return "".join(hand._show() for hand in self.hands)

    def _show(self) -> str:
        title, *lines = self._describe()
        pictures = {"radiograph": self._decode_picture(), "crop": self.crop}
        images = "".join(
            f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(_encode_small(pixels)).decode()}" '
            f'style="height: {_SHOWN_PX}px; width: auto; max-width: none; margin: 0">'
            for name, pixels in pictures.items()
            if pixels is not None
        )
        texts = "".join(f"<div>{html.escape(line)}</div>" for line in lines)
        return (
            f'<div style="display: flex; gap: 12px; align-items: center">{images}<div style="text-align: left">'
            f"<div><strong>{html.escape(title)}</strong></div>{texts}<div><small>{_NOTICE}</small></div></div></div>"
        )

    def plot(self) -> "Figure":
        """Draw the radiograph with the outline of the hand, the crop, and the result; not those of `other`.

        Returns:
            The figure; save it by `figure.savefig("hand.png")`.
        """
        from boneage.evaluation.plots import make_figure

        pictures = {"radiograph": self._decode_picture(), "crop": self.crop}
        figure = make_figure(width_inches=7, height_inches=4.5)
        for axes, (name, pixels) in zip(figure.subplots(1, 2), pictures.items(), strict=True):
            axes.set_axis_off()
            if pixels is not None:
                axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
                axes.set_title(name, fontsize=9)
        title, *lines = self._describe()
        figure.suptitle(textwrap.fill(title, 60))
        figure.supxlabel("\n".join(textwrap.fill(line, 100) for line in [*lines, _NOTICE]), fontsize=9)
        return figure

    def _decode_picture(self) -> UInt8[np.ndarray, "height width 3"] | None:
        if self.picture is None:
            return None
        return np.asarray(cv2.imdecode(np.frombuffer(self.picture, np.uint8), cv2.IMREAD_COLOR_RGB))

    def _describe(self) -> list[str]:
        """Say the result in lines, the most important first."""
        if not self.accepted:
            return [f"Rejected: {', '.join(self.reasons)}", explain_reasons(self.reasons)]
        return [
            f"Bone age {self.bone_age_months:.1f} months ({format_age(self.bone_age_months)})",
            *(f"{name}: {text}" for name, text in self.statements),
            *map(explain_warning, self.warnings),
        ]


def _encode_small(pixels: UInt8[np.ndarray, "height width *channels"]) -> bytes:
    """Encode a picture as PNG, as high as a notebook shows it."""
    share = min(1.0, _SHOWN_PX / pixels.shape[0])
    image = Image.fromarray(pixels)
    file = io.BytesIO()
    image.resize((max(1, round(image.width * share)), max(1, round(image.height * share)))).save(file, "PNG")
    return file.getvalue()

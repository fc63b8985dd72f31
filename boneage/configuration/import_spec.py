"""The specification of a network of others: what its inputs and its output mean, and where it comes from."""

import dataclasses
import re
import tomllib
from pathlib import Path

from boneage.base.errors import check_choice
from boneage.configuration.build import ConfigError, build
from boneage.configuration.training import TTA_TRANSFORMS
from boneage.preprocessing.config import PreprocessingConfig

LAYOUTS = ("NCHW", "NHWC")
OUTPUT_KINDS = ("months", "years", "standardised", "probabilities", "logits")
_MAX_TEXT = 200


@dataclasses.dataclass(frozen=True)
class ImageInput:
    """Table `[image]`: the input of the radiograph.

    Args:
        input: Name of the input in the ONNX file.
        size_px: Height and width in pixels.
        channels: 1, or 3 equal ones.
        layout: `"NCHW"` or `"NHWC"`.
        value_range: The values of black and of white, `[0, 1]` or `[0, 255]` for example.
        mean: Subtracted from these values: a list of one number, or of one for each channel.
        std: What the difference is divided by, likewise.
    """

    input: str
    size_px: int
    channels: int = 3
    layout: str = "NCHW"
    value_range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("layout", self.layout, LAYOUTS)
        if self.channels not in (1, 3):
            raise ValueError(f"`channels` must be 1 or 3. Received: {self.channels}.")
        if not 16 <= self.size_px <= 4096:
            raise ValueError(f"`size_px` must lie in [16, 4096]. Received: {self.size_px}.")
        if self.value_range[0] == self.value_range[1]:
            raise ValueError(
                f"`value_range` must be two different values, of black and of white. Received: {self.value_range}."
            )
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, self.channels):
                raise ValueError(
                    f"`{name}` must be a list of one number or of {self.channels}, one for each channel. "
                    f"Received: {getattr(self, name)}."
                )
        if min(self.std) <= 0:
            raise ValueError(f"`std` must be positive. Received: {self.std}.")


@dataclasses.dataclass(frozen=True)
class SexInput:
    """Table `[sex]`: the input of the sex, if the network has one.

    Args:
        input: Name of the input in the ONNX file; empty for a network that does not use the sex.
        female: What it receives for a girl: a list of one number, or of several, `[1, 0]` for example.
        male: What it receives for a boy, likewise.
    """

    input: str = ""
    female: tuple[float, ...] = ()
    male: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.input and (self.female or self.male):
            raise ValueError("`female` and `male` need `input`, the name of the input of the sex.")
        if self.input and (len(self.female) != len(self.male) or self.female == self.male):
            raise ValueError(
                "`female` and `male` must be different lists of the same length, such as [0] and [1]. "
                f"Received: {list(self.female)} and {list(self.male)}."
            )


@dataclasses.dataclass(frozen=True)
class AgeOutput:
    """Table `[output]`: what the network answers.

    Args:
        kind: `"months"`, `"years"`, `"standardised"` (to be multiplied by `std_months`, plus `mean_months`), or the
            `"probabilities"` or `"logits"` of several ages, whose expectation is the bone age.
        output: Name of the output in the ONNX file (default: the only one).
        mean_months: Mean of the training ages in months, for `"standardised"`.
        std_months: Their standard deviation in months, for `"standardised"`.
        first_months: The first of the ages in months, for `"probabilities"` and `"logits"`.
        step_months: The step from one age to the next in months, likewise.
    """

    kind: str
    output: str = ""
    mean_months: float | None = None
    std_months: float | None = None
    first_months: float = 0.0
    step_months: float = 1.0

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("kind", self.kind, OUTPUT_KINDS)
        stated = self.mean_months is not None, self.std_months is not None
        if self.kind == "standardised" and not all(stated):
            raise ValueError("`mean_months` and `std_months` are needed for kind = 'standardised'.")
        if self.kind != "standardised" and any(stated):
            raise ValueError(
                f"`mean_months` and `std_months` are for kind = 'standardised'. Received: kind={self.kind!r}."
            )
        if self.std_months is not None and self.std_months <= 0:
            raise ValueError(f"`std_months` must be positive. Received: {self.std_months}.")
        if self.step_months == 0:
            raise ValueError("`step_months` must not be 0.")


@dataclasses.dataclass(frozen=True)
class ImportSpec:
    """The specification of a network of others, one TOML file.

    Args:
        name: Name of the network, shown on the page and in reports.
        licence: Licence of the weights, such as `"CC-BY-NC-4.0"`.
        source: Where they come from: an address or a citation.
        sha256: SHA-256 of the ONNX file, 64 hexadecimal digits.
        image: Table `[image]`.
        output: Table `[output]`.
        sex: Table `[sex]` (default: the network does not use the sex).
        preprocessing: Table `[preprocessing]`: the settings of `boneage prepare`. `segmenter = "none"` gives the
            network the whole frame. `image_size_px` is that of the input unless stated.
        tta: Test-time augmentation, a key of `boneage.configuration.training.TTA_TRANSFORMS`.
    """

    name: str
    image: ImageInput
    output: AgeOutput
    licence: str = ""
    source: str = ""
    sha256: str = ""
    sex: SexInput = dataclasses.field(default_factory=SexInput)
    preprocessing: PreprocessingConfig = dataclasses.field(default_factory=PreprocessingConfig)
    tta: str = "none"

    def __post_init__(self) -> None:
        """Check the values."""
        for name, needed in {
            "name": "the name of the network",
            "licence": "the licence of the weights, such as 'CC-BY-NC-4.0'",
            "source": "where the weights come from, an address or a citation",
        }.items():
            text = getattr(self, name)
            if not text.strip() or len(text) > _MAX_TEXT or not text.isprintable():
                raise ValueError(f"`{name}` must be {needed}, on one line of at most {_MAX_TEXT} characters.")
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError("`sha256` must be the SHA-256 of the ONNX file, 64 hexadecimal digits in lower case.")
        check_choice("tta", self.tta, tuple(TTA_TRANSFORMS))


def read_import_spec(path: str | Path) -> ImportSpec:
    """Read the specification of a network of others from its TOML file.

    Raises:
        ConfigError: If the file cannot be read or is not valid TOML, a key is unknown, or a value is missing or out of
            range.
    """
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give a specification with --spec.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}.") from error
    image, preprocessing = tables.get("image"), tables.setdefault("preprocessing", {})
    if isinstance(image, dict) and isinstance(preprocessing, dict) and "size_px" in image:
        preprocessing.setdefault("image_size_px", image["size_px"])
    return build(ImportSpec, tables, where=str(path))

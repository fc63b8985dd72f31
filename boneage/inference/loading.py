"""Load a model, and keep it loaded."""

import dataclasses
import functools
import threading
from pathlib import Path
from typing import Any

from boneage.bundles.bundle import (
    DEFAULT_BUNDLE,
    DEFAULT_SEX_BUNDLE,
    ONNX_FILE,
    Bundle,
    BundleError,
    load_bundle,
    read_metadata,
)
from boneage.configuration.build import build
from boneage.inference.growth_reference import load_growth_reference
from boneage.inference.reader import Reader
from boneage.preprocessing.config import PreprocessingConfig, fingerprint
from boneage.preprocessing.jobs.resumable import file_stamp
from boneage.registry.digest import metadata_digest
from boneage.registry.resolve import resolve_bundle

_LOADING = threading.Lock()


@dataclasses.dataclass(frozen=True)
class _Source:
    """A bundle as it lies in its folder: another content is another source.

    Args:
        folder: The folder as it was named, shown in errors.
        place: The folder wherever the program runs.
        metadata: Digest of its metadata, which contain the digest of the network.
        stamp: Size and modification time of the network.
    """

    folder: Path
    place: Path
    metadata: str
    stamp: tuple[int, int]


def load(
    bundle: str | Path | None = None,
    *,
    sex_bundle: str | Path | None = None,
    reference: str | Path | None = None,
) -> Reader:
    """Load a model. The last two stay loaded: one is loaded anew only where its files have changed.

    Args:
        bundle: The bone-age bundle: a folder, `models:/NAME@ALIAS` or `models:/NAME/VERSION` of an MLflow registry, or
            `hf://owner/name@revision` of the Hugging Face hub, whose revision is a branch, a tag or a full commit
            (default, and by the name `"default"`: the packaged model).
        sex_bundle: A bundle that classifies sex (default: for the packaged model the packaged one, else none).
        reference: CSV with a growth reference, see `boneage.inference.growth_reference.load_growth_reference`
            (default: Brush Foundation table).

    Returns:
        The model; `predict` reads radiographs with it.

    Raises:
        ReferenceTableError: If the reference table cannot be used.
        BundleError: If a bundle is damaged, has the wrong task, or was trained with different preprocessing from the
            other bundle or from this version of the package.
        TrackingStoreError: If an MLflow registry cannot be reached, or contains no such model.
        HubError: If the hub cannot be reached, or has no such bundle, or one that is incomplete or changed.

    Example:
        >>> model = boneage.load()
        >>> model.predict("hand.png", sex="female")
        Reading(128.4 months, interval 112.2 to 145.0 months, female)
    """
    folder = DEFAULT_BUNDLE if bundle is None else resolve_bundle(bundle)
    if folder == DEFAULT_BUNDLE and sex_bundle is None:
        sex_bundle = DEFAULT_SEX_BUNDLE
    age = _find_source(folder)
    sex = None if sex_bundle is None else _find_source(resolve_bundle(sex_bundle))
    with _LOADING:  # another thread may be loading the same
        age_bundle, loaded_sex_bundle, config = _load_bundles(age, sex)
    return Reader(age_bundle, loaded_sex_bundle, config, load_growth_reference(reference))


def _find_source(folder: Path) -> _Source:
    return _Source(folder, folder.resolve(), metadata_digest(read_metadata(folder)), file_stamp(folder / ONNX_FILE))


@functools.lru_cache(maxsize=2)
def _load_bundles(age_source: _Source, sex_source: _Source | None) -> tuple[Bundle, Bundle | None, PreprocessingConfig]:
    # One thread: several radiographs are read in parallel.
    age = load_bundle(age_source.folder, num_threads=1)
    if age.metadata["task"] != "age":
        raise BundleError(
            f"{age.folder}: classifies sex; pass it as --sex-bundle and give a bone-age bundle as --bundle."
        )
    sex = None if sex_source is None else load_bundle(sex_source.folder, num_threads=1)
    if sex is not None and sex.metadata["task"] != "sex":
        raise BundleError(f"{sex.folder}: does not classify sex; train a bundle with task = 'sex'.")
    if sex is not None and sex.metadata["fingerprint"] != age.metadata["fingerprint"]:
        raise BundleError(
            f"{sex.folder}: was trained with different preprocessing from {age.folder}; train both on the same records."
        )
    return age, sex, load_preprocessing(age)


def load_preprocessing(bundle: Bundle) -> PreprocessingConfig:
    """Return the preprocessing that a bundle was trained with.

    Raises:
        BundleError: If this version of the package has different preprocessing.
    """
    return _build_preprocessing(bundle.folder, bundle.metadata)


def read_preprocessing(bundle: str | Path) -> PreprocessingConfig:
    """Return the preprocessing of a bundle without loading its network: records made with it are records for it.

    Args:
        bundle: As in `load`.

    Raises:
        BundleError: If the bundle is damaged, or this version of the package has different preprocessing.
    """
    folder = resolve_bundle(bundle)
    return _build_preprocessing(folder, read_metadata(folder))


def _build_preprocessing(folder: Path, metadata: dict[str, Any]) -> PreprocessingConfig:
    config = build(PreprocessingConfig, metadata.get("preprocessing", {}), where=f"{folder} preprocessing")
    if fingerprint(config) != metadata["fingerprint"]:
        version = metadata.get("boneage_version") or "of that time"
        raise BundleError(
            f"{folder}: was trained with different preprocessing ({metadata['fingerprint']}) from this "
            f"version ({fingerprint(config)}); install boneage {version} or train again."
        )
    return config

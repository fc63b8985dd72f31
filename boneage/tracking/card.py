"""The model card of a published bundle, from its metadata and its own card."""

import re
from collections.abc import Mapping
from typing import Any

CARD_MARK = "<!-- generated from metadata.json -->"
_PACKAGED_LICENCE = "LicenseRef-RSNA-research"
_PACKAGED_TERMS = f"https://github.com/boneage/boneage/blob/main/LICENSES/{_PACKAGED_LICENCE}.txt"
_TAGS = ("bone-age", "hand", "radiograph", "medical", "onnx")
# Names of licences that the hub knows, as far as weights have them: https://hf.co/docs/hub/repositories-licenses
_HUB_LICENCES = (
    *("afl-3.0", "agpl-3.0", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-3.0", "cc-by-4.0"),
    *("cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    *("cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "gpl-3.0", "isc", "lgpl-3.0", "mit", "mpl-2.0", "unlicense"),
)
_USE = "## Use from the hub"
_FRONT_MATTER = re.compile(r"\A---\n.*?^---\n", re.DOTALL | re.MULTILINE)
# A link to a file of the folder that the card comes from; pictures have an exclamation mark before them.
_RELATIVE_LINK = re.compile(r"!?\[([^\]]*)\]\((?!https?://|#|mailto:)[^)]*\)")
# Known, the age stands for the bone age of most children: González et al. 2020 (SIMBA, MICCAI) measured an error of
# 5.47 months with it and 8.72 without, on RHPE.
_PULL = (
    "- **The chronological age pulls the answer towards normal**: the error is smaller for healthy children, and the "
    "delayed and the advanced, of whom bone ages are asked, are read too near to their age. `boneage evaluate` shows "
    "their error apart."
)
_AGES = {
    "none": ("", ""),
    "input": (
        ", and the chronological age where it is known",
        f"{_PULL}\n- Without the age it answers too, with a larger error, and says so.",
    ),
    "relative": (", and the chronological age", f"{_PULL}\n- Without the age it refuses to answer."),
}
_TASKS = {"age": "bone age", "sex": "sex of the child"}


def write_card(metadata: Mapping[str, Any], *, name: str, licence: str, own: str = "") -> str:
    """Write the card: front matter for the hub, the bundle's own card or one made of its metadata, and how to use it.

    Args:
        metadata: The metadata of the bundle.
        name: `hf://owner/name`.
        licence: Licence of the weights.
        own: The bundle's own card, in Markdown; links to files beside it are reduced to their text. One that this
            function has written is written anew.

    Returns:
        The content of `README.md`.
    """
    from huggingface_hub import EvalResult, ModelCardData

    task, data = metadata["task"], metadata.get("training_data", {})
    results = []
    for kind, words, value in _list_measures(metadata):
        results.append(
            EvalResult(
                task_type="image-regression" if task == "age" else "image-classification",
                dataset_type=_slug(str(data.get("source") or "radiographs")),
                dataset_name=str(data.get("source") or "radiographs"),
                dataset_split="validation",
                metric_type=kind,
                metric_name=words,
                metric_value=value,
            )
        )
    front = ModelCardData(
        **_describe_licence(licence),
        library_name="boneage",
        tags=list(_TAGS),
        eval_results=results or None,
        model_name=name.rpartition("/")[2] if results else None,
    ).to_yaml()
    own = _FRONT_MATTER.sub("", own).partition(f"\n{_USE}\n")[0].strip()
    body = _describe(metadata, licence=licence) if not own or CARD_MARK in own else _RELATIVE_LINK.sub(r"\1", own)
    return f"---\n{front.strip()}\n---\n\n{body}\n\n{_explain_use(task, name=name)}"


def _describe_licence(licence: str) -> dict[str, Any]:
    if licence.lower() in _HUB_LICENCES:
        return {"license": licence.lower()}
    link = {"license_link": _PACKAGED_TERMS} if licence == _PACKAGED_LICENCE else {}
    return {"license": "other", "license_name": _slug(licence), **link}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-") or "unknown"


def _list_measures(metadata: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Return type, name and value of what the bundle was measured by on its validation split."""
    error, interval = metadata.get("validation_error"), metadata.get("interval") or {}
    measures = []
    if error is not None and metadata["task"] == "age":
        measures.append(("mae", "Mean absolute error, months", float(error)))
    elif error is not None:
        measures.append(("accuracy", "Accuracy", 1 - float(error)))
    if (covered := interval.get("measured_coverage_share")) is not None:
        measures.append(("coverage", "Coverage of the prediction interval", float(covered)))
    return measures


def _describe(metadata: Mapping[str, Any], *, licence: str) -> str:
    """Describe a bundle without a card of its own."""
    task, data = metadata["task"], metadata.get("training_data", {})
    sex = " and the sex" if metadata["use_sex"] else ""
    age = _AGES[metadata.get("chronological_age", "none")]
    answer = "bone age in months" if task == "age" else "the sex of the child"
    lines = [
        f"# Model card: {_TASKS[task]}",
        CARD_MARK,
        f"`model.onnx` (SHA-256 `{metadata['sha256']['model.onnx']}`) predicts {answer} from an upright hand crop of "
        f"{metadata['input_size']} px{sex}{age[0]}. The network is `{metadata.get('network') or 'not named'}`, run by "
        f"ONNX Runtime. `metadata.json` holds the preprocessing, its fingerprint `{metadata['fingerprint']}` and the "
        "digests of the other files.",
        "## Licence and use",
        f"- Weights: {licence}" + (f", from {metadata['source']}" if metadata.get("source") else "") + ".",
        "- **Not a medical device**: no diagnosis or treatment may rest on a prediction.",
        *([age[1]] if age[1] else []),
        "## Training data",
        f"{data['num_records']:,} radiographs of `{data.get('source') or 'a source without a name'}`."
        if data.get("num_records")
        else "Not recorded.",
        "## Accuracy",
    ]
    measures = [f"| {words} | {value:.2f} |" for _, words, value in _list_measures(metadata)]
    table = "\n".join(["| Validation split | |", "|---|---|", *measures])
    lines.append(table if measures else "Not measured; measure it on radiographs of your own by `boneage evaluate`.")
    if metadata.get("calibration"):
        lines.append("Predictions are corrected by one line for each sex (`boneage calibrate`).")
    return "\n\n".join(lines)


def _explain_use(task: str, *, name: str) -> str:
    option = "--bundle" if task == "age" else "--sex-bundle"
    return f"""{_USE}

```sh
pip install 'boneage[hub]'
boneage predict hand.png{" --sex female" if task == "age" else ""} {option} {name}
```

A commit behind the name, `{name}@COMMIT`, always gives the same model, after the first time without the network. No
code is downloaded.
"""

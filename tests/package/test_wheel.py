"""The built wheel in an empty environment, outside the checkout."""

import csv
import subprocess
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import imagecodecs
import pytest
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate

from boneage.preprocessing.synthetic import draw_radiograph

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MOST_BYTES = 45_000_000


def run(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def weights_wheel(build_wheel):
    return build_wheel("training_weights")


@pytest.fixture(scope="module")
def environment(wheel, install):
    """The folder of the programs of an environment that holds the wheel and what its core needs."""
    return install(wheel)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working folder outside the checkout, with modules whose names the package might have claimed."""
    for name in ("preprocessing", "tfrecords", "experiments"):
        (tmp_path / f"{name}.py").write_text("raise AssertionError('imported from the working folder')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def radiograph():
    """Pixels of a drawn radiograph, uint8 `(height, width)`."""
    return draw_radiograph(120, sex="female", seed=3, angle_degrees=0).pixels


def list_files(path):
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_the_wheel_is_small_and_holds_one_package(wheel):
    assert wheel.stat().st_size <= MOST_BYTES
    names = list_files(wheel)
    assert {name.split("/", 1)[0] for name in names} == {"boneage", f"{'-'.join(wheel.stem.split('-')[:2])}.dist-info"}
    assert {
        "boneage/py.typed",
        "boneage/__init__.pyi",
        "boneage/bundles/default/model.onnx",
        "boneage/bundles/default/seen.npz",
        "boneage/bundles/default_sex/model.onnx",
        "boneage/preprocessing/weights/hand_sam.onnx",
        "boneage/recipes/rsna_lite0.toml",
    } <= set(names)
    assert not [name for name in names if name.endswith((".npz", ".pyc")) and Path(name).name != "seen.npz"]
    assert not [name for name in names if "test" in Path(name).parts]


def test_the_wheel_holds_every_module_of_the_checkout(wheel):
    folders = {"boneage": "boneage", "preprocessing": "boneage/preprocessing", "tfrecords": "boneage/tfrecords"}
    modules = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in folders.items()
        for path in (ROOT / folder).rglob("*.py")
    }
    assert modules <= set(list_files(wheel))


def test_the_metadata_name_the_licences(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = HeaderParser().parsestr(
            archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))).decode()
        )
    assert metadata["License-Expression"] == "Apache-2.0 AND LicenseRef-RSNA-research"
    licences = {"LICENSE", "LICENSES/LicenseRef-RSNA-research.txt", "NOTICE"}
    assert set(metadata.get_all("License-File")) == licences
    assert {name.split("/licenses/", 1)[1] for name in list_files(wheel) if "/licenses/" in name} == licences


def test_the_other_wheel_holds_what_only_training_needs(weights_wheel):
    names = list_files(weights_wheel)
    assert [name for name in names if name.endswith(".npz")] == [
        "boneage_training_weights/default/weights.npz",
        "boneage_training_weights/default_sex/weights.npz",
        "boneage_training_weights/weights/efficientnet_lite0_imagenet.npz",
    ]


def test_site_packages_holds_boneage_and_nothing_else_of_ours(environment):
    code = "import importlib.metadata as m; print([k for k, v in m.packages_distributions().items() if 'boneage' in v])"
    assert run(environment / "python", "-c", code).strip() == "['boneage']"


def test_every_core_dependency_is_permissive(environment):
    table = run(environment / "python", ROOT / "tools/licences.py")
    assert "imagecodecs" in table
    assert "pylibjpeg-libjpeg" not in table


def test_it_imports_beside_modules_of_other_names(environment, elsewhere):
    code = "import boneage.preprocessing.process, boneage.tfrecords.schema; print(boneage.predict.__module__)"
    assert run(environment / "python", "-c", code).strip() == "boneage.inference.predict"


def test_it_predicts(environment, elsewhere, radiograph, write_dicom):
    Image.fromarray(radiograph).save("drawn.png")
    frame = imagecodecs.jpeg8_encode(radiograph, lossless=True, level=100)
    compressed = write_dicom(radiograph, syntax=uid.JPEGLosslessSV1, PixelData=encapsulate([frame]))
    run(environment / "boneage", "predict", "drawn.png", compressed, "--sex", "female", "--out", "answers.csv")
    with Path("answers.csv").open(newline="") as file:
        png, dicom = csv.DictReader(file)
    assert png["accepted"] == "True"
    assert 80 < float(png["bone_age_months"]) < 160
    assert dicom["bone_age_months"] == png["bone_age_months"]


def test_recipes_are_found_anywhere(environment, elsewhere):
    assert "--set" in run(environment / "boneage", "train", "rsna_lite0", "--help")
    code = "import boneage.configuration.experiment as e; print(e.load_experiment('rsna_lite0').train.network)"
    assert run(environment / "python", "-c", code).strip() == "efficientnet_lite0"


def test_the_version_is_told(environment, wheel, elsewhere):
    version = wheel.name.split("-")[1]
    assert run(environment / "boneage", "--version").strip() == f"boneage {version}"
    assert run(environment / "python", "-m", "boneage", "--version").strip() == f"boneage {version}"

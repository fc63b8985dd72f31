import pytest

from boneage.bundles.bundle import read_metadata
from boneage.cli.main import main
from boneage.cli.options import read_preprocessing
from boneage.inference.loading import load
from boneage.inference.loading import read_preprocessing as read_like
from boneage.registry.resolve import resolve_bundle
from boneage.tfrecords.info import read_info


def test_default_names_the_packaged_model():
    assert read_metadata(resolve_bundle("default"))["task"] == "age"
    assert read_like("default") == load().config


def test_prepare_like_makes_records_that_the_bundle_reads(drawn, write_bundle, tmp_path, monkeypatch):
    bundle = write_bundle(tmp_path / "bundle")
    words = ("prepare", drawn, "--like", bundle, "--set", "image_size_px=32", "--out", tmp_path / "records")
    monkeypatch.setattr("sys.argv", ["boneage", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    assert read_info(tmp_path / "records")["fingerprint"] == read_metadata(bundle)["fingerprint"]
    assert len(load(bundle).age_bundle.predict_records(tmp_path / "records", split="train")) > 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"segmenter": "unet"}, "has segmenter=none. Received: segmenter=unet"),
        ({"settings": ["image_size_px=64"]}, "has image_size_px=32. Received: image_size_px=64; leave one of them out"),
        ({"settings": ["gate.max_cut_score=0.5"]}, r"Received: gate\.max_cut_score=0\.5"),
        ({"settings": ["image_size=64"]}, "unknown key 'image_size'"),
    ],
)
def test_prepare_like_refuses_what_contradicts_the_bundle(write_bundle, tmp_path, options, told):
    given = {"segmenter": None, "sam_model": None, "sam_checkpoint": None, "settings": None, **options}
    with pytest.raises(ValueError, match=told):
        read_preprocessing(**given, where="prepare", like=str(write_bundle(tmp_path / "bundle")))

"""How hand-SAM learns: one step, what it keeps, what it exports, and the prompts that it is shown."""

import dataclasses
import importlib.util

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: run `make test-sam`")
if importlib.util.find_spec("segment_anything") is None:
    pytest.skip("needs segment-anything: run `make test-sam`", allow_module_level=True)

from boneage.base.errors import BoneAgeError  # noqa: E402
from boneage.preprocessing.sam_training.fit import (  # noqa: E402
    HandSamExamples,
    export_hand_sam,
    fit_hand_sam,
    hand_sam_loss,
)
from boneage.preprocessing.sam_training.network import PromptedHandSam, build_hand_sam  # noqa: E402
from boneage.preprocessing.sam_training.prompting import add_correction_clicks, sample_prompts  # noqa: E402
from boneage.preprocessing.sam_training.schedule import HandSamConfig  # noqa: E402
from boneage.preprocessing.sam_training.train import draw_mask_pairs  # noqa: E402
from boneage.preprocessing.segmentation import hand_sam  # noqa: E402
from boneage.preprocessing.segmentation.hand_sam import HAND_SAM_SIZE_PX, MAX_POINTS, load_hand_sam, predict_masks  # noqa: E402
from boneage.preprocessing.segmentation.prompts import find_prompts  # noqa: E402

TINY = HandSamConfig(steps=2, batch_size=2)
DRAWN = draw_mask_pairs(3, seed=0)


def fit(out, *, config=TINY, examples=None, init=None, frozen_stages=False):
    out.mkdir(exist_ok=True)
    lines = []
    examples = examples or HandSamExamples([], [], DRAWN)
    return fit_hand_sam(examples, config=config, init=init, frozen_stages=frozen_stages, out=out, progress=lines.append)


def test_a_step_changes_weights_the_same_way_each_time(tmp_path):
    torch.manual_seed(TINY.seed)
    before = PromptedHandSam(build_hand_sam()).state_dict()
    first, second = (fit(tmp_path / name).state_dict() for name in ("first", "second"))
    changed = [name for name in before if not torch.equal(before[name], first[name])]
    assert any("image_encoder" in name for name in changed) and any("mask_decoder" in name for name in changed)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=1e-5)


def test_the_encoder_can_learn_before_the_decoder(tmp_path):
    torch.manual_seed(TINY.seed)
    before = PromptedHandSam(build_hand_sam()).state_dict()
    after = fit(tmp_path / "encoder", config=dataclasses.replace(TINY, prompted=False)).state_dict()
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"image_encoder", "weight", "bias"}  # those of the outline


def test_stages_of_the_encoder_can_stay_as_they_are(tmp_path):
    torch.manual_seed(TINY.seed)
    before = PromptedHandSam(build_hand_sam()).state_dict()
    after = fit(tmp_path, frozen_stages=True).state_dict()
    changed = {".".join(name.split(".")[1:3]) for name in before if not torch.equal(before[name], after[name])}
    assert not changed & {"image_encoder.stem", "image_encoder.stages"}  # running means of the batches included
    assert {"image_encoder.joins", "image_encoder.last", "mask_decoder.transformer"} <= changed


def test_masks_are_the_mean_of_decoder_and_outline():
    model = PromptedHandSam(build_hand_sam()).eval()
    image, points, labels = torch.zeros(1, 1, 256, 256), torch.zeros(1, MAX_POINTS, 2), torch.zeros(1, MAX_POINTS)
    with torch.no_grad():
        before, _ = model(image, points, labels)
        model.sketch.bias += 3
        after, _ = model(image, points, labels)
    torch.testing.assert_close(after, before + 1.5)


def test_a_finished_training_is_kept_and_other_settings_are_an_error(tmp_path):
    first = fit(tmp_path).state_dict()
    assert all(torch.equal(first[name], value) for name, value in fit(tmp_path).state_dict().items())
    with pytest.raises(BoneAgeError, match="was trained with other settings; choose another folder with --out"):
        fit(tmp_path, config=dataclasses.replace(TINY, seed=5))


def test_onnx_gives_the_same_masks_as_torch(tmp_path, monkeypatch):
    # Weights are halved: the box of a close-up could move by a pixel, and two images would be compared.
    monkeypatch.setattr(hand_sam, "_CLOSE_UP_SHARE", 0.0)
    model = fit(tmp_path)
    export_hand_sam(model, tmp_path / "hand_sam.onnx")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".onnx", ".pt"]
    predict = load_hand_sam(tmp_path / "hand_sam.onnx")

    def forward(image, points, labels):
        with torch.no_grad():
            return tuple(output.numpy() for output in model(*map(torch.from_numpy, (image, points, labels))))

    upright = DRAWN[0].pixels
    for pixels in (upright, np.ascontiguousarray(np.rot90(upright)), upright[: upright.shape[1]]):
        prompts = find_prompts(pixels)
        expected = predict_masks(forward, pixels, prompts)
        for one, other in zip(predict(pixels, prompts), expected, strict=True):
            assert one.logits.shape == other.logits.shape
            spread = float(other.logits.std())
            assert np.abs(one.logits - other.logits).mean() < 0.02 * max(spread, 0.1)
            assert one.predicted_iou == pytest.approx(other.predicted_iou, abs=0.02)


def test_the_middle_of_the_square_keeps_its_place(monkeypatch):
    model = PromptedHandSam(build_hand_sam()).eval()
    captured = []

    def listen(source, places, tokens):
        captured.append((places, tokens))
        return tokens, source.flatten(2).transpose(1, 2)

    monkeypatch.setattr(model.sam.mask_decoder.transformer, "forward", listen)
    embeddings, labels = torch.rand(1, 96, 64, 64), torch.tensor([[2.0, 3, 1]])
    points = torch.tensor([[[40.0, 20], [200, 250], [100, 90]]])
    model.decode_masks(embeddings, points, labels)
    masks, _ = model.decode_masks(embeddings[..., 16:48, 8:56], points - torch.tensor([32.0, 64]), labels)
    assert masks.shape == (1, 4, 128, 192)
    (places, tokens), (middle, same) = captured
    torch.testing.assert_close(middle, places[..., 16:48, 8:56])
    torch.testing.assert_close(same, tokens)


def test_the_loss_is_least_for_the_truth():
    truth = torch.zeros(2, 64, 64)
    truth[:, 16:48, 16:48] = 1
    right = torch.where(truth > 0, 9.0, -9.0)[:, None].expand(-1, 4, -1, -1)
    perfect, doubted = torch.ones(2, 4), torch.zeros(2, 4)
    least = hand_sam_loss(right, perfect, truth)
    assert float(least) < 0.01
    assert float(hand_sam_loss(right, doubted, truth)) > float(least) + 0.9
    assert float(hand_sam_loss(-right, perfect, truth)) > float(least) + 5


def test_the_loss_is_least_for_the_share_of_a_pixel_that_is_hand():
    truth = torch.zeros(2, 64, 64)
    truth[:, 16:48, 16:48] = 1
    truth[:, 16:48, 47] = 0.7  # the hand ends within this column
    losses = {
        share: float(
            hand_sam_loss(
                torch.logit(torch.where(truth == 0.7, share, truth), eps=1e-4)[:, None].expand(-1, 4, -1, -1),
                torch.ones(2, 4),
                truth,
            )
        )
        for share in (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    }
    assert min(losses, key=losses.__getitem__) == 0.7


def test_prompts_are_on_the_hand_but_for_a_few():
    mask = np.zeros((HAND_SAM_SIZE_PX,) * 2, np.bool_)
    mask[60:200, 80:170] = True
    rng = np.random.default_rng(0)
    right = boxes = points = 0
    for _ in range(300):
        places, labels = sample_prompts(mask, rng=rng)
        assert places.shape == (MAX_POINTS, 2) and set(labels) <= {-1, 0, 1, 2, 3}
        boxes += labels[0] == 2
        for (x, y), label in zip(places[2:], labels[2:], strict=True):
            if label >= 0:
                points += 1
                right += mask[int(y), int(x)] == (label == 1)
    assert 0.75 < boxes / 300 < 0.95
    assert 0.9 < right / points < 1


def test_corrections_click_on_what_is_wrong_and_say_what_is_there():
    truth = torch.zeros(200, 16, 16, dtype=torch.bool)
    truth[:, 4:12, 4:12] = True
    logits = torch.where(truth, 5.0, -5.0)
    logits[:, 5, 6] = -5.0  # missed
    logits[:, 14, 2] = 5.0  # added
    logits[0] = torch.where(truth[0], 5.0, -5.0)  # nothing is wrong
    points, labels = torch.zeros(200, MAX_POINTS, 2), torch.full((200, MAX_POINTS), -1.0)
    captured = {"logits": logits, "truth": truth, "generator": torch.Generator().manual_seed(0)}
    places, said = add_correction_clicks(points, labels, **captured)
    assert torch.equal(places[0], points[0]) and torch.equal(said[0], labels[0])
    clicks = {(*map(int, place), int(label)) for place, label in zip(places[1:, -1], said[1:, -1], strict=True)}
    assert clicks == {(6, 5, 1), (2, 14, 0)}
    assert torch.equal(said[:, :-1], labels[:, :-1]) and (labels == -1).all()


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.25, 1, 15), (1.0, 24, 24)])
def test_a_share_of_the_radiographs_is_clicked_on(tmp_path, monkeypatch, share, low, high):
    clicked = []

    def count(points, labels, **_):
        clicked.extend(points)
        return points, labels

    monkeypatch.setattr("boneage.preprocessing.sam_training.fit.add_correction_clicks", count)
    fit(tmp_path / "out", config=dataclasses.replace(TINY, batch_size=12, click_share=share))
    assert low <= len(clicked) <= high


def test_the_outline_is_averaged_over_image_and_mirror_image():
    torch.manual_seed(0)
    model = PromptedHandSam(build_hand_sam()).eval()
    image = torch.rand(2, 1, HAND_SAM_SIZE_PX, HAND_SAM_SIZE_PX) * 255
    points, labels = torch.rand(2, 3, 2) * HAND_SAM_SIZE_PX, torch.tensor([[2.0, 3, 1], [2, 3, -1]])
    with torch.inference_mode():
        masks, quality = model(image, points, labels)
        seen = model.encode_image(image)
        alone, same = model.decode_masks(seen, points, labels)
        more = model.outline(model.encode_image(image.flip(3))).flip(2) - model.outline(seen)
    assert more.abs().max() > 0.1
    torch.testing.assert_close(masks, alone + more[:, None] / 4, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(quality, same)

"""The official checkpoints, with a small Sam of the same modules that is trained on a few drawn hands."""

import functools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the official checkpoints need torch: pip install '.[sam]'")

from boneage.preprocessing.config import PreprocessingConfig, fingerprint  # noqa: E402
from boneage.preprocessing.crop.contrast import stretch_contrast  # noqa: E402
from boneage.preprocessing.hand.gate import GateConfig  # noqa: E402
from boneage.preprocessing.io.read import read_radiograph  # noqa: E402
from boneage.preprocessing.jobs.segment import segment  # noqa: E402
from boneage.preprocessing.process import process  # noqa: E402
from boneage.preprocessing.sam import official  # noqa: E402
from boneage.preprocessing.sam.checkpoints import CheckpointUnavailableError  # noqa: E402
from boneage.preprocessing.sam_training.network import PromptedHandSam, build_hand_sam  # noqa: E402
from boneage.preprocessing.segmentation.mask_selection import rank_candidates  # noqa: E402
from boneage.preprocessing.segmentation.prompts import Prompts, find_prompts  # noqa: E402
from boneage.preprocessing.segmentation.segmentation import segment_with_prompts  # noqa: E402
from boneage.preprocessing.synthetic import draw_radiograph  # noqa: E402
from boneage.preprocessing.training_data.mask_pairs import score_mask  # noqa: E402

from segment_anything import SamPredictor, sam_model_registry  # noqa: E402 isort: skip - after the stand-in for torchvision
from segment_anything.modeling import (  # noqa: E402 isort: skip
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

SIDE_PX = 256
# The small Sam need not draw masks that stand up to the gate.
TRUSTING = GateConfig(
    min_mask_score=0.0,
    max_landmark_doubt=9.0,
    min_side_margin=0.0,
    max_cut_score=9.0,
    min_film_below_wrist=0.0,
    min_palm_share=0.0,
    max_second_share=1.0,
)
# Neither side of the network's input is a multiple of four: the frame ends between two coarse pixels.
DRAWN = {
    "portrait": draw_radiograph(140, sex="female", seed=3, size_px=(310, 229)),
    "landscape": draw_radiograph(110, sex="male", seed=4, size_px=(240, 330), angle_degrees=90.0),
}

PIXELS = {name: stretch_contrast(drawn.pixels) for name, drawn in DRAWN.items()}


def build_small_sam():
    torch.manual_seed(0)
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=SIDE_PX,
            depth=2,
            embed_dim=64,
            num_heads=2,
            out_chans=32,
            norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            global_attn_indexes=(1,),
            window_size=7,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=32,
            image_embedding_size=(SIDE_PX // 16, SIDE_PX // 16),
            input_image_size=(SIDE_PX, SIDE_PX),
            mask_in_chans=4,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=64, num_heads=2),
            transformer_dim=32,
            iou_head_hidden_dim=32,
        ),
    )


def ask_plainly(sam, pixels, prompts, *, return_logits=True):
    """Ask as segment-anything's own examples do; gives full-size masks, their quality and coarse square logits."""
    predictor = SamPredictor(sam)
    predictor.set_image(np.dstack([pixels] * 3))
    left, top, right, bottom = prompts.box
    return predictor.predict(
        point_coords=np.array(prompts.points) if prompts.points else None,
        point_labels=np.ones(len(prompts.points)) if prompts.points else None,
        box=np.array([left, top, right - 1, bottom - 1]),
        return_logits=return_logits,
    )


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """So little work is done sooner by one thread than by several that wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Weights of the small Sam after a few steps on the drawings, saved as the official ones are."""
    sam = build_small_sam()
    predictor = SamPredictor(sam)
    optimizer = torch.optim.Adam(sam.parameters(), lr=2e-3)
    for step in range(120):
        name = list(DRAWN)[step % 2]
        pixels, mask = PIXELS[name], DRAWN[name].mask
        prompts = find_prompts(pixels)
        size = predictor.transform.get_preprocess_shape(*pixels.shape, SIDE_PX)
        image = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)
        truth = np.zeros((SIDE_PX, SIDE_PX), np.float32)
        truth[: size[0], : size[1]] = cv2.resize(mask.astype(np.float32), size[::-1])
        target = torch.from_numpy(cv2.resize(truth, (SIDE_PX // 4, SIDE_PX // 4), interpolation=cv2.INTER_AREA))
        box = predictor.transform.apply_boxes(np.array([prompts.box]), pixels.shape)
        sparse, dense = sam.prompt_encoder(points=None, boxes=torch.as_tensor(box).float(), masks=None)
        logits, quality = sam.mask_decoder(
            image_embeddings=sam.image_encoder(sam.preprocess(torch.from_numpy(image).expand(1, 3, -1, -1).float())),
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[0], target.expand(3, -1, -1))
        loss = loss + ((quality - 0.95) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("sam") / "small.pth"
    torch.save(sam.state_dict(), path)
    return path


@pytest.fixture
def small(monkeypatch):
    """Let `vit_b` be the small Sam."""
    monkeypatch.setitem(sam_model_registry, "vit_b", build_small_sam)


@pytest.fixture
def exact(monkeypatch):
    """Compute in float32, whatever the processor can do."""
    monkeypatch.setattr(official, "has_bfloat16", lambda device: False)


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.usefixtures("small")
def test_a_checkpoint_given_by_path_finds_hands(name, checkpoint):
    found = segment_with_prompts(official.load_sam("vit_b", checkpoint=str(checkpoint)), PIXELS[name])
    assert found.mask.shape == PIXELS[name].shape
    assert score_mask(found.mask, truth=DRAWN[name].mask)["dice"] > 0.9
    assert len(found.candidates) == 3
    assert found.candidates == tuple(rank_candidates(list(found.candidates)))
    assert found.score == found.candidates[0].score > 0


@pytest.mark.usefixtures("small")
def test_segment_and_prepare_take_it_by_configuration(checkpoint, tmp_path):
    radiographs = tmp_path / "radiographs"
    radiographs.mkdir()
    for name, drawn in DRAWN.items():
        cv2.imwrite(str(radiographs / f"{name}.png"), drawn.pixels)
    config = PreprocessingConfig(segmenter="sam", sam_checkpoint=str(checkpoint))
    frame = segment(radiographs, out=tmp_path / "masks", config=config, workers=1)
    assert frame["file"].tolist() == ["landscape.png", "portrait.png"]
    assert (frame["score"] > 0).all()
    for name, drawn in DRAWN.items():
        mask = cv2.imread(str(tmp_path / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert score_mask(mask > 0, truth=drawn.mask)["dice"] > 0.9
    trusting = PreprocessingConfig(segmenter="sam", sam_checkpoint=str(checkpoint), gate=TRUSTING)
    path = radiographs / "portrait.png"
    prepared = process(read_radiograph(path), trusting)
    assert prepared.decisions["segmenter"] == "sam"
    assert len(prepared.decisions["candidates"]) == 3 and prepared.decisions["prompts"]["box"]
    json.dumps(prepared.decisions)
    assert fingerprint(trusting) != fingerprint(config)


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.usefixtures("exact")
def test_logits_line_up_with_the_frame(name, checkpoint):
    pixels = PIXELS[name]
    prompts = find_prompts(pixels)
    sam = build_small_sam().eval()
    sam.load_state_dict(torch.load(checkpoint, weights_only=True))
    full, quality, _ = ask_plainly(sam, pixels, prompts)
    candidates = official.predict_masks(SamPredictor(sam), pixels, prompts)
    assert [candidate.predicted_iou for candidate in candidates] == pytest.approx(quality.tolist(), abs=1e-5)
    for candidate, expected in zip(candidates, full, strict=True):
        assert max(candidate.logits.shape) == SIDE_PX // 4
        enlarged = cv2.resize(candidate.logits, pixels.shape[::-1], interpolation=cv2.INTER_LINEAR)
        assert np.abs(enlarged - expected).mean() < 0.04 * expected.std()
        assert score_mask(enlarged > 0, truth=expected > 0)["dice"] > 0.985


@pytest.mark.parametrize("filled", [(1.0, 1.0), (1.0, 0.7227), (0.7269, 1.0), (1.0, 0.004)])
def test_padding_is_cut_off_to_a_part_of_a_pixel(filled):
    """A ramp over the frame is the same ramp over what is left."""
    side = 256
    along = (np.arange(side, dtype=np.float32) + 0.5) / side
    for axis, square in enumerate((np.tile(along[:, None], side), np.tile(along, (side, 1)))):
        cut = official.cut_padding(np.ascontiguousarray(square), filled=filled)
        assert cut.shape == tuple(max(1, round(share * side)) for share in filled)
        places = (np.arange(cut.shape[axis]) + 0.5) / cut.shape[axis] * filled[axis]
        got = cut.mean(axis=1 - axis)
        assert np.abs(got - places).max() < 0.05 / side + 0.5 / side * (cut.shape[axis] == 1)


@pytest.mark.usefixtures("small")
def test_no_point_is_needed(checkpoint):
    pixels = PIXELS["portrait"]
    predict = official.load_sam("vit_b", checkpoint=str(checkpoint))
    height, width = pixels.shape
    candidates = predict(pixels, Prompts(box=(0, 0, width, height)))
    assert len(candidates) == 3 and all(candidate.logits.dtype == np.float32 for candidate in candidates)


@pytest.mark.usefixtures("small")
def test_equal_frames_get_equal_masks_whatever_came_between(checkpoint):
    predict = official.load_sam("vit_b", checkpoint=str(checkpoint))
    portrait, landscape = PIXELS.values()
    first = predict(portrait, find_prompts(portrait))
    predict(landscape, find_prompts(landscape))
    for one, other in zip(first, predict(portrait, find_prompts(portrait)), strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)


@pytest.mark.usefixtures("small")
def test_bfloat16_moves_outlines_by_little(checkpoint, monkeypatch):
    predict = official.load_sam("vit_b", checkpoint=str(checkpoint))
    pixels = PIXELS["portrait"]
    masks = []
    for there in (False, True):
        monkeypatch.setattr(official, "has_bfloat16", lambda device, there=there: there)
        masks.append(segment_with_prompts(predict, pixels).mask)
    assert score_mask(masks[1], truth=masks[0])["dice"] > 0.99


@pytest.mark.usefixtures("small")
def test_a_worker_keeps_to_one_core(checkpoint, monkeypatch):
    torch.set_num_threads(2)
    official.load_sam("vit_b", checkpoint=str(checkpoint))
    assert torch.get_num_threads() == 2
    monkeypatch.setattr("multiprocessing.parent_process", lambda: "the one that started it")
    official.load_sam("vit_b", checkpoint=str(checkpoint))
    assert torch.get_num_threads() == 1


class _Code:
    """What runs when an ordinary pickle is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def damaged(path):
    whole = path.read_bytes()
    yield "empty", b""
    yield "half", whole[: len(whole) // 2]
    yield "headless", whole[1000:]
    yield "text", b"<html>404 not found</html>"
    yield "zeros", bytes(1000)


@pytest.mark.usefixtures("small")
def test_a_damaged_checkpoint_is_named_in_one_line(checkpoint, tmp_path):
    for name, content in damaged(checkpoint):
        path = tmp_path / f"{name}.pth"
        path.write_bytes(content)
        with pytest.raises(CheckpointUnavailableError) as caught:
            official.load_sam("vit_b", checkpoint=str(path))
        assert str(caught.value).startswith(f"{path}: damaged") and "\n" not in str(caught.value)


@pytest.mark.usefixtures("small")
def test_code_in_a_checkpoint_is_not_run(tmp_path):
    path = tmp_path / "evil.pth"
    torch.save({"image_encoder.pos_embed": _Code(tmp_path / "it-ran")}, path)
    with pytest.raises(CheckpointUnavailableError, match=r"evil\.pth: damaged, or contains more than weights"):
        official.load_sam("vit_b", checkpoint=str(path))
    assert not (tmp_path / "it-ran").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "it-ran").exists(), "the file is as harmless as the test is worthless"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("state", [build_hand_sam().state_dict(), {"epoch": 3}, [1, 2], torch.zeros(2), None])
def test_the_weights_of_another_model_are_an_error_of_one_line(state, tmp_path):
    path = tmp_path / "other.pth"
    torch.save(state, path)
    with pytest.raises(CheckpointUnavailableError) as caught:
        official.load_sam("vit_b", checkpoint=str(path))
    assert str(caught.value) == (
        f"{path}: not a checkpoint of vit_b; set --sam-model to its model, or give another file with --sam-checkpoint."
    )


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("points", [(), ((120, 140), (90, 60))])
def test_hand_sam_gives_the_same_masks_as_with_the_code_of_the_official_models(points):
    """But for the outline that is read off without prompts, of which those know nothing."""
    torch.manual_seed(1)
    sam = build_hand_sam().eval()
    with torch.no_grad():  # biases and norms begin as 0 and 1, which would hide that they are left out
        for weight in sam.mask_decoder.parameters():
            weight += 0.1 * torch.randn_like(weight)
    model = PromptedHandSam(sam)
    pixels = draw_radiograph(140, sex="female", seed=3, size_px=(256, 256)).pixels
    prompts = Prompts(box=(20, 10, 230, 250), points=points)
    places = torch.tensor([[(20, 10), (229, 249), *points]], dtype=torch.float32)
    # Of a box alone segment-anything knows no padding, of a point beside it neither.
    labels = torch.tensor([[2, 3, *[1] * len(points)]], dtype=torch.float32)
    with torch.inference_mode():
        seen = model.encode_image(torch.from_numpy(pixels)[None, None].float())
        mean, quality = model.decode_masks(seen, places, labels)
        masks = 2 * mean - model.outline(seen)[:, None]
    candidates = official.predict_masks(SamPredictor(sam), pixels, prompts)
    assert len(candidates) == 3
    for index, candidate in enumerate(candidates, start=1):
        np.testing.assert_allclose(candidate.logits, masks[0, index], atol=1e-3)
        assert candidate.predicted_iou == pytest.approx(float(quality[0, index]), abs=1e-4)

"""Train one hand-SAM: examples, batches, loss, checkpoints and export."""

import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional

from boneage.base.errors import BoneAgeError
from boneage.base.files import write_atomic
from boneage.preprocessing.sam.official import has_bfloat16
from boneage.preprocessing.sam_training.network import PromptedHandSam, build_hand_sam
from boneage.preprocessing.sam_training.prompting import add_correction_clicks, sample_prompts
from boneage.preprocessing.sam_training.schedule import HandSamConfig
from boneage.preprocessing.segmentation.hand_sam import HAND_SAM_SIZE_PX, MAX_POINTS
from boneage.preprocessing.training_data.half_precision import store_weights_as_float16
from boneage.preprocessing.training_data.mask_augmentation import augment_pair
from boneage.preprocessing.training_data.mask_pairs import MaskPair

_CHECKPOINT_STEPS = 200


@dataclasses.dataclass(frozen=True)
class HandSamExamples:
    """Examples to train hand-SAM on.

    Args:
        labelled: Radiographs with manual masks.
        unlabelled: Radiographs with masks of another segmenter that the gate accepted.
        drawn: Drawings, whose masks are exact.
    """

    labelled: Sequence[MaskPair]
    unlabelled: Sequence[MaskPair]
    drawn: Sequence[MaskPair]

    def sample(self, config: HandSamConfig, *, rng: np.random.Generator) -> MaskPair:
        """Sample one radiograph, each kind by its share."""
        labelled = config.labelled_share if self.labelled else 0.0
        drawn = config.drawn_share if self.unlabelled or self.labelled else 1.0
        chance = rng.random()
        kind = self.labelled if chance < labelled else self.drawn if chance < labelled + drawn else self.unlabelled
        kind = kind or self.labelled
        return kind[int(rng.integers(len(kind)))]


@dataclasses.dataclass(frozen=True)
class _BatchDataset(torch.utils.data.Dataset):
    """One batch per step, determined by the number of the step alone, in whichever process."""

    examples: HandSamExamples
    config: HandSamConfig

    def __getitem__(self, step: int) -> tuple[np.ndarray, ...]:
        """Return radiographs, shares of hand in each pixel, points, and labels of the points."""
        rng = np.random.default_rng((self.config.seed, step))
        augmented = []
        for _ in range(self.config.batch_size):
            pixels, mask = augment_pair(self.examples.sample(self.config, rng=rng), size_px=HAND_SAM_SIZE_PX, rng=rng)
            augmented.append((pixels[None].astype(np.float32), mask, *sample_prompts(mask > 0.5, rng=rng)))
        return tuple(np.stack(arrays) for arrays in zip(*augmented, strict=True))


def fit_hand_sam(
    examples: HandSamExamples,
    *,
    config: HandSamConfig,
    init: Mapping[str, torch.Tensor] | None,
    frozen_stages: bool = False,
    out: Path,
    progress: Callable[[str], None],
) -> PromptedHandSam:
    """Train hand-SAM, on the GPU if available; resume from the checkpoint in `out` if there is one.

    Args:
        examples: Examples to train on.
        config: Settings of the training.
        init: Initial weights (default: random).
        frozen_stages: Whether the stem and the stages of the image encoder are frozen. A step takes half the time then.
        out: Folder of the checkpoint.
        progress: Called with a status line every 50 steps.

    Returns:
        The network, on the CPU.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(config.seed)
    model = PromptedHandSam(build_hand_sam())
    if init is not None:
        model.load_state_dict(init)
    model.to(device)
    for weight in model.parameters():
        if weight.ndim == 4:  # makes convolutions a third faster
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    frozen = [model.sam.image_encoder.stem, model.sam.image_encoder.stages] if frozen_stages else []
    for module in frozen:
        module.requires_grad_(False)
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=config.learning_rate, weight_decay=config.weight_decay)
    warmup = max(1, config.steps // 20)

    def factor(step: int) -> float:
        rise = (step + 1) / warmup
        return min(rise, 0.5 * (1 + float(np.cos(np.pi * max(0, step - warmup) / max(1, config.steps - warmup)))))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    checkpoint, start = out / "checkpoint.pt", 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        if saved["config"] != dataclasses.asdict(config):
            raise BoneAgeError(f"{checkpoint}: was trained with other settings; choose another folder with --out.")
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        scheduler.load_state_dict(saved["scheduler"])
        start = saved["step"]
    cv2.setNumThreads(1)  # each worker process runs on one core, and OpenCV's threads do not survive a fork
    batches = torch.utils.data.DataLoader(
        _BatchDataset(examples, config),
        batch_size=None,
        sampler=range(start, config.steps),
        num_workers=torch.get_num_threads(),
        prefetch_factor=4,
        pin_memory=device == "cuda",
    )
    model.train()
    for module in frozen:
        module.eval()
    recent: list[torch.Tensor] = []
    began = time.perf_counter()
    for step, batch in enumerate(batches, start=start):
        images, truth, points, labels = (tensor.to(device, non_blocking=True) for tensor in batch)
        generator = torch.Generator(device).manual_seed(config.seed + step)
        with torch.autocast(device, torch.bfloat16, enabled=has_bfloat16(device)):
            embeddings = model.encode_image(images)
            outline = model.outline(embeddings)
            if config.prompted:
                clicked = torch.rand(len(images), generator=generator, device=device) < config.click_share
                if clicked.any():
                    with torch.no_grad():
                        first, _ = model.decode_masks(embeddings[clicked], points[clicked], labels[clicked])
                    points[clicked], labels[clicked] = add_correction_clicks(
                        points[clicked],
                        labels[clicked],
                        logits=first[:, 0],
                        truth=truth[clicked] > 0.5,
                        generator=generator,
                    )
                logits, quality = model.decode_masks(embeddings, points, labels)
        loss = mask_loss(outline[:, None].float(), truth).mean()
        if config.prompted:
            loss = loss + hand_sam_loss(logits.float(), quality.float(), truth)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        recent.append(loss.detach())
        if (step + 1) % 50 == 0:
            seconds = (time.perf_counter() - began) / (step + 1 - start)
            mean = float(torch.stack(recent).mean())
            progress(f"step {step + 1} of {config.steps}: loss {mean:.4f}, {seconds:.3f} s a step")
            recent.clear()
        if (step + 1) % _CHECKPOINT_STEPS == 0 or step + 1 == config.steps:
            state = {
                "config": dataclasses.asdict(config),
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "step": step + 1,
            }
            with write_atomic(checkpoint) as temporary:
                torch.save(state, temporary)
    trained: PromptedHandSam = model.eval().cpu()
    return trained


def hand_sam_loss(logits: torch.Tensor, quality: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and Dice of each mask, plus the error of the predicted intersection over union.

    Of the three masks for ambiguous prompts, mean and best count half each.

    Args:
        logits: Shape `(batch, 4, height, width)`.
        quality: Predicted intersection over union, `(batch, 4)`.
        truth: Share of hand in each pixel, in [0, 1], `(batch, height, width)`.

    Returns:
        The mean loss.
    """
    losses = mask_loss(logits, truth)
    ambiguous_losses = losses[:, 1:]
    with torch.no_grad():
        found = logits > 0
        true = truth[:, None] > 0.5
        iou = ((found & true).sum(dim=(2, 3)) + 1) / ((found | true).sum(dim=(2, 3)) + 1)
    masks = losses[:, 0] + 0.5 * ambiguous_losses.mean(dim=1) + 0.5 * ambiguous_losses.min(dim=1).values
    return (masks + functional.mse_loss(quality, iou, reduction="none").mean(dim=1)).mean()


def mask_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return cross-entropy plus Dice loss of each mask, `(batch, masks)`; arguments as in `hand_sam_loss`.

    Dice with squares (Milletari et al. 2016, doi:10.1109/3DV.2016.79) is smallest if the prediction equals the share of
    hand in each pixel. Without squares it is smallest for binary predictions, whose outlines are jagged.
    """
    target = truth[:, None].expand_as(logits)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(2, 3))
    share = torch.sigmoid(logits)
    dice = 1 - (2 * (share * target).sum(dim=(2, 3)) + 1) / ((share**2 + target**2).sum(dim=(2, 3)) + 1)
    return entropy + dice


def export_hand_sam(model: PromptedHandSam, path: Path) -> None:
    """Write hand-SAM as ONNX with weights in half precision, atomically.

    Inputs and outputs are those of `PromptedHandSam`, for one image: `image`, `points`, `labels`; `logits`,
    `predicted_iou`.
    """
    side = HAND_SAM_SIZE_PX
    example = (torch.zeros(1, 1, side, side), torch.zeros(1, MAX_POINTS, 2), torch.zeros(1, MAX_POINTS))
    with write_atomic(path) as temporary, warnings.catch_warnings():
        # The tracing exporter is deprecated, but its successor needs one more package and gives the same graph.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            example,
            temporary,
            input_names=["image", "points", "labels"],
            output_names=["logits", "predicted_iou"],
            dynamic_axes={"image": {2: "height", 3: "width"}, "logits": {2: "height", 3: "width"}},
            dynamo=False,
            opset_version=17,
        )
        store_weights_as_float16(temporary)

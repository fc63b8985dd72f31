"""How one hand-SAM learns: what from, for how long, by which loss, and the files that come of it."""

import dataclasses
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional

from preprocessing.hand_sam import HAND_SAM_SIZE_PX, MAX_POINTS
from preprocessing.looks import augment_pair
from preprocessing.mask_pairs import MaskPair
from preprocessing.sam.network import Prompted, build_hand_sam
from preprocessing.sam.official import has_bfloat16
from preprocessing.sam.prompting import add_corrections, draw_prompts
from preprocessing.shipping import halve_weights
from tfrecords.errors import BoneAgeError, check_positive, check_shares

_CHECKPOINT_STEPS = 200


@dataclasses.dataclass(frozen=True)
class HandSamTraining:
    """How hand-SAM is trained.

    Args:
        steps: Number of batches.
        batch_size: Radiographs in a batch.
        learning_rate: Highest learning rate; reached after a twentieth of the steps, then lowered to zero by a cosine.
        weight_decay: Decoupled weight decay.
        labelled_share: Share of a batch that has masks made by hand, where there are such.
        drawn_share: Share of a batch that is drawings.
        click_share: Share of a batch in which a place is clicked on where the first answer is wrong.
        prompted: Whether the decoder learns to answer prompts; the image encoder alone learns otherwise.
        seed: Seed of everything random.
    """

    steps: int = 2000
    batch_size: int = 32
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    labelled_share: float = 0.5
    drawn_share: float = 0.15
    click_share: float = 0.3
    prompted: bool = True
    seed: int = 0

    def __post_init__(self):
        """Check every value."""
        check_positive(self, "steps", "batch_size", "learning_rate")
        check_shares(self, "labelled_share", "drawn_share", "click_share")


@dataclasses.dataclass(frozen=True)
class Phases:
    """The trainings of hand-SAM: encoder, then all of it, on masks of a segmenter; then on those made by hand.

    From those made by hand, which are few, what the stages of the encoder see is not learnt again, only what is read
    off it. To learn outlines alone takes two fifths of the time of a step.
    """

    encoder: HandSamTraining = HandSamTraining(steps=1000, batch_size=32, prompted=False)
    base: HandSamTraining = HandSamTraining(steps=500, batch_size=16, learning_rate=1e-3, seed=1)
    outlines: HandSamTraining = HandSamTraining(
        steps=300, batch_size=16, learning_rate=8e-4, labelled_share=0.9, drawn_share=0.03, prompted=False, seed=2
    )
    fine: HandSamTraining = HandSamTraining(
        steps=80, batch_size=16, learning_rate=5e-4, labelled_share=0.9, drawn_share=0.03, seed=3
    )


@dataclasses.dataclass(frozen=True)
class Matter:
    """What hand-SAM learns from.

    Args:
        labelled: Radiographs with masks made by hand.
        unlabelled: Radiographs with masks that another segmenter drew and the quality gate let through.
        drawn: Drawings, whose masks are true.
    """

    labelled: Sequence[MaskPair]
    unlabelled: Sequence[MaskPair]
    drawn: Sequence[MaskPair]

    def choose(self, config: HandSamTraining, *, rng: np.random.Generator) -> MaskPair:
        """Draw one radiograph, each kind with its share."""
        labelled = config.labelled_share if self.labelled else 0.0
        drawn = config.drawn_share if self.unlabelled or self.labelled else 1.0
        chance = rng.random()
        kind = self.labelled if chance < labelled else self.drawn if chance < labelled + drawn else self.unlabelled
        kind = kind or self.labelled
        return kind[int(rng.integers(len(kind)))]


@dataclasses.dataclass(frozen=True)
class _Batches(torch.utils.data.Dataset):
    """One batch for each step, drawn from the step's number alone, whichever process draws it."""

    matter: Matter
    config: HandSamTraining

    def __getitem__(self, step: int) -> tuple[np.ndarray, ...]:
        """Return radiographs, how much of each pixel is hand, points, and labels of the points."""
        rng = np.random.default_rng((self.config.seed, step))
        looks = []
        for _ in range(self.config.batch_size):
            pixels, mask = augment_pair(self.matter.choose(self.config, rng=rng), size_px=HAND_SAM_SIZE_PX, rng=rng)
            looks.append((pixels[None].astype(np.float32), mask, *draw_prompts(mask > 0.5, rng=rng)))
        return tuple(np.stack(each) for each in zip(*looks, strict=True))


def fit_hand_sam(
    matter: Matter,
    *,
    config: HandSamTraining,
    init: Mapping[str, torch.Tensor] | None,
    frozen_stages: bool = False,
    out: Path,
    progress: Callable[[str], None],
) -> Prompted:
    """Train hand-SAM, on the GPU where there is one; go on from the checkpoint in `out` where there is one.

    Args:
        matter: What to learn from.
        config: How.
        init: Weights to begin with; random ones without.
        frozen_stages: Whether the stages of the image encoder stay as they are, and only what is read off them is
            learnt. A step takes half the time.
        out: Folder of the checkpoint.
        progress: Called with a line of text now and then.

    Returns:
        The network, on the CPU.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(config.seed)
    model = Prompted(build_hand_sam())
    if init is not None:
        model.load_state_dict(init)
    model.to(device)
    for weight in model.parameters():
        if weight.ndim == 4:  # convolutions are a third faster so
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    frozen = [model.sam.image_encoder.stem, model.sam.image_encoder.stages] if frozen_stages else []
    for part in frozen:
        part.requires_grad_(False)
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=config.learning_rate, weight_decay=config.weight_decay)
    warmup = max(1, config.steps // 20)

    def factor(step: int) -> float:
        rise = (step + 1) / warmup
        return min(rise, 0.5 * (1 + float(np.cos(np.pi * max(0, step - warmup) / max(1, config.steps - warmup)))))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    checkpoint, start = out / "checkpoint.pt", 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        if saved["config"] != dataclasses.asdict(config):
            raise BoneAgeError(f"{checkpoint}: of a training with other settings; choose another folder by --out.")
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        scheduler.load_state_dict(saved["scheduler"])
        start = saved["step"]
    cv2.setNumThreads(1)  # each process draws on one core, and OpenCV's threads would not survive a fork
    batches = torch.utils.data.DataLoader(
        _Batches(matter, config),
        batch_size=None,
        sampler=range(start, config.steps),
        num_workers=torch.get_num_threads(),
        prefetch_factor=4,
        pin_memory=device == "cuda",
    )
    model.train()
    for part in frozen:
        part.eval()
    recent: list[torch.Tensor] = []
    began = time.perf_counter()
    for step, batch in enumerate(batches, start=start):
        images, truth, points, labels = (each.to(device, non_blocking=True) for each in batch)
        chance = torch.Generator(device).manual_seed(config.seed + step)
        with torch.autocast(device, torch.bfloat16, enabled=has_bfloat16(device)):
            seen = model.look(images)
            outline = model.outline(seen)
            if config.prompted:
                clicked = torch.rand(len(images), generator=chance, device=device) < config.click_share
                if clicked.any():
                    with torch.no_grad():
                        first, _ = model.answer(seen[clicked], points[clicked], labels[clicked])
                    points[clicked], labels[clicked] = add_corrections(
                        points[clicked],
                        labels[clicked],
                        logits=first[:, 0],
                        truth=truth[clicked] > 0.5,
                        generator=chance,
                    )
                logits, quality = model.answer(seen, points, labels)
        loss = compare_masks(outline[:, None].float(), truth).mean()
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
            torch.save(state, checkpoint.with_suffix(".part"))
            os.replace(checkpoint.with_suffix(".part"), checkpoint)
    return model.eval().cpu()


def hand_sam_loss(logits: torch.Tensor, quality: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and Dice of each mask, half by the best of the three, and the error of the predicted quality.

    Args:
        logits: Shape `(batch, 4, height, width)`.
        quality: Predicted intersection over union, `(batch, 4)`.
        truth: How much of each pixel is hand, in [0, 1], `(batch, height, width)`.

    Returns:
        The mean loss.
    """
    each = compare_masks(logits, truth)
    several = each[:, 1:]
    with torch.no_grad():
        found = logits > 0
        true = truth[:, None] > 0.5
        iou = ((found & true).sum(dim=(2, 3)) + 1) / ((found | true).sum(dim=(2, 3)) + 1)
    masks = each[:, 0] + 0.5 * several.mean(dim=1) + 0.5 * several.min(dim=1).values
    return (masks + functional.mse_loss(quality, iou, reduction="none").mean(dim=1)).mean()


def compare_masks(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return cross-entropy and Dice loss of each mask, `(batch, masks)`; arguments as of `hand_sam_loss`.

    Dice with squares (Milletari et al. 2016, doi:10.1109/3DV.2016.79) is smallest where the answer is the share itself;
    without them it would be where each pixel is hand or not, and outlines would go in steps.
    """
    target = truth[:, None].expand_as(logits)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(2, 3))
    share = torch.sigmoid(logits)
    dice = 1 - (2 * (share * target).sum(dim=(2, 3)) + 1) / ((share**2 + target**2).sum(dim=(2, 3)) + 1)
    return entropy + dice


def export_hand_sam(model: Prompted, path: Path) -> None:
    """Write hand-SAM as ONNX, weights in half precision, beside its place and then renamed.

    Inputs and outputs are those of `Prompted`, for one image: `image`, `points`, `labels`; `logits`, `predicted_iou`.
    """
    beside = path.with_name(path.stem + ".half.onnx")
    side = HAND_SAM_SIZE_PX
    example = (torch.zeros(1, 1, side, side), torch.zeros(1, MAX_POINTS, 2), torch.zeros(1, MAX_POINTS))
    with warnings.catch_warnings():
        # The exporter by tracing is deprecated, but its successor needs a package more and gives the same graph.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            example,
            beside,
            input_names=["image", "points", "labels"],
            output_names=["logits", "predicted_iou"],
            dynamic_axes={"image": {2: "height", 3: "width"}, "logits": {2: "height", 3: "width"}},
            dynamo=False,
            opset_version=17,
        )
    halve_weights(beside)
    os.replace(beside, path)

"""The settings of the trainings of hand-SAM; importing them needs no torch."""

import dataclasses

from boneage.base.errors import check_positive, check_shares


@dataclasses.dataclass(frozen=True)
class HandSamConfig:
    """Settings of one training of hand-SAM.

    Args:
        steps: Number of batches.
        batch_size: Radiographs in a batch.
        learning_rate: Highest learning rate; reached after a twentieth of the steps, then a cosine decay to zero.
        weight_decay: Decoupled weight decay.
        labelled_share: Share of manual masks in a batch, if there are any.
        drawn_share: Share of drawings in a batch.
        click_share: Share of a batch that gets a click on an error of the first mask.
        prompted: Whether the decoder is trained on prompts; otherwise only the outline of the image encoder is trained.
        seed: Random seed.
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

    def __post_init__(self) -> None:
        """Check every value."""
        check_positive(self, "steps", "batch_size", "learning_rate")
        check_shares(self, "labelled_share", "drawn_share", "click_share")


@dataclasses.dataclass(frozen=True)
class HandSamSchedule:
    """The trainings of hand-SAM: encoder, then all of it, on masks of a segmenter; then on manual masks.

    On the few manual masks, the stages of the encoder are frozen. Without prompts, a step takes two fifths of the time.
    """

    encoder: HandSamConfig = HandSamConfig(steps=1000, batch_size=32, prompted=False)
    base: HandSamConfig = HandSamConfig(steps=500, batch_size=16, learning_rate=1e-3, seed=1)
    outlines: HandSamConfig = HandSamConfig(
        steps=300, batch_size=16, learning_rate=8e-4, labelled_share=0.9, drawn_share=0.03, prompted=False, seed=2
    )
    fine: HandSamConfig = HandSamConfig(
        steps=80, batch_size=16, learning_rate=5e-4, labelled_share=0.9, drawn_share=0.03, seed=3
    )

"""Hand-SAM: a small Segment Anything model with segment-anything's own prompt encoder and mask decoder.

After Kirillov et al. 2023, arXiv:2304.02643. The image encoder is convolutional: a vision transformer needs more
radiographs and training time than are available.
"""

import torch
from torch import nn
from torch.nn import functional

from boneage.preprocessing.sam import torchvision_stand_in as stand_in
from boneage.preprocessing.segmentation.hand_sam import HAND_SAM_SIZE_PX

stand_in.install()
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer  # noqa: E402

STRIDE = 4  # input pixels per embedding; the mask decoder upsamples by this factor, back to the size of the input
EMBEDDING_DIM = 96
WIDTHS = (24, 48, 96, 160, 224)
GREY_MEAN, GREY_STD = 60.0, 60.0  # of contrast-normalised radiographs; all three channels are equal


class _Block(nn.Module):
    """Residual block of two convolutions."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = _convolve(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels, momentum=0.03)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x + self.second(self.first(x)))


def _convolve(inputs: int, outputs: int, *, size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs, momentum=0.03),
        nn.ReLU(inplace=True),
    )


class ConvolutionalEncoder(nn.Module):
    """Image encoder: residual blocks and a feature pyramid.

    Input shape:
        `(batch, 3, 256, 256)`, float32, normalised; the three channels are equal, and the first is used.

    Output shape:
        `(batch, 96, 64, 64)`, float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.img_size = HAND_SAM_SIZE_PX
        self.stem = _convolve(1, WIDTHS[0], size=5, stride=2)
        self.stages = nn.ModuleList()
        for inputs, outputs, num_blocks in zip(WIDTHS, WIDTHS[1:], (1, 2, 2, 2), strict=False):
            blocks = [_Block(outputs) for _ in range(num_blocks)]
            self.stages.append(nn.Sequential(_convolve(inputs, outputs, stride=2), *blocks))
        self.laterals = nn.ModuleList(nn.Conv2d(width, EMBEDDING_DIM, 1) for width in WIDTHS[1:])
        self.joins = nn.ModuleList(_convolve(EMBEDDING_DIM, EMBEDDING_DIM) for _ in WIDTHS[2:-1])
        self.last = nn.Sequential(_convolve(EMBEDDING_DIM, 64, size=1), _convolve(64, 64))
        self.neck = nn.Conv2d(64, EMBEDDING_DIM, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the embeddings."""
        x = self.stem(x[:, :1])
        features = []
        for stage, lateral in zip(self.stages, self.laterals, strict=True):
            x = stage(x)
            features.append(lateral(x))
        x = features.pop()
        for join in self.joins:
            x = join(_upsample(x) + features.pop())
        return self.neck(self.last(_upsample(x) + features.pop()))


def _upsample(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def build_hand_sam() -> Sam:
    """Build hand-SAM with random weights: a `segment_anything.modeling.Sam`, so that `SamPredictor` accepts it.

    `SamPredictor` uses the decoder alone; `PromptedHandSam` averages it with an outline that needs no prompts.
    """
    side = HAND_SAM_SIZE_PX // STRIDE
    return Sam(
        image_encoder=ConvolutionalEncoder(),
        prompt_encoder=PromptEncoder(
            embed_dim=EMBEDDING_DIM,
            image_embedding_size=(side, side),
            input_image_size=(HAND_SAM_SIZE_PX, HAND_SAM_SIZE_PX),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=EMBEDDING_DIM, mlp_dim=384, num_heads=6),
            transformer_dim=EMBEDDING_DIM,
            iou_head_depth=3,
            iou_head_hidden_dim=96,
        ),
        pixel_mean=[GREY_MEAN] * 3,
        pixel_std=[GREY_STD] * 3,
    )


class PromptedHandSam(nn.Module):
    """A Sam for batches of images, each with its own prompts, in one call that can be traced to ONNX.

    segment-anything's own decoder takes one image and many prompts at a time, and its prompt encoder uses boolean
    indices; modules and weights are the same.

    Args:
        sam: The model.

    Input shape:
        `image`: `(batch, 1, height, width)`, float32 in [0, 255], bright bone; sides of 256 or a smaller
            multiple of 32.
        `points`: `(batch, points, 2)`, float32, `(x, y)` in pixels of the input.
        `labels`: `(batch, points)`, float32: 1 on the hand, 0 not, 2 and 3 upper left and lower right corner of a
        box, -1 no point.

    Output shape:
        Logits of four masks, `(batch, 4, height, width)`, the first for clear prompts, the others for ambiguous ones;
        and their predicted intersections over union, `(batch, 4)`.
    """

    def __init__(self, sam: Sam):
        super().__init__()
        self.sam = sam
        self.sketch = nn.Conv2d(EMBEDDING_DIM, STRIDE**2, 1)

    def forward(
        self, image: torch.Tensor, points: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the masks and their predicted quality.

        The outline is averaged over the image and its mirror image (test-time augmentation).
        """
        embeddings, mirrored = self.encode_image(torch.cat([image, image.flip(3)])).chunk(2)
        outline = (self.outline(embeddings) + self.outline(mirrored).flip(2)) / 2
        return self.decode_masks(embeddings, points, labels, outline=outline)

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """Return the image embeddings, independent of prompts, `(batch, 96, 64, 64)`."""
        grey = (image - self.sam.pixel_mean[:1]) / self.sam.pixel_std[:1]
        return self.sam.image_encoder(grey.expand(-1, 3, -1, -1))

    def outline(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return logits of one mask, `(batch, height, width)`, from the embeddings without prompts or decoder.

        Trained alone, a step takes two fifths of the time of a step with the decoder.
        """
        return functional.pixel_shuffle(self.sketch(embeddings), STRIDE)[:, 0]

    def decode_masks(
        self,
        embeddings: torch.Tensor,
        points: torch.Tensor,
        labels: torch.Tensor,
        *,
        outline: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the masks and their predicted quality, for images that are already encoded.

        Logits are the mean of the decoder's and of the outline that needs no prompts: their errors are largely
        independent. The default `outline` is that of the embeddings.
        """
        outline = self.outline(embeddings) if outline is None else outline
        decoder = self.sam.mask_decoder
        batch, channels, height, width = embeddings.shape
        # Inputs smaller than the square of the training lie in its middle.
        top, left = ((HAND_SAM_SIZE_PX // STRIDE - side) // 2 for side in (height, width))
        source = embeddings + self.sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])[None].expand(batch, -1, -1)
        corner = torch.stack([torch.as_tensor(left), torch.as_tensor(top)]) * STRIDE
        tokens = torch.cat([own, self._embed(points + corner, labels)], dim=1)
        positions = self.sam.prompt_encoder.get_dense_pe()[:, :, top : top + height, left : left + width]
        positions = positions.expand(batch, -1, -1, -1)
        decoded, source = decoder.transformer(source, positions, tokens)
        fine = decoder.output_upscaling(source.transpose(1, 2).reshape(batch, channels, height, width))
        weights = torch.stack(
            [mlp(decoded[:, 1 + index]) for index, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1
        )
        masks = (weights @ fine.flatten(2)).unflatten(2, (fine.shape[2], fine.shape[3]))
        return (masks + outline[:, None]) / 2, decoder.iou_prediction_head(decoded[:, 0])

    def _embed(self, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        encoder = self.sam.prompt_encoder
        shares = (points + 0.5) / HAND_SAM_SIZE_PX
        embedded = encoder.pe_layer._pe_encoding(shares) * (labels >= 0)[..., None]
        kinds = [encoder.not_a_point_embed, *encoder.point_embeddings]
        for label, kind in enumerate(kinds, start=-1):
            embedded = embedded + kind.weight * (labels == label)[..., None]
        return embedded

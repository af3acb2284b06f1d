"""CLIP's towers as the published models read them: tokens, before the layers that pool them.

Source: CLIP (arXiv 2103.00020), at the size and with the weights of OpenCLIP's ViT-H-14, of which
DynamiCrafter (arXiv 2310.12190) reads the tokens.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_gym.configs.model import ClipConfig

IMAGE_SIZE = 224
PATCH_SIZE = 14
TEXT_LENGTH = 77

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class ClipImageTower(nn.Module):
    """Turn a picture into one token for the whole and one per patch."""

    def __init__(self, cfg: ClipConfig) -> None:
        """Build with fresh weights; loads nothing."""
        super().__init__()
        tokens = 1 + (IMAGE_SIZE // PATCH_SIZE) ** 2
        self.patch_embedding = nn.Conv2d(3, cfg.width, PATCH_SIZE, stride=PATCH_SIZE, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(cfg.width) * cfg.width**-0.5)
        self.position_embedding = nn.Parameter(torch.randn(tokens, cfg.width) * cfg.width**-0.5)
        self.norm = nn.LayerNorm(cfg.width)
        self.encoder = _make_encoder(cfg)

    @staticmethod
    def preprocess(images: Tensor) -> Tensor:
        """Bring images (N, 3, H, W) in [-1, 1] to CLIP's size and spread: (N, 3, 224, 224).

        Bicubic, after a blur where the image shrinks, as Kornia's `resize` with `antialias`.
        """
        shrink = (images.shape[2] / IMAGE_SIZE, images.shape[3] / IMAGE_SIZE)
        if max(shrink) > 1:
            images = _blur(images, shrink)
        resized = F.interpolate(images, (IMAGE_SIZE,) * 2, mode="bicubic", align_corners=True)
        mean, std = (images.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
        return ((resized + 1) / 2 - mean) / std

    def forward(self, images: Tensor) -> Tensor:
        """Turn preprocessed images (N, 3, 224, 224) into tokens (N, 257, width)."""
        patches = self.patch_embedding(images).flatten(2).transpose(1, 2)  # (N, 256, width)
        whole = self.class_embedding.expand(len(images), 1, -1)
        tokens = self.norm(torch.cat([whole, patches], dim=1) + self.position_embedding)
        out: Tensor = self.encoder(tokens).last_hidden_state
        return out


class ClipTextTower(nn.Module):
    """Turn a prompt into tokens, each of which knows the prompt up to itself."""

    def __init__(self, cfg: ClipConfig, vocabulary: int) -> None:
        """Build with fresh weights for `vocabulary` kinds of token; loads nothing."""
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, cfg.width)
        self.position_embedding = nn.Parameter(torch.randn(TEXT_LENGTH, cfg.width) * 0.01)
        self.norm = nn.LayerNorm(cfg.width)
        self.encoder = _make_encoder(cfg)

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn token numbers (N, 77) into tokens (N, 77, width); padding is read like text."""
        embedded = self.token_embedding(tokens) + self.position_embedding
        unseen = embedded.new_full((1, 1, TEXT_LENGTH, TEXT_LENGTH), float("-inf")).triu(1)
        out: Tensor = self.norm(self.encoder(embedded, unseen).last_hidden_state)
        return out


def empty_prompt(vocabulary: int) -> Tensor:
    """Return the token numbers (1, 77) of the prompt that says nothing.

    The last two of the vocabulary are the marks of start and end; padding is 0.
    """
    tokens = torch.zeros(1, TEXT_LENGTH, dtype=torch.int64)
    tokens[0, :2] = torch.tensor([vocabulary - 2, vocabulary - 1])
    return tokens


def _make_encoder(cfg: ClipConfig) -> nn.Module:
    from transformers import CLIPVisionConfig
    from transformers.models.clip.modeling_clip import CLIPEncoder

    config: Any = CLIPVisionConfig(  # type: ignore[call-arg]
        hidden_size=cfg.width,
        intermediate_size=cfg.hidden,
        num_hidden_layers=cfg.layers,
        num_attention_heads=cfg.heads,
        hidden_act="gelu",
        attn_implementation="sdpa",
    )
    return CLIPEncoder(config)  # the same for text: its mask and embedding make the difference


def _blur(images: Tensor, shrink: tuple[float, float]) -> Tensor:
    rows, columns = (_gaussian(factor).to(images) for factor in shrink)
    kernel = torch.outer(rows, columns).expand(3, 1, -1, -1)
    across, down = len(columns) // 2, len(rows) // 2
    padded = F.pad(images, (across, across, down, down), mode="reflect")
    return F.conv2d(padded, kernel, groups=3)


def _gaussian(shrink: float) -> Tensor:
    sigma = max((shrink - 1) / 2, 0.001)  # an axis that does not shrink keeps its pixels
    size = max(int(4 * sigma), 3) | 1
    offsets = torch.arange(size) - size // 2
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    return kernel / kernel.sum()

"""CLIP's image and text towers, and the resampler, which give the tokens of cross-attention.

Like DynamiCrafter (arXiv 2310.12190), the published models use the towers' tokens before pooling.
Source: CLIP (arXiv 2103.00020), with the size and weights of OpenCLIP's ViT-H-14.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_gym.configs.model import ClipConfig, ContextConfig, ResamplerConfig

IMAGE_SIZE = 224
PATCH_SIZE = 14
TEXT_LENGTH = 77

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class ClipImageTower(nn.Module):
    """The image tower: from a picture to one class token and one token per patch."""

    def __init__(self, cfg: ClipConfig) -> None:
        super().__init__()
        tokens = 1 + (IMAGE_SIZE // PATCH_SIZE) ** 2
        self.patch_embedding = nn.Conv2d(3, cfg.width, PATCH_SIZE, stride=PATCH_SIZE, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(cfg.width) * cfg.width**-0.5)
        self.position_embedding = nn.Parameter(torch.randn(tokens, cfg.width) * cfg.width**-0.5)
        self.norm = nn.LayerNorm(cfg.width)
        self.encoder = _make_encoder(cfg)

    @staticmethod
    def preprocess(images: Tensor) -> Tensor:
        """Resize and normalise images (N, 3, H, W) in [-1, 1] for CLIP: (N, 3, 224, 224).

        Bicubic, with a blur before shrinking, as in Kornia's `resize` with `antialias`.
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
    """The text tower, with causal attention."""

    def __init__(self, cfg: ClipConfig, vocabulary: int) -> None:
        """Build for `vocabulary` different tokens."""
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, cfg.width)
        self.position_embedding = nn.Parameter(torch.randn(TEXT_LENGTH, cfg.width) * 0.01)
        self.norm = nn.LayerNorm(cfg.width)
        self.encoder = _make_encoder(cfg)

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn token ids (N, 77) into tokens (N, 77, width); padding is not masked."""
        embedded = self.token_embedding(tokens) + self.position_embedding
        later = embedded.new_full((1, 1, TEXT_LENGTH, TEXT_LENGTH), float("-inf")).triu(1)
        out: Tensor = self.norm(self.encoder(embedded, later).last_hidden_state)
        return out


class Resampler(nn.Module):
    """The resampler, whose learned queries reduce CLIP tokens to a few for cross-attention.

    Source: DynamiCrafter (arXiv 2310.12190), the query transformer, which is the Perceiver
    Resampler of Flamingo (arXiv 2204.14198).
    """

    def __init__(self, cfg: ResamplerConfig, in_channels: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, cfg.tokens, cfg.channels) * cfg.channels**-0.5)
        self.project_in = nn.Linear(in_channels, cfg.channels)
        self.layers = nn.ModuleList(_ResamplerLayer(cfg) for _ in range(cfg.layers))
        self.project_out = nn.Linear(cfg.channels, cfg.out_channels)
        self.norm = nn.LayerNorm(cfg.out_channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn tokens (N, L, in_channels) into (N, M, out_channels), M = `cfg.tokens`."""
        tokens = self.project_in(tokens)
        latents = self.latents.expand(len(tokens), -1, -1)
        for layer in self.layers:
            latents = layer(latents, tokens)
        out: Tensor = self.norm(self.project_out(latents))
        return out


class _ResamplerLayer(nn.Module):
    def __init__(self, cfg: ResamplerConfig) -> None:
        super().__init__()
        self.heads = cfg.heads
        inner = cfg.heads * cfg.head_channels
        self.norm_tokens = nn.LayerNorm(cfg.channels)
        self.norm_latents = nn.LayerNorm(cfg.channels)
        self.to_q = nn.Linear(cfg.channels, inner, bias=False)
        self.to_kv = nn.Linear(cfg.channels, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, cfg.channels, bias=False)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(cfg.channels),
            nn.Linear(cfg.channels, cfg.hidden, bias=False),
            nn.GELU(),
            nn.Linear(cfg.hidden, cfg.channels, bias=False),
        )

    def forward(self, latents: Tensor, tokens: Tensor) -> Tensor:
        latents = latents + self._attend(self.norm_latents(latents), self.norm_tokens(tokens))
        out: Tensor = latents + self.feed_forward(latents)
        return out

    def _attend(self, latents: Tensor, tokens: Tensor) -> Tensor:
        """Let the latents attend to the tokens and to each other."""
        keys_values = self.to_kv(torch.cat([tokens, latents], dim=1))
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (N, heads, L, head_channels)
            for part in (self.to_q(latents), *keys_values.chunk(2, dim=-1))
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return out


class FrameContext(nn.Module):
    """The context of a frame: its image tokens, and the stored embedding of the empty prompt.

    All data sets of the published models have the empty caption. So its embedding `text` (L, D) is
    stored with the weights, and inference needs no text tower.
    Source: DynamiCrafter section 3.2.
    """

    text: Tensor

    def __init__(self, cfg: ContextConfig) -> None:
        """Build with a prompt embedding of zeros."""
        super().__init__()
        self.image_tower = ClipImageTower(cfg.clip)
        self.resampler = Resampler(cfg.resampler, cfg.clip.width)
        self.register_buffer("text", torch.zeros(cfg.text_tokens, cfg.resampler.out_channels))

    def forward(self, pictures: Tensor) -> Tensor:
        """Turn pictures (B, 3, H, W) in [-1, 1] into tokens (B, M, D)."""
        tokens: Tensor = self.resampler(self.image_tokens(pictures))
        return tokens

    def image_tokens(self, pictures: Tensor) -> Tensor:
        """Turn pictures (B, 3, H, W) in [-1, 1] into tokens (B, L, width) of the image tower."""
        prepared = self.image_tower.preprocess(pictures).to(self.text.dtype)
        tokens: Tensor = self.image_tower(prepared)
        return tokens


def empty_prompt(vocabulary: int) -> Tensor:
    """Return the token ids (1, 77) of the empty prompt.

    The last two ids of the vocabulary mark start and end; padding is 0.
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
    return CLIPEncoder(config)  # for text too, which differs in its mask and embedding alone


def _blur(images: Tensor, shrink: tuple[float, float]) -> Tensor:
    rows, columns = (_gaussian(factor).to(images) for factor in shrink)
    kernel = torch.outer(rows, columns).expand(3, 1, -1, -1)
    across, down = len(columns) // 2, len(rows) // 2
    padded = F.pad(images, (across, across, down, down), mode="reflect")
    return F.conv2d(padded, kernel, groups=3)


def _gaussian(shrink: float) -> Tensor:
    sigma = max((shrink - 1) / 2, 0.001)  # no blur along an axis that does not shrink
    size = max(int(4 * sigma), 3) | 1
    offsets = torch.arange(size) - size // 2
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    return kernel / kernel.sum()

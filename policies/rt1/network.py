"""The RT-1 network: a language-conditioned image encoder, a TokenLearner and a causal transformer.

Shape legend: B windows, T frames, N single frames, K image tokens of a frame, A action tokens,
D values of an image token, W values of a token in the transformer, E values of an instruction,
P positions of the feature map.

Source: RT-1 (arXiv:2212.06817) and its public code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_gym.configs.rt1 import RT1Config
from v2w_gym.policies.rt1.efficientnet import ImageEncoder, feature_size

STAGES = ("channels", "repeats", "kernels", "strides", "expansions")
"""Sizes with one entry per stage of the image encoder."""
MOST_STAGES = 32


class TokenLearner(nn.Module):
    """Reduce P positions to K tokens, weighted means over positions. Source: TokenLearner v1.1."""

    def __init__(self, cfg: RT1Config) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.LayerNorm(cfg.token_size, eps=1e-6),
            nn.Linear(cfg.token_size, cfg.learner_width),
            nn.GELU(approximate="tanh"),
            nn.Linear(cfg.learner_width, cfg.image_tokens),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, P, D) to (N, K, D)."""
        weights = self.weigh(features).softmax(dim=1)  # (N, P, K)
        tokens: Tensor = weights.mT @ features
        return tokens


class TransformerLayer(nn.Module):
    """Attention and one linear map, each with a normalisation before and a skip, as in RT-1."""

    def __init__(self, cfg: RT1Config) -> None:
        super().__init__()
        inner = cfg.heads * cfg.head_size
        self.head_size = cfg.head_size
        self.dropout = cfg.dropout
        self.norm1 = nn.LayerNorm(cfg.width, eps=1e-6)
        self.query = nn.Linear(cfg.width, inner)
        self.key = nn.Linear(cfg.width, inner)
        self.value = nn.Linear(cfg.width, inner)
        self.mix = nn.Linear(inner, cfg.width)
        self.norm2 = nn.LayerNorm(cfg.width, eps=1e-6)
        self.feed_forward = nn.Linear(cfg.width, cfg.width)

    def forward(self, tokens: Tensor, allowed: Tensor) -> Tensor:
        """Map (B, S, W) to the same shape; `allowed` (S, S) is the attention mask, True = keep."""
        mixed = F.dropout(self._attend(self.norm1(tokens), allowed), self.dropout, self.training)
        tokens = tokens + mixed
        fed = F.dropout(self.feed_forward(self.norm2(tokens)), self.dropout, self.training)
        return tokens + fed

    def _attend(self, tokens: Tensor, allowed: Tensor) -> Tensor:
        query, key, value = (
            project(tokens).unflatten(-1, (-1, self.head_size)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )  # each (B, heads, S, head_size)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, allowed, dropout)
        projected: Tensor = self.mix(mixed.transpose(1, 2).flatten(2))
        return projected


class RT1Network(nn.Module):
    """Frames and instructions in, logits of action tokens out."""

    def __init__(self, cfg: RT1Config, action_tokens: int) -> None:
        """Build a network for actions of `action_tokens` tokens."""
        super().__init__()
        self.cfg = cfg
        self.action_tokens = action_tokens
        allowed = attention_mask(cfg.history, cfg.image_tokens, action_tokens)
        self.encoder = ImageEncoder(cfg)
        self.token_learner = TokenLearner(cfg)
        self.embed = nn.Linear(cfg.token_size, cfg.width)
        self.positions = nn.Linear(len(allowed), cfg.width)  # of one-hot places
        self.layers = nn.ModuleList(TransformerLayer(cfg) for _ in range(cfg.layers))
        self.read_out = nn.Linear(cfg.width, cfg.bins)
        # RT-1 has this layer but feeds zeros in its place. It is kept, though nothing reads it, so
        # that a converted checkpoint holds every published weight and sizes agree.
        self.action_embedding = nn.Linear(cfg.bins, cfg.token_size)
        self.register_buffer("allowed", allowed, persistent=False)

    def encode(self, frames: Tensor, instruction: Tensor) -> Tensor:
        """Turn uint8 frames (N, H, W, 3) and instructions (N, E) into image tokens (N, K, D)."""
        tokens: Tensor = self.token_learner(self.encoder(frames, instruction))
        return tokens

    def forward(self, image_tokens: Tensor) -> Tensor:
        """Turn the image tokens of T frames (B, T, K, D) into logits (B, T, A, bins).

        Action slots are fed as zeros, as in RT-1, so one pass gives all tokens. A frame
        attends to earlier frames only, so later slots may hold anything.
        """
        batch, history, kept, _ = image_tokens.shape
        slots = F.pad(image_tokens, (0, 0, 0, self.action_tokens))  # (B, T, K + A, D)
        places = self.positions.weight.T + self.positions.bias
        tokens = self.embed(slots.flatten(1, 2)) + places
        for layer in self.layers:
            tokens = layer(tokens, self.allowed)
        steps = tokens.view(batch, history, kept + self.action_tokens, -1)
        logits: Tensor = self.read_out(steps[:, :, kept - 1 : -1])  # each row predicts the next
        return logits


def attention_mask(history: int, image_tokens: int, action_tokens: int) -> Tensor:
    """Return (S, S) bool, True where row may attend to column; S = T (K + A).

    No row attends to later columns, and no action row to any action column, itself included.
    """
    step = torch.arange(image_tokens + action_tokens)
    is_action = (step >= image_tokens).repeat(history)
    causal = torch.ones(len(is_action), len(is_action), dtype=torch.bool).tril()
    return causal & ~(is_action[:, None] & is_action[None, :])


def check_sizes(cfg: RT1Config) -> None:
    """Check that a network can have such sizes together, before it takes memory or time.

    Raises:
        ValueError: Sizes for different numbers of stages, or frames too small for the encoder.
    """
    stages = {name: len(getattr(cfg, name)) for name in STAGES}
    if len(set(stages.values())) > 1 or not 1 <= stages["channels"] <= MOST_STAGES:
        raise ValueError(f"expected one entry per stage of the encoder, found {stages}")
    if not all(kernel % 2 for kernel in cfg.kernels):
        raise ValueError(f"expected odd sizes in network.kernels, found {cfg.kernels}")
    if min(feature_size(cfg)) < 1:
        raise ValueError(
            "expected network.input_size to leave a pixel after all strides, found "
            f"{cfg.input_size} and strides {cfg.strides}"
        )

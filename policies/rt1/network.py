"""The RT-1 network: a language-conditioned image encoder, a TokenLearner and a causal transformer.

Shape legend: B windows, T frames, N single frames, K image tokens of a frame, A action tokens,
D values of a token, E values of an instruction, P positions of the feature map.

Source: RT-1 (arXiv:2212.06817) and its public code. A small residual network stands where RT-1
has an EfficientNet, and positions are added to its features, which a small network cannot infer.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.policy import RT1Config


class FiLM(nn.Module):
    """Scale and shift features by what an instruction says; the identity before training."""

    def __init__(self, instruction_size: int, channels: int) -> None:
        """Start with zero weights."""
        super().__init__()
        self.project = nn.Linear(instruction_size, 2 * channels)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, features: Tensor, instruction: Tensor) -> Tensor:
        """Modulate (N, C, h, w) by (N, E)."""
        scale, shift = self.project(instruction)[:, :, None, None].chunk(2, dim=1)
        modulated: Tensor = features * (1 + scale) + shift
        return modulated


class ResidualBlock(nn.Module):
    """Two normalised convolutions around a skip, then FiLM."""

    def __init__(self, channels: int, groups: int, instruction_size: int) -> None:
        """Keep the number of channels."""
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = FiLM(instruction_size, channels)

    def forward(self, features: Tensor, instruction: Tensor) -> Tensor:
        """Map (N, C, h, w) to the same shape."""
        hidden = self.conv1(F.silu(self.norm1(features)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        modulated: Tensor = self.film(features + hidden, instruction)
        return modulated


class ImageEncoder(nn.Module):
    """Turn a frame into D features at each of P positions, looking for what is asked."""

    def __init__(self, cfg: RT1Config) -> None:
        """Build stages that halve height and width each."""
        super().__init__()
        inputs = (3, *cfg.channels[:-1])
        self.downs = nn.ModuleList(
            nn.Conv2d(c_in, c_out, 3, stride=2, padding=1)
            for c_in, c_out in zip(inputs, cfg.channels, strict=True)
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(
                ResidualBlock(channels, cfg.groups, cfg.instruction_size) for _ in range(blocks)
            )
            for channels, blocks in zip(cfg.channels, cfg.blocks, strict=True)
        )
        height, width = (-(-side // 2 ** len(cfg.channels)) for side in cfg.image_size)
        self.head = nn.Conv2d(cfg.channels[-1], cfg.width, 1, bias=False)
        self.film = FiLM(cfg.instruction_size, cfg.width)
        self.positions = nn.Parameter(0.02 * torch.randn(height * width, cfg.width))

    def forward(self, frames: Tensor, instruction: Tensor) -> Tensor:
        """Map uint8 (N, H, W, 3) and (N, E) to (N, P, D)."""
        features = frames.movedim(-1, 1).float() / 127.5 - 1
        for down, blocks in zip(self.downs, self.stages, strict=True):
            features = F.silu(down(features))
            for block in blocks:  # type: ignore[attr-defined]
                features = block(features, instruction)
        tokens: Tensor = self.film(self.head(F.silu(features)), instruction).flatten(2).mT
        return tokens + self.positions


class TokenLearner(nn.Module):
    """Keep K tokens of P: each is a weighted mean over positions. Source: TokenLearner v1.1."""

    def __init__(self, cfg: RT1Config) -> None:
        """Build the network that weighs positions."""
        super().__init__()
        self.weigh = nn.Sequential(
            nn.LayerNorm(cfg.width, eps=1e-6),
            nn.Linear(cfg.width, cfg.learner_width),
            nn.GELU(approximate="tanh"),
            nn.Dropout(cfg.dropout),
            nn.Linear(cfg.learner_width, cfg.image_tokens),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, P, D) to (N, K, D)."""
        weights = self.weigh(features).softmax(dim=1)  # (N, P, K)
        tokens: Tensor = weights.mT @ features
        return tokens


class TransformerLayer(nn.Module):
    """Attention and one linear map, each after a normalisation and around a skip, as in RT-1."""

    def __init__(self, cfg: RT1Config) -> None:
        """Build the projections."""
        super().__init__()
        inner = cfg.heads * cfg.head_size
        self.heads = cfg.heads
        self.dropout = cfg.dropout
        self.norm1 = nn.LayerNorm(cfg.width, eps=1e-6)
        self.project_in = nn.Linear(cfg.width, 3 * inner)
        self.project_out = nn.Linear(inner, cfg.width)
        self.norm2 = nn.LayerNorm(cfg.width, eps=1e-6)
        self.feed_forward = nn.Linear(cfg.width, cfg.width)

    def forward(self, tokens: Tensor, allowed: Tensor) -> Tensor:
        """Map (B, S, D) to the same shape; `allowed` (S, S) is True where a row may look."""
        mixed = F.dropout(self._attend(self.norm1(tokens), allowed), self.dropout, self.training)
        tokens = tokens + mixed
        fed = F.dropout(self.feed_forward(self.norm2(tokens)), self.dropout, self.training)
        return tokens + fed

    def _attend(self, tokens: Tensor, allowed: Tensor) -> Tensor:
        query, key, value = (
            self.project_in(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )  # each (B, heads, S, head_size)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, allowed, dropout)
        projected: Tensor = self.project_out(mixed.transpose(1, 2).flatten(2))
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
        self.embed = nn.Linear(cfg.width, cfg.width)
        self.positions = nn.Parameter(0.02 * torch.randn(len(allowed), cfg.width))
        self.layers = nn.ModuleList(TransformerLayer(cfg) for _ in range(cfg.layers))
        self.read_out = nn.Linear(cfg.width, cfg.bins)
        self.register_buffer("allowed", allowed, persistent=False)

    def encode(self, frames: Tensor, instruction: Tensor) -> Tensor:
        """Turn uint8 frames (N, H, W, 3), told (N, E), into image tokens (N, K, D)."""
        tokens: Tensor = self.token_learner(self.encoder(frames, instruction))
        return tokens

    def forward(self, image_tokens: Tensor) -> Tensor:
        """Turn the image tokens of T frames (B, T, K, D) into logits (B, T, A, bins).

        Action slots are fed as zeros, as in RT-1, so one pass gives all tokens. A frame sees
        earlier frames only; what lies in later slots does not matter.
        """
        batch, history, kept, _ = image_tokens.shape
        slots = F.pad(image_tokens, (0, 0, 0, self.action_tokens))  # (B, T, K + A, D)
        tokens = self.embed(slots.flatten(1, 2)) + self.positions
        for layer in self.layers:
            tokens = layer(tokens, self.allowed)
        steps = tokens.view(batch, history, kept + self.action_tokens, -1)
        logits: Tensor = self.read_out(steps[:, :, kept - 1 : -1])  # each row predicts the next
        return logits


def attention_mask(history: int, image_tokens: int, action_tokens: int) -> Tensor:
    """Return (S, S) bool, True where row may attend to column; S = T (K + A).

    No row sees later columns, and no action row sees any action column, itself included.
    """
    step = torch.arange(image_tokens + action_tokens)
    is_action = (step >= image_tokens).repeat(history)
    causal = torch.ones(len(is_action), len(is_action), dtype=torch.bool).tril()
    return causal & ~(is_action[:, None] & is_action[None, :])

"""RT-1's image encoder: an EfficientNet with FiLM after every block.

Shape legend: N frames, C channels, h and w the feature map's sides, E values of an instruction.

Source: EfficientNet (arXiv:1905.11946) and RT-1's public code. Two details follow that code: the
asymmetric padding of every convolution of stride 2, and TensorFlow's settings of batch norms.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_gym.configs.rt1 import RT1Config

SQUEEZE = 0.25
"""Channels inside a `SqueezeExcite`, as a share of the block's input."""
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's red, green and blue, in [0, 1]."""


class FiLM(nn.Module):
    """Scale and shift features by an instruction; the identity before training."""

    def __init__(self, instruction_size: int, channels: int) -> None:
        """Start with zero weights."""
        super().__init__()
        self.add = nn.Linear(instruction_size, channels)
        self.multiply = nn.Linear(instruction_size, channels)
        for layer in (self.add, self.multiply):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, instruction: Tensor) -> Tensor:
        """Modulate (N, C, h, w) by (N, E)."""
        scale = (1 + self.multiply(instruction))[:, :, None, None]
        return torch.addcmul(self.add(instruction)[:, :, None, None], features, scale)


class ConvNorm(nn.Module):
    """A convolution without bias and its batch norm."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        """Halve height and width, rounded down, if `stride` is 2; keep them if it is 1."""
        super().__init__()
        # For stride 2, Keras pads as for an even size, with one row less above than below. The
        # side 300 becomes 150, 75, 37, 18 and 9.
        self.more_below = stride - 1
        padding = kernel // 2 - self.more_below
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, outputs, h // stride, w // stride)."""
        if self.more_below:
            features = F.pad(features, (0, self.more_below) * 2)
        normalised: Tensor = self.norm(self.conv(features))
        return normalised


class SqueezeExcite(nn.Module):
    """Scale every channel by a factor computed from the mean over all positions."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) to the same shape."""
        scale = self.expand(F.silu(self.reduce(features.mean((2, 3))))).sigmoid()
        return features * scale[:, :, None, None]


class MBConv(nn.Module):
    """EfficientNet's block: expansion, depthwise convolution, squeeze-excite, projection; FiLM."""

    def __init__(
        self,
        sizes: tuple[int, int],
        kernel: int,
        stride: int,
        expansion: int,
        instruction_size: int,
    ) -> None:
        """Build a block.

        Args:
            sizes: Input and output channels.
            kernel: Side of the depthwise convolution's kernel.
            stride: 1 or 2.
            expansion: Ratio of inner to input channels.
            instruction_size: Length of an instruction's vector (E).
        """
        super().__init__()
        inputs, outputs = sizes
        inner = inputs * expansion
        self.skip = stride == 1 and inputs == outputs
        self.dropped = 0.0  # share of training samples that skip this block (stochastic depth)
        self.expand = ConvNorm(inputs, inner) if expansion != 1 else None
        self.depthwise = ConvNorm(inner, inner, kernel, stride, groups=inner)
        self.squeeze = SqueezeExcite(inner, max(1, int(inputs * SQUEEZE)))
        self.project = ConvNorm(inner, outputs)
        self.film = FiLM(instruction_size, outputs)

    def forward(self, features: Tensor, instruction: Tensor) -> Tensor:
        """Map (N, C, h, w) and (N, E) to (N, outputs, h // stride, w // stride)."""
        hidden = F.silu(self.expand(features)) if self.expand is not None else features
        hidden = self.project(self.squeeze(F.silu(self.depthwise(hidden))))
        if self.skip:
            hidden = features + self._drop(hidden)
        modulated: Tensor = self.film(hidden, instruction)
        return modulated

    def _drop(self, hidden: Tensor) -> Tensor:
        if not self.training or not self.dropped:
            return hidden
        return hidden * F.dropout(hidden.new_ones(len(hidden), 1, 1, 1), self.dropped)


class ImageEncoder(nn.Module):
    """Encode a frame as D features at each of P positions, conditioned on an instruction."""

    def __init__(self, cfg: RT1Config) -> None:
        """Build the stages of `cfg`."""
        super().__init__()
        self.input_size = cfg.input_size
        self.stem = ConvNorm(3, cfg.stem, kernel=3, stride=2)
        self.blocks = nn.ModuleList(_blocks(cfg))
        self.top = ConvNorm(cfg.channels[-1], cfg.top)
        self.head = nn.Conv2d(cfg.top, cfg.token_size, 1, bias=False)
        self.film = FiLM(cfg.instruction_size, cfg.token_size)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = cfg.norm_momentum
        height, width = feature_size(cfg)
        self.positions = None
        if cfg.feature_positions:
            self.positions = nn.Parameter(0.02 * torch.randn(height * width, cfg.token_size))

    def forward(self, frames: Tensor, instruction: Tensor) -> Tensor:
        """Map uint8 (N, H, W, 3) and (N, E) to (N, P, D)."""
        features = F.silu(self.stem(self._preprocess(frames)))
        for block in self.blocks:
            features = block(features, instruction)
        features = self.head(F.silu(self.top(features)))
        tokens: Tensor = self.film(features, instruction).flatten(2).mT
        return tokens if self.positions is None else tokens + self.positions

    def _preprocess(self, frames: Tensor) -> Tensor:
        """Resize as tf.image.resize does, and normalise: (N, 3, h, w)."""
        pixels = frames.movedim(-1, 1).float() / 255
        if pixels.shape[2:] != self.input_size:
            pixels = F.interpolate(pixels, self.input_size, mode="bilinear", align_corners=False)
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (IMAGE_MEAN, IMAGE_STD))
        return (pixels - mean) / std


def feature_size(cfg: RT1Config) -> tuple[int, int]:
    """Return height and width of the encoder's feature map."""
    height, width = cfg.input_size
    for stride in (2, *cfg.strides):
        height, width = height // stride, width // stride
    return height, width


def _blocks(cfg: RT1Config) -> list[MBConv]:
    """Return all blocks; later blocks are skipped more often in training."""
    blocks: list[MBConv] = []
    stages = (cfg.channels, cfg.repeats, cfg.kernels, cfg.strides, cfg.expansions)
    inputs = cfg.stem
    for outputs, repeats, kernel, first, expansion in zip(*stages, strict=True):
        for stride in (first, *[1] * (repeats - 1)):
            sizes = inputs, outputs
            blocks.append(MBConv(sizes, kernel, stride, expansion, cfg.instruction_size))
            inputs = outputs
    for place, block in enumerate(blocks):
        block.dropped = cfg.drop_connect * place / len(blocks)
    return blocks

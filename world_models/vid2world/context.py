"""What cross-attention reads of a conditioning frame: CLIP's view of it, and an empty prompt."""

import torch
from torch import Tensor, nn

from v2w_gym.configs.model import ContextConfig
from v2w_gym.world_models.vid2world.clip_towers import ClipImageTower
from v2w_gym.world_models.vid2world.resampler import Resampler


class FrameContext(nn.Module):
    """Turn a frame into image tokens; holds the embedding of the empty prompt.

    `text` (L, D) is stored with the weights, so that inference needs no text tower: every data set
    of the published models has the empty caption.
    Source: DynamiCrafter section 3.2.
    """

    text: Tensor

    def __init__(self, cfg: ContextConfig) -> None:
        """Build with fresh weights and a prompt embedding of zeros."""
        super().__init__()
        self.image_tower = ClipImageTower(cfg.clip)
        self.resampler = Resampler(cfg.resampler, cfg.clip.width)
        self.register_buffer("text", torch.zeros(cfg.text_tokens, cfg.resampler.out_channels))

    def forward(self, pictures: Tensor) -> Tensor:
        """Turn pictures (B, 3, H, W) in [-1, 1] into tokens (B, M, D)."""
        prepared = self.image_tower.preprocess(pictures).to(self.text.dtype)
        tokens: Tensor = self.resampler(self.image_tower(prepared))
        return tokens

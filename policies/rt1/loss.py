"""RT-1's training loss, the cross-entropy of action tokens.

Shape legend: B windows, T frames, A action tokens, V values of a token.
"""

import torch.nn.functional as F
from torch import Tensor


def token_loss(logits: Tensor, tokens: Tensor, mask: Tensor, free: Tensor) -> Tensor:
    """Return the mean cross-entropy over unmasked steps and free tokens.

    Args:
        logits: (B, T, A, V).
        tokens: (B, T, A) int64, the expert's tokens.
        mask: (B, T) bool; False after the end of an episode.
        free: (A,) bool; False for tokens of fields that the robot cannot move.

    Source: RT-1's public code, except for two constant factors. That code divides the sum over
    unmasked steps by the number of all steps, and then by the number B T (K + A) of all tokens.
    """
    return step_losses(logits, tokens, free)[mask].mean()


def step_losses(logits: Tensor, tokens: Tensor, free: Tensor) -> Tensor:
    """Return the mean cross-entropy (B, T) of every step's free tokens; see `token_loss`."""
    chosen, wanted = logits[:, :, free].float(), tokens[:, :, free]
    losses = F.cross_entropy(chosen.flatten(0, 2), wanted.flatten(), reduction="none")
    return losses.view(wanted.shape).mean(-1)  # (B, T)

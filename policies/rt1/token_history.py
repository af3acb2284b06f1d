"""RT-1's frame history: each new frame is encoded once, and its tokens are kept."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_gym.policies.rt1.network import RT1Network

GROUP = {"cpu": 1, "cuda": 8}
"""Slots that the network computes together, by type of device.

The last bits of a convolution depend on the batch size. On a CPU, in the full-size network, they
also depend on a frame's index in the batch. A policy's actions must not depend on it, so every
group has the same size and is padded with zeros. On a CPU the size is one, because larger groups
gain little. Bitwise equality of groups on a GPU was not measured.
"""


class TokenHistory:
    """The image tokens of the last T frames in B slots, from which actions are predicted.

    Tokens are aligned left. With fewer than T frames, zeros follow the newest frame, and the causal
    mask hides them. Source: RT-1's public code.
    """

    def __init__(self, network: RT1Network, group: int | None = None) -> None:
        """Wrap a trained network; `group` is the group size, by default from `GROUP`."""
        self.network = network.eval()
        self.device = network.read_out.weight.device
        self.group = group or GROUP.get(self.device.type, 1)
        self.reset(np.zeros((0, network.cfg.instruction_size), np.float32))

    def reset(self, instructions: NDArray[np.float32], slots: Sequence[int] | None = None) -> None:
        """Clear the history of all slots, or of some.

        Args:
            instructions: (B, E) vector of each slot's instruction; slots that continue keep theirs.
            slots: Slots to reset; None for all.
        """
        self.instructions = torch.from_numpy(instructions).to(self.device)
        if slots is None:
            cfg = self.network.cfg
            shape = len(instructions), cfg.history, cfg.image_tokens, cfg.token_size
            self.tokens = torch.zeros(shape, device=self.device)
            self.lengths = np.zeros(len(instructions), np.int64)  # frames in each history
        else:
            self.tokens[list(slots)] = 0
            self.lengths[list(slots)] = 0

    @torch.no_grad()
    def step(self, frames: NDArray[np.uint8], slots: NDArray[np.int64]) -> Tensor:
        """Append one new frame to each of N slots, and predict their actions.

        Args:
            frames: (N, H, W, 3) uint8.
            slots: (N,) distinct slots; the others do not change.

        Returns:
            (N, A, bins) logits, on the CPU.
        """
        history = self.network.cfg.history
        # Fix cuDNN's algorithm for a group size, and switch off TF32, which rounds to 19 bits.
        with torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False):
            pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device)
            newest = self._in_groups(self.network.encode, pixels, self.instructions[slots])
            full = slots[self.lengths[slots] == history]
            self.tokens[full] = self.tokens[full].roll(-1, dims=1)
            place = np.minimum(self.lengths[slots], history - 1)
            self.tokens[slots, place] = newest
            self.lengths[slots] += self.lengths[slots] < history
            logits = self._in_groups(self.network, self.tokens[slots])
        return logits[torch.arange(len(slots)), place].cpu()

    def _in_groups(self, compute: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Apply `compute` to `group` rows of `inputs` at a time, padded with zeros."""
        outputs = []
        for start in range(0, len(inputs[0]), self.group):
            rows = [rows[start : start + self.group] for rows in inputs]
            missing = self.group - len(rows[0])
            filled = [torch.cat([r, r.new_zeros(missing, *r.shape[1:])]) for r in rows]
            outputs.append(compute(*filled)[: len(rows[0])])
        return torch.cat(outputs)

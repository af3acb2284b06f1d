"""RT-1's memory: frames come one by one, and each is encoded once."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_gym.policies.rt1.network import RT1Network

GROUP = {"cpu": 1, "cuda": 8}
"""Slots that go through the network together, by type of device.

The last bits of a convolution depend on how many frames it is given, and in the full-size network
on a CPU also on a frame's place among them; a policy must act the same whoever else is in the
batch. So groups have one size, filled up with zeros, and on a CPU, where larger ones gain little or
nothing, that size is one. Whether groups of a GPU are exact to the bit was not measured.
"""


class TokenMemory:
    """Keeps the image tokens of the last T frames in B slots, and predicts from them.

    Tokens are aligned left: until T frames were seen, the newest lies behind the earlier ones and
    what follows is zero, which the network cannot see. Source: RT-1's public code.
    """

    def __init__(self, network: RT1Network, group: int | None = None) -> None:
        """Wrap a trained network; `group` as in `GROUP`, which is the default."""
        self.network = network.eval()
        self.device = network.read_out.weight.device
        self.group = group or GROUP.get(self.device.type, 1)
        self.reset(np.zeros((0, network.cfg.instruction_size), np.float32))

    def reset(self, told: NDArray[np.float32], slots: Sequence[int] | None = None) -> None:
        """Forget everything, or what was seen in some slots of B.

        Args:
            told: (B, E) each slot's instruction; those of slots that go on are the same as before.
            slots: Slots that begin anew; None for all.
        """
        self.told = torch.from_numpy(told).to(self.device)
        if slots is None:
            cfg = self.network.cfg
            shape = len(told), cfg.history, cfg.image_tokens, cfg.token_size
            self.tokens = torch.zeros(shape, device=self.device)
            self.seen = np.zeros(len(told), np.int64)
        else:
            self.tokens[list(slots)] = 0
            self.seen[list(slots)] = 0

    @torch.no_grad()
    def step(self, frames: NDArray[np.uint8], slots: NDArray[np.int64]) -> Tensor:
        """Remember one new frame in each of N slots and predict there.

        Args:
            frames: (N, H, W, 3) uint8.
            slots: (N,) distinct slots; the others stay as they are.

        Returns:
            (N, A, bins) logits, on the CPU.
        """
        history = self.network.cfg.history
        # One algorithm for one size of group, and float32 that is not rounded to 19 bits.
        with torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False):
            pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device)
            newest = self._in_groups(self.network.encode, pixels, self.told[slots])
            full = slots[self.seen[slots] == history]
            self.tokens[full] = self.tokens[full].roll(-1, dims=1)
            place = np.minimum(self.seen[slots], history - 1)
            self.tokens[slots, place] = newest
            self.seen[slots] += self.seen[slots] < history
            logits = self._in_groups(self.network, self.tokens[slots])
        return logits[torch.arange(len(slots)), place].cpu()

    def _in_groups(self, compute: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Return `compute` of the rows of `inputs`, always of `group` rows at once."""
        outputs = []
        for start in range(0, len(inputs[0]), self.group):
            rows = [rows[start : start + self.group] for rows in inputs]
            missing = self.group - len(rows[0])
            filled = [torch.cat([r, r.new_zeros(missing, *r.shape[1:])]) for r in rows]
            outputs.append(compute(*filled)[: len(rows[0])])
        return torch.cat(outputs)

"""Weight transfer: make the temporal convolutions of a pretrained video network causal.

A centred kernel of radius m reads frames t - m to t + m. A causal one of the same length reads
t - 2m to t. Each mode is a matrix M that maps the old taps w to new ones, w' = M w. Biases do not
change.

Source: Vid2World section 4.1 and appendix A.2; m is the radius, p the order.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_gym.configs.names import lookup

TEMPORAL_KERNEL = re.compile(r"\.temporal\.convs\.\d+\.conv\.weight$")
"""Names of the temporal kernels among the weights of a `UNet`."""


def causal_kernel(kernel: Tensor, mode: str, order: int = 2, axis: int = 2) -> Tensor:
    """Return a causal kernel of the same shape for a centred one.

    Args:
        kernel: 2m + 1 taps along `axis`, for frames t - m to t + m; the result's are for frames
            t - 2m to t. A single tap is copied.
        mode: Key of `MODES`.
        order: Number of newest frames (p) that `extrapolative` fits a line to; 1 repeats the last.
        axis: Axis of time; 2 in a convolution's weight (out, in, time, ...).

    Raises:
        ValueError: Unknown mode, an even number of taps, or an order outside 1 to 2m + 1.
    """
    make_matrix = lookup(MODES, mode, "weight transfer mode")
    taps = kernel.shape[axis]
    if taps % 2 == 0:
        raise ValueError(
            f"expected an odd number of taps along axis {axis}, found {taps} in a kernel of shape "
            f"{tuple(kernel.shape)}; name the axis of time"
        )
    if taps == 1:
        return kernel.clone()
    if not 1 <= order <= taps:
        raise ValueError(f"expected an order from 1 to {taps} for {taps} taps, found {order}")
    matrix = torch.from_numpy(make_matrix(taps // 2, order)).to(kernel)
    # w' = M w along the axis of time, for every pair of channels and every place in the kernel.
    return torch.tensordot(matrix, kernel.movedim(axis, 0), dims=1).movedim(0, axis).contiguous()


def causal_weights(weights: Mapping[str, Tensor], mode: str, order: int = 2) -> dict[str, Tensor]:
    """Return the weights of a `UNet` with every temporal convolution made causal.

    Raises:
        ValueError: As for `causal_kernel`.
    """
    return {
        name: causal_kernel(value, mode, order) if TEMPORAL_KERNEL.search(name) else value
        for name, value in weights.items()
    }


def shift(radius: int, order: int) -> NDArray[np.float64]:
    """Keep every tap, w' = w, so that each reads a frame that is `radius` frames older."""
    return np.eye(2 * radius + 1)


def masked(radius: int, order: int) -> NDArray[np.float64]:
    """Keep the taps of the past and the present, drop those of the future."""
    return np.eye(2 * radius + 1, k=-radius)


def extrapolative(radius: int, order: int) -> NDArray[np.float64]:
    """Replace each future frame by a linear extrapolation of the newest `order` frames.

    With radius 1 and order 2: (w0, w1, w2) becomes (0, w0 - w2, w1 + 2 w2).
    """
    # Future frame t + k is about sum_j gamma[k, j] z_(t - j), so the tap of frame t - j gains
    # sum_k gamma[k, j] w_k.
    matrix = masked(radius, order)
    newest_first = matrix[::-1]  # a view whose row j is the new tap for frame t - j
    newest_first[:order, radius + 1 :] += extrapolation(radius, order).T
    return matrix


def extrapolation(radius: int, order: int) -> NDArray[np.float64]:
    """Return gamma (m, p): frame t + k is about the sum over j of gamma[k - 1, j] * frame t - j.

    Source: Vid2World appendix A.2, gamma = 1/p + (t + k - mu) (tau_j - mu) / S.
    """
    # Least squares over tau_j = t - j, j = 0 .. p - 1, with mean mu = t - (p - 1) / 2.
    middle = (order - 1) / 2  # t - mu
    ahead = np.arange(1, radius + 1)[:, None] + middle  # t + k - mu
    times = middle - np.arange(order)  # tau_j - mu
    spread = (times**2).sum() or 1.0  # S; a single frame has no slope
    return 1 / order + ahead * times / spread


MODES: Mapping[str, Callable[[int, int], NDArray[np.float64]]] = {
    "shift": shift,
    "masked": masked,
    "extrapolative": extrapolative,
}
"""Mode -> function of (radius, order) that returns M (new taps, old taps), oldest tap first."""

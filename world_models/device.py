"""Where a network can run."""

import torch


def usable_device(device: str) -> str:
    """Return the name of a device, if it is there.

    Raises:
        ValueError: PyTorch cannot use it here.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"expected a device that PyTorch can use here, such as cpu or cuda, found {device!r}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return device

"""Where a network can run."""

import torch


def usable_device(device: str) -> str:
    """Return the name of a device, if it is there.

    Raises:
        ValueError: PyTorch cannot use it here.
    """
    try:
        found = torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise _refusal(device, str(error).splitlines()[0]) from error
    if found.is_meta:
        raise _refusal(device, "it holds no values")
    return device


def _refusal(device: str, why: str) -> ValueError:
    return ValueError(
        f"expected a device that PyTorch can use here, such as cpu or cuda, found {device!r}: {why}"
    )

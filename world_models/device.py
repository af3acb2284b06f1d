"""Devices, and the precision in which a network is fast on them."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

CPU_FLAGS = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Instructions of x86 and ARM processors that multiply bfloat16 numbers."""
DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def usable_device(device: str) -> str:
    """Return `device` if PyTorch can use it here.

    Raises:
        ValueError: An unknown or missing device.
    """
    try:
        found = torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise _refusal(device, str(error).splitlines()[0]) from error
    if found.is_meta:
        raise _refusal(device, "it holds no values")
    return device


def native_bfloat16(device: str) -> bool:
    """Return whether a device has bfloat16 instructions; others emulate them, many times slower."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        lines = CPU_FLAGS.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return False
    flags = re.findall(r"^(?:flags|Features)\s*:(.*)$", lines, re.MULTILINE)
    return bool(BFLOAT16_FLAGS & set(" ".join(flags).split()))


def check_dtype(dtype: str | None, device: str) -> None:
    """Warn if a network would compute many times slower in `dtype` than in float32."""
    if dtype == "bfloat16" and not native_bfloat16(device):
        warnings.warn(
            f"{device} has no bfloat16 instructions and emulates them, many times slower than "
            "float32; leave dtype out, or choose dtype=float32",
            stacklevel=2,
        )


def choose_precision(wanted: str, device: str) -> str:
    """Return `wanted`, or for `auto` the faster one of `float32` and `bfloat16` on a device."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if native_bfloat16(device) else "float32"


def in_precision(precision: str, device: str) -> torch.autocast:
    """Return a context in which networks compute in float32, or in bfloat16 where it is safe."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16")


def _refusal(device: str, why: str) -> ValueError:
    return ValueError(
        f"expected a device that PyTorch can use here, such as cpu or cuda, found {device!r}: {why}"
    )

import warnings

import pytest
import torch

from v2w_gym.world_models import device
from v2w_gym.world_models.device import (
    check_dtype,
    choose_precision,
    in_precision,
    native_bfloat16,
)


@pytest.mark.parametrize(
    ("line", "native"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16 vnni", True),
        ("flags\t\t: fpu amx_bf16", True),
        ("Features\t: fp asimd bf16", True),
        ("flags\t\t: fpu avx2 avx512f avx512bw", False),
        ("model name\t: bf16", False),
    ],
)
def test_the_instructions_of_a_processor_are_read(tmp_path, monkeypatch, line, native):
    monkeypatch.setattr(device, "CPU_FLAGS", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    assert native_bfloat16("cpu") == native
    assert choose_precision("auto", "cpu") == ("bfloat16" if native else "float32")
    assert choose_precision("float32", "cpu") == "float32"
    assert choose_precision("bfloat16", "cpu") == "bfloat16"


def test_where_processors_are_unknown_it_is_single_precision(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "CPU_FLAGS", tmp_path / "none")
    assert choose_precision("auto", "cpu") == "float32"
    with pytest.warns(UserWarning, match="cpu has no bfloat16 instructions.*dtype=float32"):
        check_dtype("bfloat16", "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_dtype("float32", "cpu")
        check_dtype(None, "cpu")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_products_are_in_the_precision(precision):
    with in_precision(precision, "cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == getattr(torch, precision)

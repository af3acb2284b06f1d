import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from v2w_gym.configs.robots import GOOGLE_ROBOT
from v2w_gym.policies.rt1.loss import step_losses, token_loss
from v2w_gym.policies.rt1.tokenizer import TOKEN_ORDER, ActionTokenizer

ALL = torch.ones(2, dtype=torch.bool)


def test_loss_is_the_mean_over_steps_that_count():
    logits = torch.zeros(1, 2, 2, 4)
    logits[0, 0, 0, 3] = math.log(3)  # softmax: 1/6 1/6 1/6 1/2
    tokens = torch.tensor([[[3, 0], [1, 1]]])
    both = token_loss(logits, tokens, torch.tensor([[True, True]]), ALL)
    assert both.item() == pytest.approx((math.log(2) + 3 * math.log(4)) / 4)
    first = token_loss(logits, tokens, torch.tensor([[True, False]]), ALL)
    assert first.item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_nothing_flows_back_from_masked_steps_and_locked_tokens():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    tokens = torch.randint(0, 5, (2, 3, 4))
    mask = torch.tensor([[True, True, False], [True, False, False]])
    free = torch.tensor([True, False, True, False])
    token_loss(logits, tokens, mask, free).backward()
    assert logits.grad is not None
    flows = (logits.grad != 0).any(-1)  # (B, T, A)
    assert torch.equal(flows, mask[:, :, None] & free)


def test_half_precision_logits_are_summed_in_single_precision():
    logits = torch.zeros(1, 1, 2, 256, dtype=torch.bfloat16)
    assert step_losses(logits, torch.zeros(1, 1, 2, dtype=torch.int64), ALL)[0, 0].item() == (
        pytest.approx(math.log(256), abs=1e-5)
    )


def test_labels_are_those_of_the_public_code():
    folder = os.environ.get("V2W_PARITY_DIR")
    if not folder:
        pytest.skip("V2W_PARITY_DIR is not set")
    case = Path(folder) / "rt1" / "rt1.safetensors"
    if not case.exists():
        pytest.skip(f"no {case}")
    tensors = load_file(case)
    actions = np.concatenate(
        [tensors[f"in/train/{f.name}"].astype(np.float32) for f in GOOGLE_ROBOT.fields], axis=-1
    )
    assert {f.name for f in GOOGLE_ROBOT.fields} == set(TOKEN_ORDER)
    labels = ActionTokenizer(GOOGLE_ROBOT).encode(actions)
    assert np.array_equal(labels, tensors["out/train_labels"])

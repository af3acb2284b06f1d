"""RT-1, stepped frame by frame with the policy's own memory, held against its public code."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from v2w_gym.configs.robots import GOOGLE_ROBOT
from v2w_gym.evaluation.checks.parity.golden import Comparison, GoldenCase, Tolerance
from v2w_gym.evaluation.checks.parity.rt1_weights import generate
from v2w_gym.policies.rt1.loss import step_losses
from v2w_gym.policies.rt1.memory import TokenMemory
from v2w_gym.policies.rt1.network import RT1Network
from v2w_gym.policies.rt1.tokenizer import ActionTokenizer
from v2w_gym.policies.rt1.variables import ACTION_TOKENS, from_variables

FORWARD = Tolerance(0.0, 1e-4)
"""What values that went through the network may differ by."""
SAME = Tolerance(0.0)
ROUNDING = Tolerance(0.0, 1e-6)
"""What a value that was computed from a token may differ by."""
CLEAR = 1e-3
"""Tokens are compared where the best logit is above the next one by more than this."""


def rt1(case: GoldenCase) -> Iterator[Comparison]:
    """Compare tokens, logits and actions of every frame, and what the training loss is."""
    network = load_network(case)
    yield from stepped(case, network)
    yield from actions(case)
    if "out/train_labels" in case.tensors:
        yield from trained(case, network)


def load_network(case: GoldenCase) -> RT1Network:
    """Return the network with the case's weights, read as those of a SavedModel are."""
    cfg, weights = from_variables(generate(case.info))
    network = RT1Network(cfg, ACTION_TOKENS)
    network.load_state_dict(weights)
    return network.eval()


def stepped(case: GoldenCase, network: RT1Network) -> Iterator[Comparison]:
    """Compare what the network says of the newest frame, after each one."""
    memory = TokenMemory(network)
    memory.reset(case.tensor("in/embedding")[None].numpy())
    slot, newest, logits = np.array([0]), [], []
    for frame in case.tensor("in/images").numpy():
        logits.append(memory.step(frame[None], slot)[0])
        newest.append(memory.tokens[0, memory.seen[0] - 1].clone())
    ours = torch.stack(logits)  # (N, A, bins)
    yield Comparison("logits", ours, case.tensor("out/logits"), FORWARD)
    if "out/image_tokens" in case.tensors:
        yield Comparison(
            "image_tokens", torch.stack(newest), case.tensor("out/image_tokens"), FORWARD
        )
    best = ours.topk(2).values
    clear = best[..., 0] - best[..., 1] > CLEAR
    tokens = case.tensor("out/tokens")
    yield Comparison("tokens", ours.argmax(-1)[clear], tokens[clear], SAME)


def actions(case: GoldenCase) -> Iterator[Comparison]:
    """Compare what the reference's tokens mean."""
    tokens = case.tensor("out/tokens").long().numpy()
    decoded = torch.from_numpy(ActionTokenizer(GOOGLE_ROBOT).decode(tokens))
    for name, where in GOOGLE_ROBOT.slices.items():
        if f"out/action/{name}" in case.tensors:
            golden = case.tensor(f"out/action/{name}")
            yield Comparison(f"action/{name}", decoded[:, where], golden, ROUNDING)


@torch.no_grad()
def trained(case: GoldenCase, network: RT1Network) -> Iterator[Comparison]:
    """Compare labels and loss of one window, of the case's first frames."""
    cfg = network.cfg
    given = [case.tensor(f"in/train/{field.name}").float() for field in GOOGLE_ROBOT.fields]
    tokenizer = ActionTokenizer(GOOGLE_ROBOT, cfg.bins)
    labels = torch.from_numpy(tokenizer.encode(torch.cat(given, dim=-1).numpy()))
    yield Comparison("train_labels", labels, case.tensor("out/train_labels"), SAME)
    seen = case.tensor("in/images")[: cfg.history]
    told = case.tensor("in/embedding").expand(len(seen), -1)
    logits = network(network.encode(seen, told)[None])
    slots = cfg.history * (cfg.image_tokens + ACTION_TOKENS)  # the reference divides by them
    losses: Tensor = step_losses(logits, labels, torch.from_numpy(tokenizer.free)) / slots
    yield Comparison("train_loss", losses, case.tensor("out/train_loss"), ROUNDING)

"""Outputs of RT-1, frame by frame, with the policy's own token history."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_gym.configs.robots import GOOGLE_ROBOT
from v2w_gym.evaluation.checks.parity.vectors import Vector
from v2w_gym.policies.rt1.efficientnet import IMAGE_MEAN, IMAGE_STD
from v2w_gym.policies.rt1.loss import step_losses
from v2w_gym.policies.rt1.network import RT1Network
from v2w_gym.policies.rt1.token_history import TokenHistory
from v2w_gym.policies.rt1.tokenizer import ActionTokenizer
from v2w_gym.policies.rt1.variables import ACTION_TOKENS, from_variables

CLEAR = 1e-3
"""Tokens are compared where the best logit is above the next one by more than this."""


def rt1(vector: Vector, network: RT1Network | None = None) -> dict[str, Tensor]:
    """Return tokens, logits and actions of every frame, and the loss of one window."""
    history = TokenHistory(network or load_rt1(vector))
    history.reset(vector["in/embedding"][None].numpy())
    steps, image_tokens = [], []
    for frame in vector["in/images"].numpy():
        steps.append(history.step(frame[None], np.array([0]))[0])
        image_tokens.append(history.tokens[0, history.lengths[0] - 1].clone())
    logits, reference = torch.stack(steps), vector["out/tokens"]  # (N, A, bins), (N, A)
    best = logits.topk(2).values
    clear = best[..., 0] - best[..., 1] > CLEAR
    actions = torch.from_numpy(ActionTokenizer(GOOGLE_ROBOT).decode(reference.long().numpy()))
    return {
        "logits": logits,
        "image_tokens": torch.stack(image_tokens),
        "tokens": logits.argmax(-1).where(clear, reference),
        **{f"action/{name}": actions[:, at] for name, at in GOOGLE_ROBOT.slices.items()},
        **(_trained(vector, history.network) if "out/train_labels" in vector.tensors else {}),
    }


def load_rt1(vector: Vector) -> RT1Network:
    """Return the network with the vector's weights, read as those of a SavedModel are."""
    cfg, weights = from_variables(generate(vector.info))
    network = RT1Network(cfg, ACTION_TOKENS)
    network.load_state_dict(weights)
    return network.eval()


def _trained(vector: Vector, network: RT1Network) -> dict[str, Tensor]:
    """Return labels and loss of the window of the vector's first frames."""
    cfg = network.cfg
    actions = [vector[f"in/train/{field.name}"].float() for field in GOOGLE_ROBOT.fields]
    tokenizer = ActionTokenizer(GOOGLE_ROBOT, cfg.bins)
    labels = torch.from_numpy(tokenizer.encode(torch.cat(actions, dim=-1).numpy()))
    images = vector["in/images"][: cfg.history]
    embedding = vector["in/embedding"].expand(len(images), -1)
    logits = network(network.encode(images, embedding)[None])
    losses = step_losses(logits, labels, torch.from_numpy(tokenizer.free))
    slots = cfg.history * (cfg.image_tokens + ACTION_TOKENS)  # the reference divides by them
    return {"train_labels": labels, "train_loss": losses / slots}


def generate(info: Mapping[str, Any]) -> list[tuple[str, NDArray[np.float32]]]:
    """Return name and value of variables 1, 2, ... in TensorFlow's layout.

    The vector stores no weights: the numbers of variable i have seed `seed_base` + i.
    """
    variables = []
    for number, (name, shape) in enumerate(zip(info["names"], info["shapes"], strict=True)):
        normal = np.random.default_rng(info["seed_base"] + number).standard_normal(shape)
        value = _value(name.removesuffix(":0"), np.asarray(normal))
        variables.append((name, np.asarray(value, np.float32)))
    return variables[1:]  # the first is the train step


def _value(name: str, normal: NDArray[np.float64]) -> Any:
    """Return what random numbers become in the variable of this name."""
    shape = normal.shape
    if name.endswith(("moving_mean", "beta", "bias")):
        return 0.05 * normal
    if name.endswith("moving_variance"):
        return 1 + 0.2 * np.abs(normal)
    if name.endswith("gamma"):
        return 1 + 0.1 * normal
    if not shape or name.startswith("normalization"):
        return {"mean": IMAGE_MEAN, "variance": IMAGE_STD}.get(name.split("/")[-1], 0.0)
    if "film" in name or shape == (114, 512):  # the latter is the position embedding
        return 0.3 * normal
    to_heads = len(shape) == 3 and "attention_output" not in name
    inputs = shape[:2] if "depthwise" in name else shape[:1] if to_heads else shape[:-1]
    return normal * ((2 if len(shape) == 4 else 1) / prod(inputs)) ** 0.5

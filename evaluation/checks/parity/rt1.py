"""RT-1, stepped frame by frame with the policy's own memory, compared with its public code."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_gym.configs.robots import GOOGLE_ROBOT
from v2w_gym.evaluation.checks.parity.vectors import Comparison, Tolerance, Vector, compare
from v2w_gym.policies.rt1.efficientnet import IMAGE_MEAN, IMAGE_STD
from v2w_gym.policies.rt1.loss import step_losses
from v2w_gym.policies.rt1.memory import TokenMemory
from v2w_gym.policies.rt1.network import RT1Network
from v2w_gym.policies.rt1.tokenizer import ActionTokenizer
from v2w_gym.policies.rt1.variables import ACTION_TOKENS, from_variables

FORWARD = Tolerance(0.0, 1e-4)
"""For values that went through the network."""
SAME, ROUNDING = Tolerance(0.0), Tolerance(0.0, 1e-6)
CLEAR = 1e-3
"""Tokens are compared where the best logit is above the next one by more than this."""

BY_WORD: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "moving_mean": lambda normal: 0.05 * normal,
    "moving_variance": lambda normal: 1.0 + 0.2 * np.abs(normal),
    "gamma": lambda normal: 1.0 + 0.1 * normal,
    "beta": lambda normal: 0.05 * normal,
    "bias": lambda normal: 0.05 * normal,
    "mean": lambda normal: np.array(IMAGE_MEAN),
    "variance": lambda normal: np.array(IMAGE_STD),
}
"""End of a variable's name -> what its random numbers become; the rest are kernels."""
SPREAD, POSITIONS = 0.3, (114, 512)
"""Standard deviation of FiLM's kernels and of the position embedding, and the latter's shape."""


def rt1(vector: Vector) -> Iterator[Comparison]:
    """Compare tokens, logits and actions of every frame, and the training loss."""
    network = load_network(vector)
    yield from stepped(vector, network)
    yield from actions(vector)
    if "out/train_labels" in vector.tensors:
        yield from trained(vector, network)


def load_network(vector: Vector) -> RT1Network:
    """Return the network with the vector's weights, read as those of a SavedModel are."""
    cfg, weights = from_variables(generate(vector.info))
    network = RT1Network(cfg, ACTION_TOKENS)
    network.load_state_dict(weights)
    return network.eval()


def stepped(vector: Vector, network: RT1Network) -> Iterator[Comparison]:
    """Compare what the network says of the newest frame, after each one."""
    memory = TokenMemory(network)
    memory.reset(vector.tensor("in/embedding")[None].numpy())
    slot, newest, logits = np.array([0]), [], []
    for frame in vector.tensor("in/images").numpy():
        logits.append(memory.step(frame[None], slot)[0])
        newest.append(memory.tokens[0, memory.seen[0] - 1].clone())
    ours = torch.stack(logits)  # (N, A, bins)
    yield vector.compare("logits", ours, FORWARD)
    yield from vector.compare_given({"image_tokens": torch.stack(newest)}, FORWARD)
    best = ours.topk(2).values
    clear = best[..., 0] - best[..., 1] > CLEAR
    tokens = vector.tensor("out/tokens")
    yield compare("tokens", ours.argmax(-1)[clear], tokens[clear], SAME)


def actions(vector: Vector) -> Iterator[Comparison]:
    """Compare what the reference's tokens mean."""
    tokens = vector.tensor("out/tokens").long().numpy()
    decoded = torch.from_numpy(ActionTokenizer(GOOGLE_ROBOT).decode(tokens))
    fields = {f"action/{name}": decoded[:, at] for name, at in GOOGLE_ROBOT.slices.items()}
    yield from vector.compare_given(fields, ROUNDING)


@torch.no_grad()
def trained(vector: Vector, network: RT1Network) -> Iterator[Comparison]:
    """Compare labels and loss of one window, of the vector's first frames."""
    cfg = network.cfg
    given = [vector.tensor(f"in/train/{field.name}").float() for field in GOOGLE_ROBOT.fields]
    tokenizer = ActionTokenizer(GOOGLE_ROBOT, cfg.bins)
    labels = torch.from_numpy(tokenizer.encode(torch.cat(given, dim=-1).numpy()))
    yield vector.compare("train_labels", labels, SAME)
    images = vector.tensor("in/images")[: cfg.history]
    embedding = vector.tensor("in/embedding").expand(len(images), -1)
    logits = network(network.encode(images, embedding)[None])
    slots = cfg.history * (cfg.image_tokens + ACTION_TOKENS)  # the reference divides by them
    losses: Tensor = step_losses(logits, labels, torch.from_numpy(tokenizer.free)) / slots
    yield vector.compare("train_loss", losses, ROUNDING)


def generate(info: Mapping[str, Any]) -> list[tuple[str, NDArray[np.float32]]]:
    """Return name and value of variables 1, 2, ... in TensorFlow's layout.

    The file does not store the weights: the numbers of variable i have seed `seed_base` + i.

    Args:
        info: The vector's JSON: `seed_base`, and `names` and `shapes` from variable 0 on.
    """
    listed = enumerate(zip(info["names"], info["shapes"], strict=True))
    return [
        (name, _value(info["seed_base"] + number, name.split(":")[0], tuple(shape)))
        for number, (name, shape) in listed
        if number > 0
    ]


def _value(seed: int, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if not shape:
        return np.zeros((), np.float32)
    normal = np.random.default_rng(seed).standard_normal(shape)
    for word, become in BY_WORD.items():
        if name.endswith(word):
            return become(normal).astype(np.float32)
    if "film" in name or shape == POSITIONS:
        return (SPREAD * normal).astype(np.float32)
    gain = 2.0 if len(shape) == 4 else 1.0
    return (normal * np.sqrt(gain / _fan_in(name, shape))).astype(np.float32)


def _fan_in(name: str, shape: tuple[int, ...]) -> int:
    if name.endswith("depthwise_kernel"):
        return shape[0] * shape[1]
    if len(shape) == 3 and "attention_output" not in name:  # to heads
        return shape[0]
    return int(np.prod(shape[:-1]))

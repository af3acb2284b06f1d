"""Convert the SavedModel of a published RT-1 to a checkpoint of this project."""

import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from v2w_gym.configs.convert import ConvertPolicyConfig
from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import ROBOTS, RobotSpec
from v2w_gym.configs.rt1 import RT1_SIZES, RT1Config
from v2w_gym.policies.instructions import InstructionTable, load_table
from v2w_gym.policies.rt1.action_bounds import SPECS, action_bounds
from v2w_gym.policies.rt1.network import RT1Network
from v2w_gym.policies.rt1.policy import save_rt1
from v2w_gym.policies.rt1.saved_variables import SavedVariables, open_variables
from v2w_gym.policies.rt1.variables import ACTION_TOKENS, from_variables
from v2w_gym.world_models.checkpoint import check_finite, check_free
from v2w_gym.world_models.files import sha256_of

VARIABLE = re.compile(r"model_variables/(\d+)/\.ATTRIBUTES/VARIABLE_VALUE")
STEP = "train_step/.ATTRIBUTES/VARIABLE_VALUE"
VERIFY = "v2w verify-policy compares with the SavedModel"
BOUND_ERROR = 1e-6
"""Largest difference of a bound in the specs from the robot's, due to rounding."""


def convert(cfg: ConvertPolicyConfig, encoder: RT1Config = RT1_SIZES["rt1"]) -> Path:
    """Write the weights of a SavedModel as a checkpoint in float32.

    Args:
        cfg: See `ConvertPolicyConfig`.
        encoder: Sizes of the image encoder and its frames.

    Returns:
        Path of the checkpoint; the card beside it has the provenance and the checks.

    Raises:
        FileNotFoundError: No such SavedModel.
        ModuleNotFoundError: TensorFlow is not installed.
        ValueError: The SavedModel is damaged, not downloaded or no RT-1, its action bounds differ
            from the robot's, or the output is not free.
        OSError: The disk is full.
    """
    output = Path(cfg.output)
    check_free(output)
    robot = lookup(ROBOTS, cfg.robot, "robot")
    saved = open_variables(Path(cfg.source))
    folder = _saved_model(saved)
    keys = _model_variables(saved)
    names = saved.program_names()
    bounds = _check_bounds(robot, folder)
    variables = [(names.get(key, ""), _floats(saved, key)) for key in keys]
    check_finite(
        saved.index,
        {
            names.get(key, key): torch.from_numpy(v)
            for key, (_, v) in zip(keys, variables, strict=True)
        },
    )
    try:
        sizes, weights = from_variables(variables, encoder)
    except ValueError as error:
        raise ValueError(f"{error} (source={folder})") from error
    with torch.device("meta"):
        network = RT1Network(sizes, ACTION_TOKENS)
    network.load_state_dict(weights, assign=True)
    named = sum(bool(names.get(key)) for key in keys)
    checks = {
        "checksums": f"all {len(keys)} variables match",
        "names": f"{named} of {len(keys)} variables have names, and those fit",
        "bounds": bounds,
        "token_order": f"taken from RT-1's public code; {VERIFY}",
    }
    provenance = {
        "source": folder.name,
        "source_index_sha256": sha256_of(saved.index),  # the index holds all checksums
        "train_step": _train_step(saved),
        "variables": len(keys),
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "checks": checks,
    }
    save_rt1(output, network, robot, _table(cfg, sizes), provenance, dtype=torch.float32)
    return output


def _saved_model(saved: SavedVariables) -> Path:
    """Return the folder of the SavedModel that the weights belong to."""
    folder = saved.index.absolute().parent  # not resolved, because a cache may hold links
    return folder.parent if folder.name == "variables" else folder


def _model_variables(saved: SavedVariables) -> list[str]:
    """Return the keys of the policy's variables 1, 2, ..., in that order."""
    numbers = {int(m[1]): m[0] for key in saved.keys if (m := VARIABLE.fullmatch(key))}
    numbers.pop(0, None)  # the training step, which may also have its own name
    if not numbers:
        raise ValueError(
            f"expected model_variables/1, ... in {saved.index}, found names such as "
            f"{saved.keys[-1]!r}; a training checkpoint (ckpt-*) lacks the statistics that the "
            "policy runs with: name the SavedModel, the folder of saved_model.pb and variables/"
        )
    missing = sorted(set(range(1, max(numbers) + 1)) - set(numbers))
    if missing:
        raise ValueError(
            f"expected model_variables/1 to /{max(numbers)} in {saved.index}, found no "
            f"{', '.join(map(str, missing[:5]))}; save the SavedModel again"
        )
    return [numbers[number] for number in sorted(numbers)]


def _floats(saved: SavedVariables, key: str) -> NDArray[np.float32]:
    return saved.read(key).astype(np.float32)


def _train_step(saved: SavedVariables) -> int | None:
    """Return the training step of the weights; None if the SavedModel does not have it."""
    keys = (STEP, "model_variables/0/.ATTRIBUTES/VARIABLE_VALUE")
    return next((int(saved.read(key).item()) for key in keys if key in saved.keys), None)


def _check_bounds(robot: RobotSpec, folder: Path) -> str:
    """Compare the bounds in the policy's specs with the robot's; return a text for the card."""
    bounds = action_bounds(folder)
    if not bounds:
        return f"not verified, there is no {SPECS} beside the weights; {VERIFY}"
    ours = {field.name: field for field in robot.fields}
    if set(bounds) != set(ours):
        raise ValueError(
            f"expected the actions {sorted(ours)} of robot {robot.name!r} in {folder / SPECS}, "
            f"found {sorted(bounds)}; run the SavedModel itself: source={folder}"
        )
    for name, (low, high) in bounds.items():
        field = ours[name]
        same = np.allclose(low, field.low, atol=BOUND_ERROR)
        same &= np.allclose(high, field.high, atol=BOUND_ERROR)
        if low.shape != (field.size,) or not same:
            raise ValueError(
                f"expected {field.size} values of {name} from {field.low:g} to {field.high:g} as "
                f"robot {robot.name!r} has them, found {low} to {high} in {folder / SPECS}: its "
                f"tokens mean other actions; run the SavedModel itself: source={folder}"
            )
    return f"{len(bounds)} action fields are bounded as {robot.name}'s"


def _table(cfg: ConvertPolicyConfig, sizes: RT1Config) -> InstructionTable:
    """Return the instructions that the checkpoint will know; without a table, none."""
    if cfg.instructions is None:
        return InstructionTable((), np.zeros((0, sizes.instruction_size), np.float32))
    table = load_table(Path(cfg.instructions))
    if table.vectors.shape[1] != sizes.instruction_size:
        raise ValueError(
            f"expected embeddings of {sizes.instruction_size} values as the network takes them, "
            f"found {table.vectors.shape[1]} in {cfg.instructions}; make the table with v2w embed"
        )
    return table

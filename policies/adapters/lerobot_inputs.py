"""Constant inputs of LeRobot policies, checked against the policy's config."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from v2w_gym.configs.policies import LeRobotConfig
from v2w_gym.policies.processing.constants import Constants, load_constants

STATE, SCENE, TASK = "observation.state", "observation.environment_state", "task"
EMPTY = ".empty_camera_"
"""Part of the name of a camera that a LeRobot policy fills itself."""


def constant_inputs(theirs: Any, cfg: LeRobotConfig) -> Constants:
    """Return the inputs that `cfg` declares, for a policy with the config `theirs`.

    Raises:
        FileNotFoundError: No such image file.
        ValueError: An invalid declaration.
    """
    constants = load_constants(cfg.inputs)
    if not cfg.zero_state or STATE in constants:
        return constants
    state = theirs.robot_state_feature
    # Some policies read the device of the state even if they have no state.
    return {**constants, STATE: np.zeros(state.shape if state else 0, np.float32)}


def check_inputs(name: str, theirs: Any, cfg: LeRobotConfig, constants: Constants) -> None:
    """Check that a policy has all inputs that it needs, in the right shapes.

    Args:
        name: Name of the policy.
        theirs: The policy's config.
        cfg: Settings with the inputs besides the frame.
        constants: The same inputs, as arrays.

    Raises:
        ValueError: An input is missing or has another shape.
    """
    for own in (cfg.image_key, TASK):
        if own in cfg.inputs:
            raise ValueError(f"expected inputs other than {own!r}, which every step sets")
    needed = needed_inputs(theirs)
    given = {cfg.image_key, *cfg.inputs} | ({STATE} if cfg.zero_state else set())
    missing = {key: shape for key, shape in needed.items() if key not in given}
    if missing and cfg.image_key in theirs.image_features:
        declared = {key: _declaration(shape) for key, shape in missing.items()}
        listed = ", ".join(f"{key} {shape}" for key, shape in missing.items())
        raise ValueError(
            f"expected a policy that needs a frame and an instruction, found {name!r}, "
            f"which needs the state of robot or scene, or other cameras, too: {listed}; a video "
            "world model has none. Use a policy without these inputs, or set constants if this "
            f"policy works with them: LeRobotConfig(..., inputs={declared})"
        )
    for key, values in constants.items():
        found = tuple(to_tensor(values).shape[1:])
        if needed.get(key, found) != found:
            raise ValueError(
                f"expected input {key!r} of policy {name!r} as {needed[key]}, found {found}; "
                f"declare it as {_declaration(needed[key])}"
            )


def needed_inputs(theirs: Any) -> dict[str, tuple[int, ...]]:
    """Return the inputs that a policy's config names, with their shapes.

    Cameras that LeRobot calls empty are left out: the policy fills them itself.
    """
    features = {**theirs.image_features, **(getattr(theirs, "input_features", None) or {})}
    if theirs.robot_state_feature:
        features[STATE] = theirs.robot_state_feature
    if theirs.env_state_feature and theirs.env_state_feature not in features.values():
        features[SCENE] = theirs.env_state_feature
    return {name: tuple(feature.shape) for name, feature in features.items() if EMPTY not in name}


def _declaration(shape: tuple[int, ...]) -> dict[str, list[int]]:
    """Return the declaration of zeros of this shape in `LeRobotConfig.inputs`."""
    return {"image": [*shape[1:]]} if len(shape) == 3 else {"zeros": [*shape]}


def to_tensor(values: NDArray[Any]) -> torch.Tensor:
    """Return an image as (1, 3, H, W) in [0, 1], or other values unchanged as (1, ...)."""
    if values.dtype == np.uint8:
        return torch.from_numpy(values.copy()).permute(2, 0, 1)[None].float() / 255
    return torch.from_numpy(values.copy())[None]

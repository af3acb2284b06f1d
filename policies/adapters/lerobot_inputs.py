"""What a policy of LeRobot is shown besides the frame: what its config asks for, as constants."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from v2w_gym.configs.policies import LeRobotConfig
from v2w_gym.policies.processing.constants import Constants, load_constants

STATE, SCENE, TASK = "observation.state", "observation.environment_state", "task"
EMPTY = ".empty_camera_"
"""In the name of a camera that a policy of LeRobot fills itself."""


def constant_inputs(theirs: Any, cfg: LeRobotConfig) -> Constants:
    """Return what `cfg` declares, for a policy with the config `theirs`.

    Raises:
        FileNotFoundError: No file for an image.
        ValueError: A declaration that means nothing.
    """
    constants = load_constants(cfg.inputs)
    if not cfg.zero_state or STATE in constants:
        return constants
    state = theirs.robot_state_feature
    # Some policies look at the device of a state even where they have none.
    return {**constants, STATE: np.zeros(state.shape if state else 0, np.float32)}


def check_inputs(name: str, theirs: Any, cfg: LeRobotConfig, constants: Constants) -> None:
    """Check that a policy is given all that it needs, in the shapes that it needs.

    Args:
        name: The policy's.
        theirs: Its config.
        cfg: What it is given beside the frame.
        constants: The same, as arrays.

    Raises:
        ValueError: It is not.
    """
    for own in (cfg.image_key, TASK):
        if own in cfg.inputs:
            raise ValueError(f"expected inputs other than {own!r}, which is given in every step")
    needed = needed_inputs(theirs)
    given = {cfg.image_key, *cfg.inputs} | ({STATE} if cfg.zero_state else set())
    missing = {key: shape for key, shape in needed.items() if key not in given}
    if missing and cfg.image_key in theirs.image_features:
        declared = {key: _declaration(shape) for key, shape in missing.items()}
        listed = ", ".join(f"{key} {shape}" for key, shape in missing.items())
        raise ValueError(
            f"expected a policy that needs a frame and an instruction, found {name!r}, "
            f"which needs the state of robot or scene, or other cameras, too: {listed}; a video "
            "world model has none. Take a policy trained without, or if this one can do without, "
            f"give constants: LeRobotConfig(..., inputs={declared})"
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
    """Return how zeros for an input of this shape are declared in `LeRobotConfig.inputs`."""
    return {"image": [*shape[1:]]} if len(shape) == 3 else {"zeros": [*shape]}


def to_tensor(values: NDArray[Any]) -> torch.Tensor:
    """Return an image (1, 3, H, W) in [0, 1], or any other values (1, ...) as they are."""
    if values.dtype == np.uint8:
        return torch.from_numpy(values.copy()).permute(2, 0, 1)[None].float() / 255
    return torch.from_numpy(values.copy())[None]

"""Where data sets keep what an episode needs: one `SourceFields` each."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from v2w_gym.configs.action_layouts import GRIPPER, HAND, OPENING, ROTATION
from v2w_gym.configs.robots import FRACTAL13, GOOGLE_ROBOT, WIDOWX
from v2w_gym.configs.rules import Rate
from v2w_gym.configs.values import Settings


@dataclass(frozen=True)
class SourceFields(Settings):
    """The names of a data set's own fields; "" for what it does not have.

    Attributes:
        frames: Camera frames of a step, such as observation/image.
        actions: A robot's action field -> the data set's field that holds its values, such as
            `world_vector: action/world_vector`, or a part of one, such as `action[0:3]`. Empty for
            all values of the field `action`: by the names that the data set gives them, or, if it
            gives none, in the order of the robot.
        instruction: Instruction of a step or an episode.
        success: Whether a step, or a whole episode, is a success.
        id: Name of an episode; "" for the format's own.
        rate: Frames per second; null if the data set says it itself.
        robot: Name of the `RobotSpec` whose fields `actions` names; "" for any.
    """

    frames: str = ""
    actions: dict[str, str] = field(default_factory=dict)
    instruction: str = ""
    success: str = ""
    id: str = ""
    rate: Rate | None = None
    robot: str = ""


FRACTAL = SourceFields(
    frames="observation/image",
    actions={name: f"action/{name}" for name, _ in FRACTAL13.fields},
    instruction="observation/natural_language_instruction",
    rate=GOOGLE_ROBOT.control_hz,
    robot=GOOGLE_ROBOT.name,
)
"""RT-1's demonstrations, fractal20220817_data."""

BRIDGE = SourceFields(
    frames="observation/image_0",
    actions={HAND: "action[0:3]", ROTATION: "action[3:6]", OPENING: "action[6]"},
    instruction="language_instruction",
    rate=WIDOWX.control_hz,
    robot=WIDOWX.name,
)
"""BridgeData V2 in the RLDS files of its authors, which Octo and OpenVLA were trained on.

`image_0` looks over the shoulder. Many episodes lack some of the cameras `image_1` to `image_3`.
Source: `bridge_dataset` in the settings of Octo's data loader.
"""

BRIDGE_OXE = SourceFields(
    frames="observation/image",
    actions={name: f"action/{name}" for name in (HAND, ROTATION, OPENING)},
    instruction="observation/natural_language_instruction",
    rate=WIDOWX.control_hz,
    robot=WIDOWX.name,
)
"""BridgeData V2 as Open X-Embodiment first published it, 480 x 640.

TFDS later gave the name `bridge` to files with the fields of `BRIDGE`, too. Source: `bridge_oxe` in
the settings of OpenVLA's data loader.
"""


def _oxe(rate: float, *actions: str, success: str = "") -> SourceFields:
    """Return the fields of a data set with the common names of Open X-Embodiment."""
    return SourceFields(
        frames="observation/image",
        actions={name: f"action/{name}" for name in actions},
        instruction="observation/natural_language_instruction",
        success=success,
        rate=rate,
    )


SOURCES: Mapping[str, SourceFields] = {
    "fractal20220817_data": FRACTAL,
    "bridge_dataset": BRIDGE,
    "bridge_data_v2": BRIDGE,
    "bridge": BRIDGE_OXE,
    "berkeley_autolab_ur5": _oxe(5, HAND, ROTATION, GRIPPER),
    "jaco_play": _oxe(10, HAND, GRIPPER),
    "kuka": _oxe(10, HAND, ROTATION, GRIPPER, success="success"),
    "toto": _oxe(30, HAND, ROTATION, OPENING),
}
"""Name of a data set -> its fields. A YAML file with the same settings describes any other one.

The grippers of these arms follow the conventions of `GRIPPER` (a change: 1 closes, -1 opens) and of
`OPENING`. Sources: names of fields from the TFDS catalogue; conventions from `oxe/transforms.py` of
OpenVLA; rates from the data sets' table of Open X-Embodiment, arXiv 2310.08864.
"""

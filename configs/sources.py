"""Where data sets keep what an episode needs: one `SourceFields` each."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from v2w_gym.configs.rules import Rate
from v2w_gym.configs.values import Settings


@dataclass(frozen=True)
class SourceFields(Settings):
    """The names of a data set's own fields; "" for what it does not have.

    Attributes:
        frames: Camera frames of a step, such as observation/image.
        actions: A robot's action field -> the data set's field that holds its values, such as
            `world_vector: action/world_vector`, or a part of one, such as `action[0:3]`. Empty for
            all values of the field `action`, in the order of the robot.
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


SOURCES: Mapping[str, SourceFields] = {}
"""Name of a data set -> its fields. A YAML file with the same settings describes any other one."""

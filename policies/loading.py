"""From a name on the command line to a policy."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from configs.lookup import lookup
from configs.robots import RobotSpec
from policies.base import Policy
from policies.rt1.policy import load_rt1
from policies.scripted import random_policy, replay_policy, zero_policy

WEIGHTS = Path(__file__).parent / "weights"

SCRIPTED: Mapping[str, Callable[[RobotSpec], Policy]] = {
    "zero": zero_policy,
    "random": random_policy,
}
READERS: Mapping[str, Callable[[Path, RobotSpec], Policy]] = {
    ".npz": replay_policy,
    ".safetensors": load_rt1,
}
"""What a file is, by its ending: a recorded episode to replay, or RT-1 weights."""


def make_policy(name_or_path: str, robot: RobotSpec) -> Policy:
    """Return a bundled policy, or one from a file: an episode to replay or a checkpoint.

    Args:
        name_or_path: `zero`, `random`, a bundled checkpoint such as `rt1-converged`, or the path
            of an episode (.npz) or a checkpoint (.safetensors).
        robot: Whose actions the policy must give.

    Raises:
        ValueError: Unknown name, a damaged file, or a policy for another robot.
        FileNotFoundError: No file at the path.
    """
    path = Path(name_or_path)
    if path.suffix in READERS:
        if not path.is_file():
            raise FileNotFoundError(f"expected a {path.suffix} file at {path}, found none")
        return READERS[path.suffix](path, robot)
    return lookup(named_policies(), name_or_path, "policy")(robot)


def named_policies() -> dict[str, Callable[[RobotSpec], Policy]]:
    """Return every policy that has a name: the scripted ones and the bundled checkpoints."""
    bundled = sorted(WEIGHTS.glob("*.safetensors"))
    return {**SCRIPTED, **{path.stem: partial(load_rt1, path) for path in bundled}}

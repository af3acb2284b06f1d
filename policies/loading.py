"""From a word on the command line to a policy on a robot."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

from v2w_gym.configs.loader import load_config
from v2w_gym.configs.names import lookup
from v2w_gym.configs.policies import PolicyConfig
from v2w_gym.configs.robots import RobotSpec
from v2w_gym.policies.base import Policy
from v2w_gym.policies.instructions import InstructionTable, load_table
from v2w_gym.policies.planner.policy import KIND as PLANNER
from v2w_gym.policies.planner.policy import load_planner
from v2w_gym.policies.processing.constants import load_constants
from v2w_gym.policies.remote.client import connect
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.policies.rt1.policy import KIND as RT1
from v2w_gym.policies.rt1.policy import load_rt1
from v2w_gym.policies.saved_model import load_saved_model
from v2w_gym.policies.scripted import random_policy, replay_policy, zero_policy
from v2w_gym.world_models.checkpoint import read_card

WEIGHTS = Path(__file__).parent / "weights"

SCRIPTED: Mapping[str, Callable[[RobotSpec], Policy]] = {
    "zero": zero_policy,
    "random": random_policy,
}
USED: Mapping[str, tuple[str, ...]] = {RT1: ("instructions", "device"), PLANNER: ()}
"""Kind of a checkpoint -> which settings of a policy file it heeds."""


@contextmanager
def make_policies(
    policies: Sequence[str | Policy | RobotPolicy], robot: RobotSpec
) -> Iterator[list[RobotPolicy]]:
    """Yield every policy on a robot; those that are made here from a word are closed afterwards.

    Raises:
        As `make_policy`.
    """
    with ExitStack() as stack:
        yield [
            stack.enter_context(closing(make_policy(policy, robot)))
            if isinstance(policy, str)
            else policy
            if isinstance(policy, RobotPolicy)
            else RobotPolicy(policy, robot)
            for policy in policies
        ]


def make_policy(word: str, robot: RobotSpec) -> RobotPolicy:
    """Return a policy on a robot, with its pre- and postprocessing.

    Args:
        word: What `PolicyConfig.source` may be, or the path of a YAML file with a `PolicyConfig`.
        robot: Whose frames it is shown, and whose actions it gives.

    Raises:
        ConnectionError: A policy server that does not answer.
        TimeoutError: One that does not answer in time.
        FileNotFoundError: No file at the path.
        ValueError: Unknown name or setting, a damaged file, or a policy that does not fit.
    """
    cfg = policy_config(word)
    policy = load_policy(cfg, robot)
    try:
        return RobotPolicy(policy, robot, cfg.driver)
    except ValueError:
        policy.close()
        raise


def policy_config(word: str) -> PolicyConfig:
    """Return what a word on the command line says of a policy; see `make_policy`.

    Raises:
        FileNotFoundError: No such YAML file.
        ValueError: A setting that is unknown, missing or wrong.
    """
    is_file = word.endswith((".yaml", ".yml"))
    return load_config(PolicyConfig, [word], []) if is_file else PolicyConfig(word)


def load_policy(cfg: PolicyConfig, robot: RobotSpec) -> Policy:
    """Return the policy at `cfg.source` as it is, without pre- and postprocessing.

    Raises:
        ConnectionError: A policy server that does not answer.
        TimeoutError: One that does not answer in time.
        FileNotFoundError: No file at the path.
        ValueError: Unknown name, a damaged file, or a policy for another robot.
    """
    policy = _find(cfg, robot)
    if cfg.name is not None:
        policy.meta = replace(policy.meta, name=cfg.name)
    return policy


def _find(cfg: PolicyConfig, robot: RobotSpec) -> Policy:
    path = Path(cfg.source)
    if cfg.source.startswith(("ws://", "wss://")):
        _check_used(cfg, "inputs", "remote")
        return _connected(cfg)
    if (path / "saved_model.pb").exists():
        return _saved_model(path, cfg, robot)
    if cfg.source and path.is_dir():
        raise FileNotFoundError(f"expected saved_model.pb in the folder {path}, found none")
    if path.suffix in (".npz", ".safetensors") and not path.is_file():
        raise FileNotFoundError(f"expected a {path.suffix} file at {path}, found none")
    if path.suffix == ".safetensors":
        return _checkpoint(path, cfg, robot)
    if path.suffix == ".npz":
        _check_used(cfg)
        return replay_policy(path, robot)
    bundled = {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}
    named: dict[str, Path | Callable[[RobotSpec], Policy]] = {**SCRIPTED, **bundled}
    found = lookup(named, cfg.source, "policy")
    if isinstance(found, Path):
        return _checkpoint(found, cfg, robot)
    _check_used(cfg)
    return found(robot)


def _connected(cfg: PolicyConfig) -> Policy:
    """Connect to a policy server, and see that it needs nothing that it is not given."""
    policy = connect(cfg.source, cfg.remote, load_constants(cfg.inputs))
    try:
        policy.probe()
    except BaseException:
        policy.close()
        raise
    return policy


def _checkpoint(path: Path, cfg: PolicyConfig, robot: RobotSpec) -> Policy:
    """Read a checkpoint of whatever kind its card says."""
    kind = (read_card(path) or {}).get("kind", RT1)  # without a card, the loader says what is wrong
    used = lookup(USED, str(kind), f"the kind of checkpoint {path}")
    _check_used(cfg, *used)
    if kind == PLANNER:
        return load_planner(path, robot)
    table = _table(cfg)
    return _told(load_rt1(path, robot, device=cfg.device, table=table), table)


def _saved_model(path: Path, cfg: PolicyConfig, robot: RobotSpec) -> Policy:
    _check_used(cfg, "instructions", "python")
    table = _table(cfg)
    if table is None:
        raise ValueError(
            f"expected a table of instruction embeddings for the SavedModel at {path}, found none; "
            "make one with `v2w embed` and name it in a policy file: source: ..., instructions: ..."
        )
    return _told(load_saved_model(path, robot, table, cfg.python), table)


def _told(policy: Policy, table: InstructionTable | None) -> Policy:
    """Return a policy whose fingerprint is of its table too, if it was given one.

    Other vectors of the instructions make another policy of the same weights.
    """
    if table is not None:
        both = policy.meta.fingerprint + table.fingerprint
        fingerprint = hashlib.sha256(both.encode()).hexdigest()
        policy.meta = replace(policy.meta, fingerprint=fingerprint)
    return policy


def _check_used(cfg: PolicyConfig, *used: str) -> None:
    """Refuse a setting that would change nothing."""
    for name in ("instructions", "python", "device", "inputs", "remote"):
        if name not in used and getattr(cfg, name) != getattr(PolicyConfig(cfg.source), name):
            raise ValueError(
                f"expected no setting {name!r} for policy {cfg.source!r}, which does not use it, "
                f"found {getattr(cfg, name)}; leave it out"
            )


def _table(cfg: PolicyConfig) -> InstructionTable | None:
    return load_table(Path(cfg.instructions)) if cfg.instructions else None

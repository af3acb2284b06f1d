"""Load policies from names, files, servers or policy files, and put them on a robot."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from v2w_gym.configs.loader import load_config
from v2w_gym.configs.names import lookup
from v2w_gym.configs.policies import PolicyConfig
from v2w_gym.configs.robots import RobotSpec
from v2w_gym.policies.adapters.saved_model import load_saved_model
from v2w_gym.policies.base import Policy
from v2w_gym.policies.instructions import InstructionTable, load_table
from v2w_gym.policies.planner.policy import KIND as PLANNER
from v2w_gym.policies.planner.policy import load_planner
from v2w_gym.policies.processing.constants import load_constants
from v2w_gym.policies.remote.client import connect
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.policies.rt1.policy import KIND as RT1
from v2w_gym.policies.rt1.policy import load_rt1
from v2w_gym.policies.scripted import random_policy, replay_policy, zero_policy
from v2w_gym.world_models.checkpoint import read_card
from v2w_gym.world_models.data.sources.opening import split_episode

WEIGHTS = Path(__file__).parent / "weights"


@contextmanager
def make_policies(
    policies: Sequence[str | Policy | RobotPolicy], robot: RobotSpec
) -> Iterator[list[RobotPolicy]]:
    """Yield every policy on a robot, then close those that were loaded from a word.

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
        word: A value of `PolicyConfig.source`, or the path of a YAML file with a `PolicyConfig`.
        robot: The robot whose frames the policy receives and whose actions it returns.

    Raises:
        ConnectionError: The policy server cannot be reached.
        TimeoutError: The policy server does not respond in time.
        FileNotFoundError: No file at the path.
        ValueError: An unknown name or setting, a damaged file, or a policy that does not fit the
            robot.
    """
    cfg = policy_config(word)
    policy = load_policy(cfg, robot)
    try:
        return RobotPolicy(policy, robot, cfg.driver)
    except ValueError:
        policy.close()
        raise


def policy_config(word: str) -> PolicyConfig:
    """Return the settings of a policy from a word on the command line; see `make_policy`.

    Raises:
        FileNotFoundError: No such YAML file.
        ValueError: A setting is unknown, missing or wrong.
    """
    is_file = word.endswith((".yaml", ".yml"))
    return load_config(PolicyConfig, [word], []) if is_file else PolicyConfig(word)


def load_policy(cfg: PolicyConfig, robot: RobotSpec) -> Policy:
    """Return the policy at `cfg.source`, without pre- and postprocessing.

    Raises:
        ConnectionError: The policy server cannot be reached.
        TimeoutError: The policy server does not respond in time.
        FileNotFoundError: No file at the path.
        ValueError: An unknown name, a damaged file, or a policy for another robot.
    """
    kind, found = _recognise(cfg.source)
    _check_used(cfg, kind.settings)
    policy = kind.load(found, cfg, robot)
    if cfg.name is not None:
        policy.meta = replace(policy.meta, name=cfg.name)
    return policy


def _connect(url: str, cfg: PolicyConfig, robot: RobotSpec) -> Policy:
    """Connect to a policy server, and check that it has all the inputs it needs."""
    policy = connect(url, cfg.remote, load_constants(cfg.inputs))
    try:
        policy.probe()
    except BaseException:
        policy.close()
        raise
    return policy


def _rt1(path: str, cfg: PolicyConfig, robot: RobotSpec) -> Policy:
    table = _table(cfg)
    return _with_table(load_rt1(Path(path), robot, device=cfg.device, table=table), table)


def _planner(path: str, cfg: PolicyConfig, robot: RobotSpec) -> Policy:
    return load_planner(Path(path), robot)


def _saved_model(path: str, cfg: PolicyConfig, robot: RobotSpec) -> Policy:
    table = _table(cfg)
    if table is None:
        raise ValueError(
            f"expected a table of instruction embeddings for the SavedModel at {path}, found none; "
            "make one with `v2w embed` and name it in a policy file: source: ..., instructions: ..."
        )
    return _with_table(load_saved_model(Path(path), robot, table, cfg.python), table)


def _replay(path: str, cfg: PolicyConfig, robot: RobotSpec) -> Policy:
    return replay_policy(path, robot)


def _scripted(word: str, cfg: PolicyConfig, robot: RobotSpec) -> Policy:
    return SCRIPTED[word](robot)


@dataclass(frozen=True)
class PolicyKind:
    """A kind of policy.

    Attributes:
        load: Loads a policy from its source, its settings and a robot.
        settings: Settings of a policy file that this kind uses, besides the common ones.
    """

    load: Callable[[str, PolicyConfig, RobotSpec], Policy]
    settings: tuple[str, ...] = ()


SCRIPTED: Mapping[str, Callable[[RobotSpec], Policy]] = {
    "zero": zero_policy,
    "random": random_policy,
}
"""Name -> a policy without a checkpoint."""
CHECKPOINTS: Mapping[str, PolicyKind] = {
    PLANNER: PolicyKind(_planner),
    RT1: PolicyKind(_rt1, ("instructions", "device")),
}
"""`kind` on a checkpoint's card -> the kind of policy."""


def _recognise(source: str) -> tuple[PolicyKind, str]:
    """Return the kind of the policy at a source, and the path, URL or name to load."""
    path = Path(source)
    if source.startswith(("ws://", "wss://")):
        return PolicyKind(_connect, ("inputs", "remote")), source
    if (path / "saved_model.pb").exists():
        return PolicyKind(_saved_model, ("instructions", "python")), source
    if source and path.is_dir():
        raise FileNotFoundError(f"expected saved_model.pb in the folder {path}, found none")
    if path.suffix in (".npz", ".safetensors") and not path.is_file():
        raise FileNotFoundError(f"expected a {path.suffix} file at {path}, found none")
    if path.suffix == ".npz" or split_episode(source)[1]:
        return PolicyKind(_replay), source
    if path.suffix == ".safetensors":
        return _kind_on_card(path), source
    bundled = {file.stem: file for file in sorted(WEIGHTS.glob("*.safetensors"))}
    found = lookup({**dict.fromkeys(SCRIPTED), **bundled}, source, "policy")
    return (PolicyKind(_scripted), source) if found is None else (_kind_on_card(found), str(found))


def _kind_on_card(path: Path) -> PolicyKind:
    # For a file without a card, the loader raises the error that says so.
    kind = (read_card(path) or {}).get("kind", RT1)
    return lookup(CHECKPOINTS, str(kind), f"the kind of checkpoint {path}")


def _with_table(policy: Policy, table: InstructionTable | None) -> Policy:
    """Add the table to the policy's fingerprint: other embeddings change what the policy does."""
    if table is not None:
        both = policy.meta.fingerprint + table.fingerprint
        fingerprint = hashlib.sha256(both.encode()).hexdigest()
        policy.meta = replace(policy.meta, fingerprint=fingerprint)
    return policy


def _check_used(cfg: PolicyConfig, used: Sequence[str]) -> None:
    """Raise an error for a setting that would have no effect."""
    for name in ("instructions", "python", "device", "inputs", "remote"):
        if name not in used and getattr(cfg, name) != getattr(PolicyConfig(cfg.source), name):
            raise ValueError(
                f"expected no setting {name!r} for policy {cfg.source!r}, which does not use it, "
                f"found {getattr(cfg, name)}; leave it out"
            )


def _table(cfg: PolicyConfig) -> InstructionTable | None:
    return load_table(Path(cfg.instructions)) if cfg.instructions else None

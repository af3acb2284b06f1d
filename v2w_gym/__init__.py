"""Evaluate robot policies inside a learned video world model.

Importing this package registers the environments and loads neither torch nor a simulator. The names
of `__all__` are its public interface; a name's module is imported when the name is first used.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not (Path(__file__).parent / "configs").is_dir():
    raise ImportError(
        f"expected a folder or a symbolic link at {Path(__file__).parent / 'configs'}, found none; "
        "the repository was copied without its symbolic links: install v2w-gym from a wheel, or "
        "from a clone made with `git clone -c core.symlinks=true`"
    )

from v2w_gym.configs.names import hint
from v2w_gym.forks import calm_threads_after_fork

if TYPE_CHECKING:  # the names of PUBLIC, for type checkers and editors
    from v2w_gym.configs.data import PrepareConfig as PrepareConfig
    from v2w_gym.configs.data import StartsConfig as StartsConfig
    from v2w_gym.configs.evaluate import RankConfig as RankConfig
    from v2w_gym.configs.evaluate import TrialsConfig as TrialsConfig
    from v2w_gym.configs.world_model import WorldModelSettings as WorldModelSettings
    from v2w_gym.conformance import EnvironmentConformance as EnvironmentConformance
    from v2w_gym.env import Vid2WorldEnv as Vid2WorldEnv
    from v2w_gym.evaluation.compare.comparison import Comparison as Comparison
    from v2w_gym.evaluation.compare.comparison import compare as compare
    from v2w_gym.evaluation.rank import rank as rank
    from v2w_gym.evaluation.records.trials import load_trials as load_trials
    from v2w_gym.evaluation.starts.taking import take_starts as take_starts
    from v2w_gym.evaluation.trials import run_trials as run_trials
    from v2w_gym.judges.base import Judge as Judge
    from v2w_gym.judges.base import Verdicts as Verdicts
    from v2w_gym.judges.loading import load_judge as load_judge
    from v2w_gym.policies.base import Policy as Policy
    from v2w_gym.policies.base import PolicyMeta as PolicyMeta
    from v2w_gym.policies.conformance import PolicyConformance as PolicyConformance
    from v2w_gym.policies.loading import make_policy as make_policy
    from v2w_gym.policies.remote.server import PolicyServer as PolicyServer
    from v2w_gym.policies.robot_policy import RobotPolicy as RobotPolicy
    from v2w_gym.standin.env import StandinEnv as StandinEnv
    from v2w_gym.vector_env import Vid2WorldVectorEnv as Vid2WorldVectorEnv
    from v2w_gym.world_models.base import WorldModel as WorldModel
    from v2w_gym.world_models.conformance import ClipModelConformance as ClipModelConformance
    from v2w_gym.world_models.conformance import WorldModelConformance as WorldModelConformance
    from v2w_gym.world_models.data.episode import Episode as Episode
    from v2w_gym.world_models.data.prepared import PreparedData as PreparedData
    from v2w_gym.world_models.data.prepared import open_prepared as open_prepared
    from v2w_gym.world_models.data.preparing.prepare import prepare as prepare
    from v2w_gym.world_models.data.preparing.prepare import prepare_source as prepare_source
    from v2w_gym.world_models.data.sources.opening import open_source as open_source
    from v2w_gym.world_models.data.sources.opening import read_one as read_one
    from v2w_gym.world_models.data.starts.files import Start as Start
    from v2w_gym.world_models.data.starts.files import StartFile as StartFile
    from v2w_gym.world_models.data.starts.files import load_starts as load_starts
    from v2w_gym.world_models.loading import load_world_model as load_world_model

__version__ = "0.1.0"

PUBLIC = {
    "ClipModelConformance": "v2w_gym.world_models.conformance",
    "Comparison": "v2w_gym.evaluation.compare.comparison",
    "EnvironmentConformance": "v2w_gym.conformance",
    "Episode": "v2w_gym.world_models.data.episode",
    "Judge": "v2w_gym.judges.base",
    "Policy": "v2w_gym.policies.base",
    "PolicyConformance": "v2w_gym.policies.conformance",
    "PolicyMeta": "v2w_gym.policies.base",
    "PolicyServer": "v2w_gym.policies.remote.server",
    "PrepareConfig": "v2w_gym.configs.data",
    "PreparedData": "v2w_gym.world_models.data.prepared",
    "RankConfig": "v2w_gym.configs.evaluate",
    "RobotPolicy": "v2w_gym.policies.robot_policy",
    "StandinEnv": "v2w_gym.standin.env",
    "Start": "v2w_gym.world_models.data.starts.files",
    "StartFile": "v2w_gym.world_models.data.starts.files",
    "StartsConfig": "v2w_gym.configs.data",
    "TrialsConfig": "v2w_gym.configs.evaluate",
    "Verdicts": "v2w_gym.judges.base",
    "Vid2WorldEnv": "v2w_gym.env",
    "Vid2WorldVectorEnv": "v2w_gym.vector_env",
    "WorldModel": "v2w_gym.world_models.base",
    "WorldModelConformance": "v2w_gym.world_models.conformance",
    "WorldModelSettings": "v2w_gym.configs.world_model",
    "compare": "v2w_gym.evaluation.compare.comparison",
    "load_judge": "v2w_gym.judges.loading",
    "load_starts": "v2w_gym.world_models.data.starts.files",
    "load_trials": "v2w_gym.evaluation.records.trials",
    "load_world_model": "v2w_gym.world_models.loading",
    "make_policy": "v2w_gym.policies.loading",
    "open_prepared": "v2w_gym.world_models.data.prepared",
    "open_source": "v2w_gym.world_models.data.sources.opening",
    "prepare": "v2w_gym.world_models.data.preparing.prepare",
    "prepare_source": "v2w_gym.world_models.data.preparing.prepare",
    "rank": "v2w_gym.evaluation.rank",
    "read_one": "v2w_gym.world_models.data.sources.opening",
    "run_trials": "v2w_gym.evaluation.trials",
    "take_starts": "v2w_gym.evaluation.starts.taking",
}
"""Public name -> the module that defines it."""

__all__ = [*PUBLIC]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in PUBLIC:
        raise AttributeError(f"v2w_gym has no {name!r}{hint(name, PUBLIC)}")
    return getattr(import_module(PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC})


calm_threads_after_fork()  # Gymnasium's AsyncVectorEnv and SB3's SubprocVecEnv fork

try:
    from v2w_gym.registration import register_environments
except ModuleNotFoundError as error:
    if error.name != "gymnasium":  # a policy server needs no environments, and runs without it
        raise
else:
    register_environments()

"""Record episodes on the stand-in robot."""

import multiprocessing
import signal
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.configs.tasks import TASKS, find_task
from v2w_gym.configs.train import CollectConfig
from v2w_gym.standin.behaviours import expert_action, make_behaviour
from v2w_gym.standin.env import StandinEnv, make_expert
from v2w_gym.world_models.data.labelled import LabelledEpisode, save_labelled


def collect(cfg: CollectConfig) -> Path:
    """Record the episodes of `cfg`; existing episodes are kept.

    An episode depends on its task and seed alone, not on the number of workers.

    Returns:
        The folder of the episodes.

    Raises:
        ValueError: Unknown task or behaviour, or shares that do not sum to one.
    """
    for task in cfg.tasks:
        find_task(task, STANDIN_SAWYER.name)
    if abs(sum(cfg.behaviours.values()) - 1) > 1e-6:
        raise ValueError(f"expected behaviours with shares that sum to 1, found {cfg.behaviours}")
    output = Path(cfg.output)
    jobs = [
        (cfg, task, cfg.first_seed + i)
        for i in range(cfg.episodes)
        for task in cfg.tasks
        if not episode_path(output, task, cfg.first_seed + i).exists()
    ]
    for task in cfg.tasks:
        (output / task).mkdir(parents=True, exist_ok=True)
    # Workers ignore Ctrl-C: the parent process handles it.
    workers = (cfg.workers, signal.signal, (signal.SIGINT, signal.SIG_IGN))
    with multiprocessing.get_context("spawn").Pool(*workers) as pool:
        for _ in tqdm(pool.imap(_record_job, jobs, 8), total=len(jobs), unit="episode"):
            pass
    return output


def episode_path(folder: Path, task: str, seed: int) -> Path:
    """Return the path of the episode of a task and seed."""
    return folder / task / f"episode_{seed:08d}.npz"


def record_episode(env: StandinEnv, behaviour: str, seed: int) -> LabelledEpisode:
    """Record one behaviour from the start that `seed` fixes, up to the task's horizon."""
    frame, _ = env.reset(seed=seed)
    act = make_behaviour(behaviour, env, np.random.default_rng([seed, 1]))
    expert = make_expert(env.task)
    frames, success, states = [frame], [env.solved], [env.state]
    actions, labels = [], []
    for _ in range(TASKS[env.task].horizon):
        labels.append(expert_action(env, expert, env.task))
        actions.append(act())
        frame = env.step(actions[-1])[0]
        frames.append(frame)
        success.append(env.solved)
        states.append(env.state)
    return LabelledEpisode(
        frames=np.stack(frames),
        actions=np.stack(actions),
        expert_actions=np.stack(labels),
        success=np.array(success),
        robot=env.robot.name,
        task=env.task,
        instruction=env.task_description,
        behaviour=behaviour,
        seed=seed,
        state={
            "hand": np.array([s.hand for s in states], np.float32),
            "handle": np.array([s.handle for s in states], np.float32),
            "opening": np.array([s.opening for s in states], np.float32),
        },
    )


@lru_cache
def _env(task: str) -> StandinEnv:
    """Return this process's simulator of a task; loading it takes longer than an episode."""
    return StandinEnv(task)


def _record_job(job: tuple[CollectConfig, str, int]) -> None:
    cfg, task, seed = job
    names = list(cfg.behaviours)
    shares = np.array([cfg.behaviours[name] for name in names])
    behaviour = str(np.random.default_rng([seed, 0]).choice(names, p=shares / shares.sum()))
    save_labelled(
        episode_path(Path(cfg.output), task, seed), record_episode(_env(task), behaviour, seed)
    )

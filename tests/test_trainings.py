"""Every training, interrupted anywhere and resumed, ends with the same weights.

A new training takes one entry in `TRAININGS` to be held to all of this.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.networks import TINY_RT1
from v2w_gym.configs.model import AutoencoderConfig, UNetConfig, WorldModelConfig
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.configs.sampler import SamplerConfig
from v2w_gym.configs.train import (
    AdamConfig,
    AutoencoderTrainConfig,
    DenoiserTrainConfig,
    JudgeTrainConfig,
    TrainConfig,
    TrainPlannerConfig,
    TrainPolicyConfig,
)
from v2w_gym.evaluation.judges import drawer as judge
from v2w_gym.policies.planner import training as planner
from v2w_gym.policies.rt1 import training as rt1
from v2w_gym.world_models import training as world_model
from v2w_gym.world_models.checkpoint import load_checkpoint
from v2w_gym.world_models.data.labelled import LabelledEpisode, save_labelled
from v2w_gym.world_models.run_folder import hold_folder

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Training:
    """A training at a tiny size.

    Attributes:
        make: (folder, folder of episodes) -> its settings; everything is written to the folder.
        train: Trains what the settings describe.
        held: The folder, within the other, in which one process at a time trains.
        updates: How often the weights are updated, over all its networks.
        at_rate: (settings, learning rate) -> settings with that rate, reached at once.
    """

    make: Callable[[Path, str], Any]
    train: Callable[[Any], object]
    held: str
    updates: int
    at_rate: Callable[[Any, float], Any] = lambda cfg, rate: replace(cfg, learning_rate=rate)


def make_world_model(folder: Path, episodes: str) -> TrainConfig:
    return TrainConfig(
        output=str(folder / "run"),
        episodes=[episodes],
        model=WorldModelConfig(
            window=4,
            autoencoder=AutoencoderConfig(channels=(16, 16), blocks=1, latent_channels=4),
            unet=UNetConfig(channels=16, head_channels=8, groups=4, dropout=0.5),
            sampler=SamplerConfig(steps=2),
        ),
        autoencoder=AutoencoderTrainConfig(steps=3, batch_size=2, save_every=2),
        denoiser=DenoiserTrainConfig(steps=4, batch_size=2, clip_frames=4, save_every=2),
        threads=1,
    )


def make_rt1(folder: Path, episodes: str) -> TrainPolicyConfig:
    return TrainPolicyConfig(
        output=str(folder / "run"),
        weights=str(folder / "weights"),
        episodes=[episodes],
        held_out=[episodes],
        stages={"early": 2, "end": 1.0},
        network=asdict(TINY_RT1),
        steps=5,
        batch_size=4,
        optimiser=AdamConfig(warmup=2),
        save_every=2,
        held_out_windows=8,
    )


def make_planner(folder: Path, episodes: str) -> TrainPlannerConfig:
    return TrainPlannerConfig(
        output=str(folder / "planner.safetensors"),
        episodes=[episodes],
        held_out=[episodes],
        channels=(8, 8, 8),
        steps=5,
        batch_size=16,
        save_every=2,
    )


def make_judge(folder: Path, episodes: str) -> JudgeTrainConfig:
    return JudgeTrainConfig(
        output=str(folder / "judge.safetensors"),
        episodes=[episodes],
        held_out=[episodes],
        steps=5,
        batch_size=16,
        save_every=2,
    )


def denoise_at_rate(cfg: TrainConfig, rate: float) -> TrainConfig:
    return replace(cfg, denoiser=replace(cfg.denoiser, learning_rate=rate, warmup=1))


def clone_at_rate(cfg: TrainPolicyConfig, rate: float) -> TrainPolicyConfig:
    return replace(cfg, optimiser=AdamConfig(learning_rate=rate, warmup=0, nonfinite="zero"))


TRAININGS = {
    "world model": Training(make_world_model, world_model.train, "run", 7, denoise_at_rate),
    "rt1": Training(make_rt1, rt1.train, "run", 5, clone_at_rate),
    "planner": Training(make_planner, planner.train, "planner.training", 5),
    "judge": Training(make_judge, judge.train_judge, "judge.training", 5),
}


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four short episodes of noise that hold all that any training reads."""
    folder = tmp_path_factory.mktemp("episodes")
    rng = np.random.default_rng(0)
    for seed in range(4):
        steps = 7 + seed
        moves = rng.uniform(-0.05, 0.05, (steps, 3)).astype(np.float32)
        actions = np.stack([STANDIN_SAWYER.make_action(world_vector=move) for move in moves])
        task = ("close_drawer", "open_drawer")[seed % 2]
        episode = LabelledEpisode(
            frames=rng.integers(0, 256, (steps + 1, 64, 64, 3), np.uint8),
            actions=actions,
            expert_actions=actions,
            success=np.zeros(steps + 1, bool),
            robot=STANDIN_SAWYER.name,
            task=task,
            instruction=task.replace("_", " "),
            behaviour="expert",
            seed=seed,
            state={
                "hand": rng.uniform(0, 1, (steps + 1, 3)).astype(np.float32),
                "handle": rng.uniform(0, 1, (steps + 1, 3)).astype(np.float32),
                "opening": rng.uniform(0, 0.16, steps + 1).astype(np.float32),
            },
        )
        save_labelled(folder / f"episode_{seed}.npz", episode)
    return str(folder)


@pytest.fixture(autouse=True, scope="module")
def _a_judge_that_reads_nothing_is_measured() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "measure", lambda *_: {})
        yield


@pytest.fixture(scope="module", params=TRAININGS)
def training(request: pytest.FixtureRequest) -> Training:
    torch.set_num_threads(1)
    return TRAININGS[request.param]


@pytest.fixture(scope="module")
def whole(
    training: Training, episodes: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Weights]:
    """The weights of a training that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    training.train(training.make(folder, episodes))
    return weights_in(folder)


def weights_in(folder: Path) -> dict[str, Weights]:
    return {path.stem: load_checkpoint(path)[0] for path in folder.rglob("*.safetensors")}


def assert_same(found: dict[str, Weights], expected: dict[str, Weights]) -> None:
    assert found.keys() == expected.keys() != set()
    for stem, weights in expected.items():
        assert found[stem].keys() == weights.keys()
        for name, value in weights.items():
            assert torch.equal(found[stem][name], value), (stem, name)


def interrupt(training: Training, cfg: Any, place: tuple[type, str], after: int) -> None:
    """Train, and press Ctrl-C at a place in the code that `after` steps have passed."""
    original, passed = getattr(*place), []

    def stop(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if len(passed) == after:
            raise KeyboardInterrupt
        passed.append(1)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*place, stop)
        with pytest.raises(KeyboardInterrupt):
            training.train(cfg)


@pytest.mark.parametrize("after", [1, 4])
@pytest.mark.parametrize(
    "place",
    [
        pytest.param((torch.Tensor, "backward"), id="before an update"),
        pytest.param((torch.optim.AdamW, "step"), id="within an update"),  # as if it were killed
    ],
)
def test_interrupted_and_resumed_is_uninterrupted(
    training: Training,
    whole: dict[str, Weights],
    episodes: str,
    tmp_path: Path,
    place: tuple[type, str],
    after: int,
):
    cfg = training.make(tmp_path, episodes)
    interrupt(training, cfg, place, after)
    training.train(cfg)
    assert_same(weights_in(tmp_path), whole)


def test_every_step_is_logged_once(training: Training, episodes: str, tmp_path: Path):
    cfg = training.make(tmp_path, episodes)
    for after in (2, 1, training.updates - 4):
        interrupt(training, cfg, (torch.optim.AdamW, "step"), after)
    for log in (tmp_path / training.held).glob("*.jsonl"):
        steps = [json.loads(line) for line in log.read_text().splitlines()]
        numbers = [step["step"] for step in steps if "gradient_norm" in step]
        assert numbers == [*range(1, len(numbers) + 1)] != []


def test_another_run_in_its_folder_is_refused(training: Training, episodes: str, tmp_path: Path):
    cfg = training.make(tmp_path, episodes)
    interrupt(training, cfg, (torch.optim.AdamW, "step"), 3)
    with pytest.raises(
        ValueError, match=f"{training.held} holds another run: expected seed 0, found 1; choose"
    ):
        training.train(replace(cfg, seed=1))
    with (
        hold_folder(tmp_path / training.held),
        pytest.raises(BlockingIOError, match="expected to run alone in"),
    ):
        training.train(cfg)


def test_a_damaged_state_is_refused(training: Training, episodes: str, tmp_path: Path):
    cfg = training.make(tmp_path, episodes)
    interrupt(training, cfg, (torch.optim.AdamW, "step"), 3)
    (state, *_) = [*tmp_path.rglob("*.state"), *tmp_path.rglob("*_state.pt")]
    state.write_bytes(state.read_bytes()[:-500])
    with pytest.raises(ValueError, match=rf"{state.name}, found a damaged file.*delete it to"):
        training.train(cfg)


def test_a_rate_that_ruins_the_weights_can_be_lowered_in_the_same_folder(
    training: Training, episodes: str, tmp_path: Path
):
    cfg = training.make(tmp_path, episodes)
    with pytest.raises(FloatingPointError, match="lower .*learning.rate and run the same command"):
        training.train(training.at_rate(cfg, 1e30))
    training.train(training.at_rate(cfg, 1e-4))
    for weights in weights_in(tmp_path).values():
        assert all(torch.isfinite(value).all() for value in weights.values())

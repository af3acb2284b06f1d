import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from tests.servers import plain
from v2w_gym.configs.robots import GOOGLE_ROBOT, STANDIN_SAWYER
from v2w_gym.policies.instructions import InstructionTable, make_table, save_table
from v2w_gym.policies.loading import WEIGHTS, make_policies, make_policy
from v2w_gym.policies.scripted import zero_policy
from v2w_gym.world_models.checkpoint import save_checkpoint

STAGES = ["rt1-begin", "rt1-15", "rt1-25", "rt1-40", "rt1-converged"]
LEARNED = [*STAGES, "planner"]


@pytest.mark.parametrize("name", ["zero", "random", *LEARNED])
def test_bundled_policies_load_under_their_name(name: str):
    meta = make_policy(name, STANDIN_SAWYER).meta
    assert meta.name == name
    assert bool(meta.fingerprint) == (name in LEARNED)


def test_every_bundled_policy_has_a_name():
    assert sorted(path.stem for path in WEIGHTS.glob("*.safetensors")) == sorted(LEARNED)


def test_bundled_stages_differ():
    assert len({make_policy(stage, STANDIN_SAWYER).meta.fingerprint for stage in STAGES}) == 5


def test_an_episode_is_replayed(episodes: Path):
    assert make_policy(str(episodes / "episode_0.npz"), STANDIN_SAWYER).meta.name == "replay"


def test_an_episode_of_many_is_replayed(episodes: Path):
    by_name = make_policy(f"{episodes}#episode_0", STANDIN_SAWYER)
    by_number = make_policy(f"{episodes}#0", STANDIN_SAWYER)
    of_file = make_policy(str(episodes / "episode_0.npz"), STANDIN_SAWYER)
    assert by_name.meta == by_number.meta == of_file.meta
    with pytest.raises(ValueError, match="such as 'episode_0', found 'episode_9'"):
        make_policy(f"{episodes}#episode_9", STANDIN_SAWYER)


def test_a_policy_file_names_the_policy_and_how_it_drives(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("source: rt1-15\nname: early\ndriver: {gripper_deadband: 0.01}\n")
    policy = make_policy(str(file), STANDIN_SAWYER)
    assert policy.meta.name == "early"
    assert policy.meta.fingerprint == make_policy("rt1-15", STANDIN_SAWYER).meta.fingerprint
    assert policy.cfg.gripper_deadband == 0.01


def test_a_policy_file_is_checked(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("source: zero\ndriver: {gripper_deadbnd: 0.01}\n")
    with pytest.raises(ValueError, match=r"unknown setting .*gripper_deadband"):
        make_policy(str(file), STANDIN_SAWYER)
    file.write_text("name: nothing\n")
    with pytest.raises(ValueError, match="expected a value for source"):
        make_policy(str(file), STANDIN_SAWYER)


@pytest.mark.parametrize(
    ("source", "setting"),
    [
        ("zero", "device: cuda"),
        ("planner", "instructions: table.safetensors"),
        ("rt1-15", "python: python3"),
        ("ws://127.0.0.1:9", "device: cuda"),
        ("rt1-15", "remote: {chunk: 4}"),
        ("zero", "inputs: {state: 0}"),
    ],
)
def test_a_setting_that_would_change_nothing_is_refused(
    tmp_path: Path, source: str, setting: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"source: {source}\n{setting}\n")
    name = setting.partition(":")[0]
    with pytest.raises(ValueError, match=f"expected no setting '{name}' for policy '{source}'"):
        make_policy(str(file), STANDIN_SAWYER)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'rt1-converged'"):
        make_policy("rt1-convergd", STANDIN_SAWYER)


@pytest.mark.parametrize("name", ["missing.npz", "missing.safetensors", "missing.yaml"])
def test_missing_file_is_named(name: str):
    with pytest.raises(FileNotFoundError, match=name):
        make_policy(name, STANDIN_SAWYER)


@pytest.mark.parametrize("name", LEARNED)
def test_a_bundled_policy_does_not_drive_another_robot(name: str):
    with pytest.raises(ValueError, match="google_robot"):
        make_policy(name, GOOGLE_ROBOT)


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path, network):
    path = tmp_path / "judge.safetensors"
    save_checkpoint(path, network.state_dict(), {"kind": "judge"})
    with pytest.raises(ValueError, match=r"expected the kind of checkpoint .* found 'judge'"):
        make_policy(str(path), STANDIN_SAWYER)


def test_a_card_that_says_too_little_is_refused(tmp_path: Path, network):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, network.state_dict(), {"kind": "rt1"})
    with pytest.raises(ValueError, match="on the card of .*mine.safetensors, found no robot"):
        make_policy(str(path), STANDIN_SAWYER)


def test_a_folder_that_is_no_saved_model_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="expected saved_model.pb in the folder"):
        make_policy(str(tmp_path), STANDIN_SAWYER)


def test_a_saved_model_asks_for_its_instructions(tmp_path: Path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ValueError, match="v2w embed"):
        make_policy(str(tmp_path), GOOGLE_ROBOT)


def test_a_table_replaces_that_of_the_checkpoint(tmp_path: Path):
    card = Path(make_policy.__code__.co_filename).parent / "weights"
    for file in card.glob("rt1-15.*"):
        shutil.copy(file, tmp_path)
    size = 64
    save_table(tmp_path / "table.safetensors", make_table(["wave"], size), {})
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"source: {tmp_path}/rt1-15.safetensors\ninstructions: {tmp_path}/table.safetensors\n"
    )
    policy = make_policy(str(file), STANDIN_SAWYER)
    fingerprint = policy.meta.fingerprint
    assert fingerprint != make_policy("rt1-15", STANDIN_SAWYER).meta.fingerprint
    assert fingerprint == make_policy(str(file), STANDIN_SAWYER).meta.fingerprint
    policy.reset(["Wave!"], seeds=[0])
    with pytest.raises(ValueError, match="open the drawer"):
        policy.reset(["open the drawer"], seeds=[0])
    vectors = make_table(["wave"], size).vectors
    save_table(tmp_path / "table.safetensors", InstructionTable(("wave",), -vectors), {})
    assert make_policy(str(file), STANDIN_SAWYER).meta.fingerprint != fingerprint


def test_a_policy_that_does_not_fit_is_closed():
    announced = {"layout": "oxe7", "chunk": 1, "control_hz": 10}
    with plain(announced, lambda request: "") as server:
        with pytest.raises(ValueError, match="any_rate=true"):
            make_policy(server.url, STANDIN_SAWYER)
        for _ in range(500):  # the server hears of it in its own thread
            if server.going[0].close_code is not None:
                break
            time.sleep(0.01)
        assert server.going[0].close_code is not None


class Closing:
    """A policy that knows whether it was closed."""

    closed = False

    def __init__(self):
        self.meta = zero_policy(STANDIN_SAWYER).meta

    def close(self):
        self.closed = True


def test_policies_that_were_given_stay_open():
    mine = Closing()
    with make_policies([mine, "zero"], STANDIN_SAWYER) as acting:
        assert [policy.meta.name for policy in acting] == ["zero", "zero"]
        frame = np.zeros((1, 64, 64, 3), np.uint8)
        acting[1].reset([""], seeds=[0])
        assert acting[1].act(frame, np.ones(1, bool)).shape == (1, 13)
    assert not mine.closed

from pathlib import Path

import numpy as np
import pytest
import torch

from v2w_gym.configs.robots import GOOGLE_ROBOT, STANDIN_SAWYER, RobotSpec
from v2w_gym.policies.instructions import InstructionTable, make_table
from v2w_gym.policies.rt1.network import RT1Network
from v2w_gym.policies.rt1.policy import RT1Policy, load_rt1, save_rt1
from v2w_gym.policies.rt1.tokenizer import ActionTokenizer
from v2w_gym.world_models.checkpoint import load_checkpoint, save_checkpoint

ON = np.ones(1, bool)


def roll(policy: RT1Policy, frames: np.ndarray, instruction: str = "open the drawer") -> np.ndarray:
    policy.reset([instruction], seeds=[0])
    return np.concatenate([policy.act(now, ON).actions[0] for now in frames[:, :1]])


def test_kept_tokens_equal_encoding_the_whole_history_again(
    network: RT1Network, table: InstructionTable, frames: np.ndarray
):
    actions = roll(RT1Policy(network, STANDIN_SAWYER, table, "tiny"), frames)
    instruction = torch.from_numpy(table.vectors[[table.row("open the drawer")]])
    for step, action in enumerate(actions):
        shown = torch.from_numpy(frames[max(0, step - 5) : step + 1, 0])
        history = torch.full((1, 6, 2, 16), 9.0)  # later slots must not matter
        with torch.no_grad():
            history[0, : len(shown)] = network.encode(shown, instruction.expand(len(shown), -1))
            tokens = network(history)[0, len(shown) - 1].argmax(-1).numpy()
        assert (ActionTokenizer(STANDIN_SAWYER).decode(tokens) == action).all()


def test_history_and_instruction_matter(
    network: RT1Network, table: InstructionTable, frames: np.ndarray
):
    policy = RT1Policy(network, GOOGLE_ROBOT, table, "tiny")
    together = roll(policy, frames[:3])[-1]
    assert (roll(policy, frames[2:3])[-1] != together).any()
    assert (roll(policy, frames[:3], "close the drawer")[-1] != together).any()


def test_only_the_last_six_frames_matter(
    network: RT1Network, table: InstructionTable, frames: np.ndarray
):
    policy = RT1Policy(network, STANDIN_SAWYER, table, "tiny")
    changed = frames.copy()
    changed[:3] = 0
    assert (roll(policy, changed)[8] == roll(policy, frames)[8]).all()


def test_logits_that_are_no_numbers_are_an_error(
    network: RT1Network, table: InstructionTable, frames: np.ndarray
):
    torch.nn.init.constant_(network.read_out.bias, torch.nan)
    with pytest.raises(ValueError, match="expected finite logits from policy 'tiny'"):
        roll(RT1Policy(network, STANDIN_SAWYER, table, "tiny"), frames)


@pytest.mark.parametrize("robot", [GOOGLE_ROBOT, STANDIN_SAWYER])
def test_actions_are_within_the_robots_bounds(
    network: RT1Network, table: InstructionTable, frames: np.ndarray, robot: RobotSpec
):
    policy = RT1Policy(network, robot, table, "tiny")
    assert policy.meta.layout == "fractal13" and policy.meta.control_hz == 3
    actions = roll(policy, frames)
    assert (robot.check_actions(actions) == actions).all()


def test_a_terminate_token_beyond_the_modes_ends_the_episode_and_is_reported(
    network: RT1Network, table: InstructionTable, frames: np.ndarray
):
    policy = RT1Policy(network, STANDIN_SAWYER, table, "tiny")
    found = {}
    for token in (1, 2, 3, 255):
        network.read_out.bias.data.zero_()
        network.read_out.bias.data[token] = 1e4  # every token is this one
        policy.reset(["open the drawer"] * 3, seeds=[0, 1, 2])
        found[token] = policy.act(frames[0], np.array([True, False, True]))
    modes = {token: batch.actions[0, 0, 7:10].tolist() for token, batch in found.items()}
    assert modes == {1: [0, 1, 0], 2: [0, 0, 1], 3: [1, 0, 0], 255: [1, 0, 0]}
    odd = ((0, "terminate token out of range"), (2, "terminate token out of range"))
    assert {token: batch.events for token, batch in found.items()} == {
        1: (),
        2: (),
        3: odd,
        255: odd,
    }


def test_unknown_instruction_is_refused_with_the_nearest(
    network: RT1Network, table: InstructionTable
):
    policy = RT1Policy(network, STANDIN_SAWYER, table, "tiny")
    with pytest.raises(ValueError, match="did you mean 'open the drawer'"):
        policy.reset(["open the drawers"], seeds=[0])


def test_frames_of_another_size_are_refused(network: RT1Network, table: InstructionTable):
    policy = RT1Policy(network, STANDIN_SAWYER, table, "tiny")
    policy.reset(["open the drawer"], seeds=[0])
    with pytest.raises(ValueError, match=r"expected uint8 frames of shape \(1, 64, 64, 3\)"):
        policy.act(np.zeros((1, 96, 96, 3), np.uint8), ON)


@pytest.fixture
def checkpoint(tmp_path: Path, network: RT1Network, table: InstructionTable) -> Path:
    path = tmp_path / "mine.safetensors"
    network.half().float()  # what half precision keeps
    save_rt1(path, network, STANDIN_SAWYER, table, {"step": 7})
    return path


def test_checkpoint_round_trip(
    checkpoint: Path, network: RT1Network, table: InstructionTable, frames: np.ndarray
):
    loaded = load_rt1(checkpoint, STANDIN_SAWYER)
    _, card = load_checkpoint(checkpoint)
    assert (loaded.meta.name, loaded.meta.fingerprint) == ("mine", card["sha256"])
    assert card["step"] == 7
    original = RT1Policy(network, STANDIN_SAWYER, table, "original")
    assert (roll(loaded, frames) == roll(original, frames)).all()


def test_checkpoint_of_another_robot_is_refused(checkpoint: Path):
    with pytest.raises(ValueError, match="expected a policy for robot 'google_robot'"):
        load_rt1(checkpoint, GOOGLE_ROBOT)


def test_weights_that_do_not_fit_their_card_are_refused(checkpoint: Path):
    tensors, card = load_checkpoint(checkpoint)
    save_checkpoint(checkpoint, tensors, {**card, "network": {**card["network"], "token_size": 32}})
    with pytest.raises(ValueError, match="expected the weights of the network on the card"):
        load_rt1(checkpoint, STANDIN_SAWYER)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"history": 10**9}, "history <= 256"),
        ({"layers": 10**9}, "layers <= 256"),
        ({"width": -1}, "width >= 1"),
        ({"width": "wide"}, "cannot set width"),
        ({"channels": []}, "one entry per stage"),
        ({"strides": [2, 9]}, r"strides\[1\] <= 2"),
        ({"width": 16_384, "layers": 256}, r"expected network on the card|of shape|missing"),
    ],
)
def test_sizes_on_the_card_that_cannot_be_meant_are_refused(
    checkpoint: Path, changes: dict, message: str
):
    tensors, card = load_checkpoint(checkpoint)
    save_checkpoint(checkpoint, tensors, {**card, "network": {**card["network"], **changes}})
    with pytest.raises(ValueError, match=message) as raised:
        load_rt1(checkpoint, STANDIN_SAWYER)
    assert checkpoint.stem in str(raised.value)


@pytest.mark.parametrize("missing", ["instructions", "network"])
def test_a_card_that_lacks_a_part_is_refused(checkpoint: Path, missing: str):
    tensors, card = load_checkpoint(checkpoint)
    without = {name: value for name, value in card.items() if name != missing}
    for spoiled in (without, {**card, missing: None}, {**card, missing: 7}):
        save_checkpoint(checkpoint, tensors, spoiled)
        with pytest.raises(ValueError, match=f"{missing}|{checkpoint.stem}"):
            load_rt1(checkpoint, STANDIN_SAWYER)


def test_a_policy_in_a_hubs_cache_is_found_by_the_name_of_its_link(
    checkpoint: Path, tmp_path: Path
):
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for file in (checkpoint, checkpoint.with_suffix(".json")):
        blob = file.rename(blobs / file.suffix.removeprefix("."))  # a name without an ending
        file.symlink_to(blob)
    assert load_rt1(checkpoint, STANDIN_SAWYER).meta.name == checkpoint.stem


def test_weights_that_are_not_finite_are_refused(checkpoint: Path):
    tensors, card = load_checkpoint(checkpoint)
    tensors["network.read_out.bias"][3] = torch.nan
    save_checkpoint(checkpoint, tensors, card)
    with pytest.raises(ValueError, match=r"infinite in 'network\.read_out\.bias'"):
        load_rt1(checkpoint, STANDIN_SAWYER)


def test_checkpoint_of_another_kind_is_refused(checkpoint: Path):
    tensors, card = load_checkpoint(checkpoint)
    save_checkpoint(checkpoint, tensors, {**card, "kind": "judge"})
    with pytest.raises(ValueError, match="expected a rt1 checkpoint"):
        load_rt1(checkpoint, STANDIN_SAWYER)


def test_a_checkpoint_of_the_earlier_architecture_is_refused(checkpoint: Path):
    tensors, card = load_checkpoint(checkpoint)
    earlier = {"image_size": [64, 64], "blocks": [0, 1, 2], "groups": 8}
    save_checkpoint(checkpoint, tensors, {**card, "network": earlier})
    with pytest.raises(ValueError, match=r"found \['blocks', 'groups'\].*train it again"):
        load_rt1(checkpoint, STANDIN_SAWYER)


def test_policies_from_one_file_share_their_weights(checkpoint: Path, network: RT1Network):
    one, two = load_rt1(checkpoint, STANDIN_SAWYER), load_rt1(checkpoint, STANDIN_SAWYER)
    assert one.token_history.network is two.token_history.network
    assert one.token_history.tokens is not two.token_history.tokens
    tensors, card = load_checkpoint(checkpoint)
    tensors["network.read_out.bias"] += 1
    save_checkpoint(checkpoint, tensors, card)
    assert (
        load_rt1(checkpoint, STANDIN_SAWYER).token_history.network is not one.token_history.network
    )


def test_another_table_takes_the_place_of_the_checkpoints(checkpoint: Path):
    policy = load_rt1(checkpoint, STANDIN_SAWYER, table=make_table(["Pick the can."], 8))
    policy.reset(["pick the can"], seeds=[0])
    with pytest.raises(ValueError, match="expected one of the 1 instructions"):
        policy.reset(["open the drawer"], seeds=[0])
    with pytest.raises(ValueError, match="expected instruction vectors of 8 values"):
        load_rt1(checkpoint, STANDIN_SAWYER, table=make_table(["pick the can"], 16))


def test_a_device_that_is_not_there_is_refused(checkpoint: Path):
    with pytest.raises(ValueError, match="expected a device that PyTorch can use here"):
        load_rt1(checkpoint, STANDIN_SAWYER, device="cuda:99")


def test_weights_can_be_stored_in_full(
    tmp_path: Path, network: RT1Network, table: InstructionTable
):
    path = tmp_path / "full.safetensors"
    save_rt1(path, network, STANDIN_SAWYER, table, {}, dtype=torch.float32)
    loaded = load_rt1(path, STANDIN_SAWYER).token_history.network.state_dict()
    for name, value in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(loaded[name], value), name

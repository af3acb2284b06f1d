"""Windows of recorded episodes and of RLDS data sets."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.rlds_folders import fractal_episode, write_rlds
from v2w_gym.configs.robots import FRACTAL13, GOOGLE_ROBOT, STANDIN_SAWYER
from v2w_gym.configs.sources import FRACTAL
from v2w_gym.policies.embeddings import EMBEDDING, Harvest
from v2w_gym.policies.instructions import embed, make_table
from v2w_gym.policies.rt1.demonstrations import (
    Demonstration,
    Demonstrations,
    join,
    known_instructions,
    read_demonstrations,
    sample_windows,
)
from v2w_gym.policies.rt1.tokenizer import ActionTokenizer
from v2w_gym.world_models.data.labelled import load_labelled

TOKENIZER = ActionTokenizer(STANDIN_SAWYER)
GOOGLE = ActionTokenizer(GOOGLE_ROBOT)
TWO = make_table(["a", "b"], 8)
UP, DOWN = np.eye(512, dtype=np.float32)[:2]


@pytest.fixture
def recorded(episodes: Path) -> list[Demonstration]:
    return read_demonstrations([str(episodes)], STANDIN_SAWYER, TOKENIZER, None)


@pytest.fixture
def data(recorded: list[Demonstration]) -> Demonstrations:
    return join(recorded, make_table(["close the drawer", "open the drawer"], 8))


@pytest.fixture
def written() -> list[dict]:
    return [
        fractal_episode(9, "Pick coke can.", UP, 0),
        fractal_episode(1, "pick coke can", UP, 1),
        fractal_episode(4, "close drawer", DOWN, 2),
    ]


@pytest.fixture
def fractal(tmp_path: Path, written: list[dict]) -> str:
    return str(write_rlds(tmp_path / "0.1.0", [written[:2], written[2:]]))


@pytest.fixture
def found() -> Harvest:
    return Harvest(FRACTAL.instruction, EMBEDDING, 1e-5)


def tokens_of(written: dict) -> np.ndarray:
    actions = [written[f"steps/action/{f.name}"] for f in GOOGLE_ROBOT.fields]
    return GOOGLE.encode(np.concatenate(actions, axis=1).astype(np.float32))


def test_labels_are_the_experts_actions_at_every_frame_but_the_last(
    data: Demonstrations, episodes: Path
):
    assert data.starts.tolist() == [0, 8, 11]
    long, short = data.frames
    assert long(np.arange(8))[:, 0, 0, 0].tolist() == [*range(8)]
    assert short(np.arange(3))[:, 0, 0, 0].tolist() == [100, 101, 102]
    expert = load_labelled(episodes / "episode_0.npz").expert_actions
    assert (data.tokens[:8] == TOKENIZER.encode(expert)).all()
    assert data.instruction_rows.tolist() == [0] * 8 + [1] * 3


def test_windows_are_histories_of_a_deployed_policy(data: Demonstrations):
    windows = sample_windows(data, 2000, 6, np.random.default_rng(0))
    distinct = {
        tuple(pixel for pixel, real in zip(pixels, mask, strict=True) if real)
        for pixels, mask in zip(
            windows.frames[:, :, 0, 0, 0].tolist(), windows.mask.tolist(), strict=True
        )
    }
    assert distinct == {
        (0, 1, 2, 3, 4, 5),
        (1, 2, 3, 4, 5, 6),
        (2, 3, 4, 5, 6, 7),
        (100, 101, 102),  # padded at the end
    }
    starts_with_the_episode = (windows.frames[:, 0, 0, 0, 0] == 0).float().mean().item()
    assert starts_with_the_episode == pytest.approx(6 / 11, abs=0.05)  # 6 of 11 steps


def test_a_short_episode_is_padded_behind_its_end_and_masked_there(data: Demonstrations):
    windows = sample_windows(data, 50, 6, np.random.default_rng(0))
    short = windows.frames[:, 0, 0, 0, 0] >= 100
    assert short.any()
    assert (windows.mask[short] == torch.tensor([True] * 3 + [False] * 3)).all()
    assert windows.mask[~short].all()


def test_tokens_and_instructions_follow_their_frames(data: Demonstrations):
    windows = sample_windows(data, 50, 6, np.random.default_rng(0))
    pixels = [*range(8), 100, 101, 102]
    by_pixel = dict(zip(pixels, data.tokens.tolist(), strict=True))
    found = windows.frames[:, :, 0, 0, 0]
    assert windows.tokens.tolist() == [[by_pixel[p] for p in row] for row in found.tolist()]
    for row, vector in zip(found, windows.instructions, strict=True):
        text = "open the drawer" if row[0] >= 100 else "close the drawer"
        assert vector.numpy().tolist() == embed(text, 8).tolist()


def test_every_step_is_drawn_equally_often_and_an_episode_without_steps_never():
    def episode(steps: int, name: str) -> Demonstration:
        frames = np.full((steps, 1, 1, 3), steps, np.uint8)
        return Demonstration(frames.__getitem__, np.zeros((steps, 11), np.int16), [name] * steps)

    joined = join([episode(0, "a"), episode(1, "a"), episode(0, "a"), episode(3, "b")], TWO)
    drawn = sample_windows(joined, 4000, 1, np.random.default_rng(0)).frames[:, 0, 0, 0, 0]
    assert sorted(set(drawn.tolist())) == [1, 3]
    assert (drawn == 3).float().mean().item() == pytest.approx(3 / 4, abs=0.03)


def test_nothing_to_train_on_is_an_error():
    empty = Demonstration(np.zeros((0, 1, 1, 3), np.uint8).__getitem__, np.zeros((0, 11)), [])
    with pytest.raises(ValueError, match="expected episodes with at least one action, found none"):
        join([empty], TWO)


def test_episodes_of_another_robot_are_refused(episodes: Path):
    with pytest.raises(ValueError, match="expected robot 'google_robot'"):
        read_demonstrations([str(episodes)], GOOGLE_ROBOT, GOOGLE, None)


def test_rlds_steps_are_all_but_the_last(fractal: str, written: list[dict], found: Harvest):
    episodes = read_demonstrations([fractal], GOOGLE_ROBOT, GOOGLE, found)
    assert [len(episode.tokens) for episode in episodes] == [8, 0, 3]
    for episode, source in zip(episodes, written, strict=True):
        assert (episode.tokens == tokens_of(source)[:-1]).all()
    steps = np.array([2, 5, 5])
    wanted = written[0]["steps/observation/image"][steps]
    assert (episodes[0].frames(steps) == wanted).all()


def test_an_ending_that_says_nothing_is_learned_as_going_on(tmp_path: Path):
    episode = fractal_episode(4, "pick coke can", UP)
    episode["steps/action/terminate_episode"] = np.array(
        [[0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 0]], np.int32
    )
    folder = write_rlds(tmp_path / "0.1.0", [[episode]])
    (read,) = read_demonstrations([str(folder)], GOOGLE_ROBOT, GOOGLE, None)
    assert read.tokens[:, 0].tolist() == [1, 1, 2]


def test_an_rlds_step_that_is_not_marked_as_the_last_counts(tmp_path: Path):
    cut = fractal_episode(3, "pick coke can", UP) | {"steps/is_last": np.zeros(3, bool)}
    folder = write_rlds(tmp_path / "0.1.0", [[cut]])
    (episode,) = read_demonstrations([str(folder)], GOOGLE_ROBOT, GOOGLE, None)
    assert len(episode.tokens) == 3


def test_the_ending_is_learned_from_what_was_done_and_never_from_padding(tmp_path: Path):
    episode = fractal_episode(4, "pick coke can", UP)
    episode["steps/action/terminate_episode"] = np.eye(3, dtype=np.int32)[[1, 1, 2, 0]]
    folder = write_rlds(tmp_path / "0.1.0", [[episode]])
    read = read_demonstrations([str(folder)], GOOGLE_ROBOT, GOOGLE, None)
    windows = sample_windows(
        join(read, make_table(["pick coke can"], 8)), 20, 6, np.random.default_rng(0)
    )
    counted = windows.tokens[..., 0][windows.mask]
    assert counted.reshape(20, 3).tolist() == [[1, 1, 2]] * 20


def test_what_rlds_actions_lack_is_clipped_counted_and_never_an_ending(tmp_path: Path, caplog):
    episode = fractal_episode(4, "pick coke can", UP)
    for name, size in FRACTAL13.fields:
        episode[f"steps/action/{name}"] = np.zeros((4, size), np.float32)
    episode["steps/action/world_vector"][1, 2] = 22.09
    ends = np.array([[0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 0]], np.int32)
    episode["steps/action/terminate_episode"] = ends
    folder = write_rlds(tmp_path / "0.1.0", [[episode]])
    (read,) = read_demonstrations([str(folder)], GOOGLE_ROBOT, GOOGLE, None)
    assert read.tokens[:, 0].tolist() == [1, 1, 1]
    assert read.tokens[:, 3].tolist() == [127, 255, 127]  # the third value of world_vector
    assert "1 of 39 values in 1 of 1 episodes were beyond" in caplog.text
    assert "world_vector[2] = 22.09" in caplog.text and "2 actions in 1 of 1" in caplog.text


def test_only_episodes_of_one_step_are_one_clear_line(tmp_path: Path, found: Harvest):
    folder = write_rlds(tmp_path / "0.1.0", [[fractal_episode(1, "pick coke can", UP)] * 2])
    with pytest.raises(ValueError, match="expected episodes with at least one action, found none"):
        read_demonstrations([str(folder)], GOOGLE_ROBOT, GOOGLE, found)


@pytest.mark.parametrize("name", ["12:30 #1=a", "with: colon", "new\nline", "фрактал"])
def test_any_folder_name_will_do_with_and_without_a_split(tmp_path: Path, name: str):
    folder = write_rlds(tmp_path / name / "0.1.0", [[fractal_episode(3, "pick coke can", UP)]])
    for split in ("", ":train", ":train[:1shard]"):
        assert len(read_demonstrations([f"{folder}{split}"], GOOGLE_ROBOT, GOOGLE, None)) == 1


def test_recordings_without_instruction_are_no_demonstrations(tmp_path: Path):
    actions = np.tile(STANDIN_SAWYER.make_action(), (2, 1))
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    np.savez(tmp_path / "train_eps_00000000.npz", image=frames, action=actions)
    with pytest.raises(ValueError, match="train_eps_00000000.npz, found .*without instruction"):
        read_demonstrations([str(tmp_path)], STANDIN_SAWYER, TOKENIZER, None)


def test_rlds_windows_hold_the_stored_embedding(fractal: str, found: Harvest):
    episodes = read_demonstrations([fractal], GOOGLE_ROBOT, GOOGLE, found)
    table = known_instructions(episodes, found, 512)
    assert table.texts == ("close drawer", "pick coke can")
    windows = sample_windows(join(episodes, table), 40, 6, np.random.default_rng(0))
    assert windows.frames.shape == (40, 6, 256, 320, 3)
    short = ~windows.mask.all(1)
    assert short.any() and not short.all()
    assert (
        windows.instructions.argmax(1).tolist() == short.long().tolist()
    )  # DOWN in the short episode


def test_a_split_follows_a_colon(fractal: str):
    second = f"{fractal}:train[1shard:]"
    (episode,) = read_demonstrations([second], GOOGLE_ROBOT, GOOGLE, None)
    assert episode.instructions == ["close drawer"] * 3


@pytest.mark.parametrize(("name", "message"), [("nowhere", "npz"), ("nowhere:train", "features")])
def test_a_folder_that_is_not_there_is_named(name: str, message: str):
    with pytest.raises(FileNotFoundError, match=f"expected .*({message}|dataset_info).* nowhere"):
        read_demonstrations([name], GOOGLE_ROBOT, GOOGLE, None)


def test_a_data_set_of_another_robot_is_refused(tmp_path: Path):
    episode = fractal_episode(3, "pick coke can", UP)
    folder = write_rlds(tmp_path / "0.1.0", [[episode]], name="jaco_play")
    with pytest.raises(ValueError, match="fields of robot 'google_robot' .*found world_vector, gr"):
        read_demonstrations([str(folder)], GOOGLE_ROBOT, GOOGLE, None)


def test_an_episode_without_an_instruction_is_left_out_and_counted(
    tmp_path: Path, found: Harvest, caplog: pytest.LogCaptureFixture
):
    named, unnamed = fractal_episode(3, "close drawer", DOWN), fractal_episode(4, " .", UP)
    folder = write_rlds(tmp_path / "0.1.0", [[unnamed, named]])
    with caplog.at_level(logging.WARNING):
        (episode,) = read_demonstrations([str(folder)], GOOGLE_ROBOT, GOOGLE, found)
    assert len(episode.tokens) == 2
    assert (episode.frames(np.arange(3)) == named["steps/observation/image"]).all()
    assert "1 of 2 episodes lack an instruction" in caplog.text


def test_two_embeddings_of_one_instruction_are_refused(tmp_path: Path, found: Harvest):
    both = [fractal_episode(3, "close drawer", vector) for vector in (UP, DOWN)]
    folder = write_rlds(tmp_path / "0.1.0", [both])
    with pytest.raises(ValueError, match="expected one embedding for 'close drawer'"):
        read_demonstrations([str(folder)], GOOGLE_ROBOT, GOOGLE, found)


def test_actions_that_are_not_finite_are_refused(tmp_path: Path):
    bad = fractal_episode(3, "close drawer", UP)
    bad["steps/action/world_vector"][1, 2] = np.nan
    folder = write_rlds(tmp_path / "0.1.0", [[bad]])
    with pytest.raises(ValueError, match="expected finite actions in record 0 of .*, found NaN"):
        read_demonstrations([str(folder)], GOOGLE_ROBOT, GOOGLE, None)


def test_instructions_without_an_embedding_get_different_vectors(
    recorded: list[Demonstration], found: Harvest
):
    table = known_instructions(recorded, found, 8)
    assert table.texts == ("close the drawer", "open the drawer")
    assert table.vectors.tolist() == make_table(table.texts, 8).vectors.tolist()

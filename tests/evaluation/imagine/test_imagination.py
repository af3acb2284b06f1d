"""Rollouts and action control in worlds simple enough to predict by hand."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from v2w_gym.configs.evaluate import ActionControlConfig, RolloutConfig
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.env import Vid2WorldEnv
from v2w_gym.evaluation.imagine.imagination import (
    headline,
    pixel_differences,
    run_action_control,
    run_rollout,
)
from v2w_gym.evaluation.imagine.scenes import load_context
from v2w_gym.evaluation.imagine.stepwise import Planned, imagine_stepwise
from v2w_gym.evaluation.records.video import read_video
from v2w_gym.interface import RolloutKey
from v2w_gym.policies.loading import make_policy
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.world_models.copy_last import CopyLast
from v2w_gym.world_models.data.decoding.array_frames import ArrayFrames
from v2w_gym.world_models.data.labelled import LabelledEpisode, save_labelled
from v2w_gym.world_models.data.starts.files import Start, StartFile, save_starts
from v2w_gym.world_models.frames import to_tensor, to_uint8
from v2w_gym.world_models.run_folder import hold_folder

X = STANDIN_SAWYER.slices["world_vector"].start
BRIGHTENING = 10 * (2 / 255) / 0.05
"""A world here gets 10 grey levels brighter when the hand moves 0.05 m along x."""


class Brightening(CopyLast):
    """Each frame is the last one, brightened by what the action moves along x."""

    def step(self, state, actions, noise):
        frame = state.latents[:, -1] + self.change(actions)
        return state.followed(frame, torch.from_numpy(actions))

    def imagine_clip(self, frames, actions, noise):
        change = np.pad(self.change(actions), ((0, 0), (1, 0)))  # (B, T)
        return to_uint8(
            to_tensor(frames)[:, None] + torch.from_numpy(change.cumsum(1))[..., None, None, None]
        )

    def change(self, actions):
        brighter = BRIGHTENING * actions[..., X]
        return torch.from_numpy(brighter)[:, None, None, None] if brighter.ndim == 1 else brighter


class Noisy(CopyLast):
    """A frame depends on the whole history, on the action and on its own noise."""

    def __init__(self, stop_before=None):
        super().__init__(STANDIN_SAWYER, window=4, context_frames=2)
        self.steps_left = stop_before

    def step(self, state, actions, noise):
        if self.steps_left == 0:
            raise InterruptedError
        self.steps_left = self.steps_left and self.steps_left - 1
        moved = torch.from_numpy(4 * actions[:, X : X + 3])[:, :, None, None]
        mean = state.latents.sum(1) / state.lengths[:, None, None, None]
        frame = mean + moved + 0.1 * noise.normal(0, (3, 1, 1))
        return state.followed(frame.clamp(-1, 1), torch.from_numpy(actions))


class Trained(CopyLast):
    """Its card tells what it was trained on."""

    card = {**CopyLast(STANDIN_SAWYER, window=4).card, "provenance": {"training_ids": ["day/1"]}}


def recording(path, steps=9, size=(64, 64)):
    """Save an episode that `Brightening` imagines to the pixel: up, up, down, up, up, down, ..."""
    moves = np.where(np.arange(steps + 1) % 3 == 2, -0.05, 0.05)
    grey = 100 + np.pad(10 * np.sign(moves), (1, 0)).cumsum()[: steps + 1]
    frames = np.broadcast_to(grey[:, None, None, None], (steps + 1, *size, 3)).astype(np.uint8)
    actions = np.tile(STANDIN_SAWYER.make_action(), (steps + 1, 1))
    actions[:, X] = moves
    np.savez(path, image=frames, action=actions)
    return frames


def picture(path, size=(64, 64)):
    """Save a picture with a bright right half."""
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:, size[1] // 2 :] = 200
    Image.fromarray(pixels).save(path)
    return str(path)


def rollout(output, model=None, **settings):
    cfg = RolloutConfig(output=str(output), **{"steps": 12, "hold": 3, **settings})
    found = run_rollout(cfg, model or Noisy())
    return found, load_frames(output)


def load_frames(output):
    return np.stack([np.array(Image.open(p)) for p in sorted((output / "frames").glob("*.png"))])


def outputs(folder):
    """Everything except the measured time."""
    kept = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in kept
        if p.name not in ("rollout.json", "state.pt")
    }


def test_a_rollout_leaves_frames_film_strip_actions_and_settings(tmp_path):
    found, frames = rollout(tmp_path, task="open_drawer", seed=3)
    assert frames.shape == (13, 64, 64, 3)
    film = read_video(tmp_path / "rollout.mp4")
    assert np.abs(film.astype(int) - frames).mean() < 1.5
    actions = np.load(tmp_path / "actions.npy")
    moves = STANDIN_SAWYER.moves
    assert np.array_equal(actions, [moves[name] for name in found["moves"]])
    saved = json.loads((tmp_path / "rollout.json").read_text())
    assert saved["settings"]["task"] == "open_drawer"
    assert saved["model_card"]["kind"] == "Noisy"
    assert 0 < saved["seconds_per_frame"] < 1
    assert Image.open(tmp_path / "strip.png").size > (8 * 128, 128)


def test_a_rollout_is_what_an_environment_shows(tmp_path):
    _, frames = rollout(tmp_path, start=5, task="open_drawer", seed=7)
    env = Vid2WorldEnv(Noisy(), task="open_drawer", start=5)
    expected = [env.reset(seed=7)[0]]
    expected += [env.step(action)[0] for action in np.load(tmp_path / "actions.npy")]
    assert np.array_equal(frames, expected)


@pytest.mark.parametrize(("known", "first"), [(1, 0), (2, 1)])
def test_recorded_actions_lead_where_they_led(tmp_path, known, first):
    frames = recording(tmp_path / "episode.npz")
    world = Brightening(STANDIN_SAWYER, window=4, context_frames=known)
    settings = {"start": str(tmp_path / "episode.npz"), "actions": "recorded", "steps": None}
    found, imagined = rollout(tmp_path / "run", world, **settings)
    assert np.array_equal(imagined, frames[first:])
    assert found["steps"] == 9 - first
    strip = np.array(Image.open(tmp_path / "run" / "strip.png"))
    upper, lower = strip[-264:-136, 100:], strip[-132:-4, 100:]
    assert np.array_equal(upper, lower)
    assert len(np.unique(upper[64, :, 0])) > 3


class FrameByFrame:
    """A world that cannot imagine whole clips."""

    robot, window, context_frames = STANDIN_SAWYER, 4, 1
    card, fingerprint = {}, "none"


def test_a_world_that_goes_frame_by_frame_is_refused_for_a_whole_clip(tmp_path):
    with pytest.raises(ValueError, match="mode=clip, found FrameByFrame, which goes frame by"):
        rollout(tmp_path, FrameByFrame(), mode="clip", steps=2)


def test_a_world_that_does_not_say_what_it_is_is_refused(tmp_path):
    with pytest.raises(ValueError, match="found object without card and fingerprint"):
        rollout(tmp_path, object())


def test_a_whole_clip_fills_the_window_from_the_first_frame(tmp_path):
    frames = recording(tmp_path / "episode.npz")
    world = Brightening(STANDIN_SAWYER, window=6, context_frames=3)
    settings = {"start": str(tmp_path / "episode.npz"), "actions": "recorded", "mode": "clip"}
    found, imagined = rollout(tmp_path / "run", world, steps=None, **settings)
    assert found["steps"] == 5
    assert np.array_equal(imagined, frames[:6])
    with pytest.raises(ValueError, match="expected steps from 1 to 5 for mode=clip"):
        rollout(tmp_path / "long", world, steps=6, **settings)


def test_actions_come_from_files_too(tmp_path):
    recording(tmp_path / "episode.npz")
    _, first = rollout(tmp_path / "first", actions=str(tmp_path / "episode.npz"), steps=9)
    actions = str(tmp_path / "first" / "actions.npy")
    found, second = rollout(tmp_path / "second", actions=actions, steps=None)
    assert found["steps"] == 9
    assert np.array_equal(first, second)


def test_idle_moves_nothing_and_lasts_as_long_as_the_task(tmp_path):
    found, frames = rollout(tmp_path, Brightening(STANDIN_SAWYER), actions="idle", steps=None)
    assert found["steps"] == 20
    assert (frames == frames[0]).all()
    assert np.array_equal(np.load(tmp_path / "actions.npy")[3], STANDIN_SAWYER.make_action())


def test_one_still_picture_of_another_size_is_enough_to_go_far_past_the_window(tmp_path):
    start = picture(tmp_path / "game.png", size=(90, 160))
    with pytest.raises(ValueError, match="expected uint8 frames of shape"):
        rollout(tmp_path / "run", start=start)
    assert not (tmp_path / "run").exists()
    _, frames = rollout(tmp_path / "run", start=start, fit=True, steps=40)
    assert frames.shape == (41, 64, 64, 3)
    assert frames[0, 32, [5, 58], 0].tolist() == [0, 200]
    assert not np.array_equal(frames[-1], frames[-2])


@pytest.mark.parametrize("stops", [(1,), (5, 4), (11,)])
def test_interrupted_and_resumed_is_the_same_rollout(tmp_path, stops):
    rollout(tmp_path / "whole")
    for stop in stops:
        with pytest.raises(InterruptedError):
            rollout(tmp_path / "run", Noisy(stop_before=stop))
    before = len(load_frames(tmp_path / "run"))
    assert before == 1 + sum(stops)
    _, frames = rollout(tmp_path / "run", Noisy(stop_before=12 - sum(stops)))
    assert outputs(tmp_path / "run") == outputs(tmp_path / "whole")


def test_a_rollout_goes_on_only_with_the_actions_it_was_made_with(tmp_path):
    cfg, key = RolloutConfig(output=str(tmp_path)), RolloutKey(0, 0)
    context = load_context(cfg, STANDIN_SAWYER, 2)
    actions = np.tile(STANDIN_SAWYER.make_action(), (2, 4, 1))  # of two futures
    with pytest.raises(InterruptedError):
        imagine_stepwise(tmp_path, Noisy(stop_before=3), context, Planned(actions), key)
    other = actions.copy()
    other[1, 2, X] = 0.01
    with pytest.raises(ValueError, match="in step 2 .* found others"):
        imagine_stepwise(tmp_path, Noisy(), context, Planned(other), key)
    other = actions.copy()
    other[1, 3, X] = 0.01  # not done yet
    imagine_stepwise(tmp_path, Noisy(), context, Planned(other), key)


def test_a_finished_rollout_is_not_imagined_again(tmp_path):
    found, _ = rollout(tmp_path)
    expected = outputs(tmp_path)
    (tmp_path / "strip.png").unlink()
    again, _ = rollout(tmp_path, Noisy(stop_before=0))
    assert (outputs(tmp_path), again) == (expected, found)


def test_a_damaged_state_is_refused(tmp_path):
    rollout(tmp_path)
    state = tmp_path / "state.pt"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(ValueError, match="found a damaged file.*delete it to start over"):
        rollout(tmp_path)


def test_a_folder_belongs_to_its_settings_and_to_what_the_files_hold(tmp_path):
    start = picture(tmp_path / "a.png")
    rollout(tmp_path / "run", start=start)
    for name, (kept, found) in {"hold": (3, 4), "steps": (12, 13), "seed": (0, 1)}.items():
        with pytest.raises(ValueError, match=f"another run: expected {name} {kept}, found {found}"):
            rollout(tmp_path / "run", start=start, **{name: found})
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(start)
    with pytest.raises(ValueError, match="another run: expected inputs"):
        rollout(tmp_path / "run", start=start)


def test_a_rollout_goes_on_though_its_files_were_moved(tmp_path):
    found, _ = rollout(tmp_path / "run", start=picture(tmp_path / "a.png"))
    (tmp_path / "run").rename(tmp_path / "moved")
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    again, _ = rollout(tmp_path / "moved", Noisy(stop_before=0), start=str(tmp_path / "b.png"))
    assert again["moves"] == found["moves"]


def test_two_processes_do_not_share_a_folder(tmp_path):
    held = hold_folder(tmp_path / "run")
    with (
        held,
        pytest.raises(BlockingIOError, match="expected to run alone in .*run, found process"),
    ):
        rollout(tmp_path / "run")
    rollout(tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "clips"}, "did you mean 'clip'"),
        ({"actions": "hold"}, "did you mean 'held'"),
        ({"actions": "recorded"}, "expected a recording that holds actions, found 0"),
        ({"moves": ["+x"]}, "expected move of robot 'standin_sawyer' to be one of"),
        ({"task": "opendrawer"}, "did you mean 'open_drawer'"),
        ({"steps": 0}, "expected steps >= 1, found 0"),
        ({"hold": 0}, "expected hold >= 1, found 0"),
        ({"moves": []}, "expected at least one move"),
        ({"start": 1000}, "expected start to be a file or the number"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        rollout(tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_more_steps_than_actions_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.tile(STANDIN_SAWYER.make_action(), (4, 1)))
    with pytest.raises(ValueError, match="expected steps from 1 to 4 .* found 5"):
        rollout(tmp_path / "run", actions=str(tmp_path / "a.npy"), steps=5)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mode", ["autoregressive", "clip"])
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_recorded_actions_out_of_bounds_are_clipped_and_counted(tmp_path, caplog, kind, mode):
    actions = np.tile(STANDIN_SAWYER.make_action(), (4, 1))
    actions[1, X], actions[3, X + 1] = 1, -0.06
    actions[2, STANDIN_SAWYER.slices["terminate_episode"]] = 0
    path = tmp_path / f"given.{kind}"
    if kind == "npy":
        np.save(path, actions)
    else:
        np.savez(path, image=np.zeros((5, 64, 64, 3), np.uint8), action=[*actions, actions[0]])
    world = Brightening(STANDIN_SAWYER, window=6)
    settings = {"actions": str(path)}
    if kind == "npz":
        settings = {"actions": "recorded", "start": str(path)}
    found, _ = rollout(tmp_path / "run", world, steps=4, mode=mode, **settings)
    taken = np.load(tmp_path / "run" / "actions.npy")
    assert np.array_equal(taken, STANDIN_SAWYER.clip_actions(actions).actions)
    noted = found["recorded_actions"]
    assert (noted["values"], noted["clipped"], noted["clipped_episodes"]) == (52, 2, 1)
    assert noted["not_one_hot"] == 1
    assert "2 of 52 values in 1 of 1 episodes were beyond" in caplog.text
    assert "world_vector[0] = 1)" in caplog.text and "1 actions in 1 of 1" in caplog.text


def test_recorded_actions_in_other_units_are_refused(tmp_path):
    actions = np.tile(STANDIN_SAWYER.make_action(world_vector=30), (9, 1))  # millimetres
    np.save(tmp_path / "a.npy", actions)
    with pytest.raises(ValueError, match=r"a.npy do not fit: .*found 30 in row 0, and 9 of 9"):
        rollout(tmp_path / "run", actions=str(tmp_path / "a.npy"), steps=9)
    assert not (tmp_path / "run").exists()


def control(output, model, **settings):
    cfg = ActionControlConfig(output=str(output), **{"steps": 3, **settings})
    return run_action_control(cfg, model)


def test_moves_lead_apart_by_as_much_as_they_change(tmp_path):
    """After t of 3 steps +X is 10 t brighter than rest and -X 10 t darker: 20, 40, 60 apart."""
    start = tmp_path / "grey.png"
    Image.fromarray(np.full((64, 64, 3), 100, np.uint8)).save(start)
    found = control(tmp_path / "run", Brightening(STANDIN_SAWYER), start=str(start))
    difference = found["difference"]
    assert difference["+X"] == {"+X": 0, "-X": 40, "+Y": 20, "-Y": 20, "+Z": 20, "-Z": 20}
    assert difference["+Y"]["-Z"] == 0
    assert json.loads((tmp_path / "run" / "action_control.json").read_text()) == found
    assert headline(difference).startswith("Moves differ by 13.3 of 255 grey levels on average, ")
    assert "+Y and -Y by only 0.0" in headline(difference)


def test_each_row_is_the_rollout_of_its_move_alone(tmp_path):
    control(tmp_path / "all", Noisy(), seed=2, task="open_drawer")
    pictures = load_frames(tmp_path / "all")
    assert pictures.shape == (4, 6 * 64, 64, 3)
    for row, move in enumerate(STANDIN_SAWYER.moves):
        settings = {"seed": 2, "task": "open_drawer", "moves": [move], "steps": 3}
        _, alone = rollout(tmp_path / move, **settings)
        assert np.array_equal(pictures[:, 64 * row : 64 * (row + 1)], alone)


def test_one_picture_and_one_film_show_all_moves(tmp_path):
    control(tmp_path, Noisy())
    film = read_video(tmp_path / "action_control.mp4")
    assert len(film) == 4
    width, height = Image.open(tmp_path / "action_control.png").size
    assert width > 4 * 128
    assert height > 6 * 128


def test_a_world_that_ignores_actions_shows_no_difference(tmp_path):
    difference = control(tmp_path, CopyLast(STANDIN_SAWYER))["difference"]
    assert {value for row in difference.values() for value in row.values()} == {0.0}


def test_interrupted_action_control_resumes(tmp_path):
    control(tmp_path / "whole", Noisy())
    with pytest.raises(InterruptedError):
        control(tmp_path / "run", Noisy(stop_before=2))
    control(tmp_path / "run", Noisy(stop_before=1))
    names = ("action_control.png", "action_control.mp4")
    runs = [[(tmp_path / run / name).read_bytes() for name in names] for run in ("run", "whole")]
    assert runs[0] == runs[1]


def test_differences_ignore_the_frame_all_share():
    videos = np.zeros((2, 3, 1, 1, 3), np.uint8)
    videos[1, 1], videos[1, 2], videos[:, 0] = 10, 250, 77
    assert pixel_differences(videos, ["a", "b"])["a"] == {"a": 0.0, "b": 130.0}


def test_a_policy_acts_on_what_is_imagined(tmp_path):
    found, frames = rollout(tmp_path, policy="rt1-converged", task="open_drawer", steps=4)
    actions = np.load(tmp_path / "actions.npy")
    policy = make_policy("rt1-converged", STANDIN_SAWYER)
    policy.reset(["open the drawer"], seeds=[0])
    expected = [policy.act(frame[None], np.ones(1, bool))[0] for frame in frames[:-1]]
    assert np.array_equal(actions, expected)
    assert (found["steps"], len(frames), found["events"]) == (4, 5, {})


def test_an_interrupted_policy_goes_on_as_if_it_had_not_been(tmp_path):
    settings = {"policy": "rt1-converged", "instruction": "open the drawer", "steps": 6}
    rollout(tmp_path / "whole", **settings)
    with pytest.raises(InterruptedError):
        rollout(tmp_path / "cut", Noisy(stop_before=3), **settings)
    rollout(tmp_path / "cut", **settings)
    assert outputs(tmp_path / "cut") == outputs(tmp_path / "whole")


def test_a_folder_belongs_to_how_the_policy_drives(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("source: rt1-15\n")
    settings = {"policy": str(file), "task": "open_drawer", "steps": 2}
    rollout(tmp_path / "run", **settings)
    file.write_text("source: rt1-15\ndriver: {scale: 0.5}\n")
    with pytest.raises(ValueError, match="another run: expected inputs"):
        rollout(tmp_path / "run", **settings)


def starts_saying(path, instruction):
    """Save a start file with one start; return its name for `start=`."""
    frames = np.full((1, 64, 64, 3), 90, np.uint8)
    start = Start("day/1", frames, np.zeros((0, 13), np.float32), instruction=instruction)
    save_starts(path, StartFile([start], STANDIN_SAWYER.name, "", "a robot"))
    return f"{path}#day/1"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "open the drawer"),
        ({"task": "close_drawer"}, "close the drawer"),
        ({"task": "open_drawer", "instruction": "close the drawer"}, "close the drawer"),
        ({"instruction": "close the drawer"}, "close the drawer"),
    ],
)
def test_a_start_tells_the_policy_what_to_do_if_nobody_else_does(
    tmp_path, monkeypatch, settings, told
):
    start = starts_saying(tmp_path / "some.npz", "open the drawer")
    heard, reset = [], RobotPolicy.reset
    monkeypatch.setattr(
        RobotPolicy,
        "reset",
        lambda self, said, **more: heard.append(said) or reset(self, said, **more),
    )
    found, _ = rollout(tmp_path / "run", policy="zero", steps=1, start=start, **settings)
    assert heard == [[told]] and found["instruction"] == told


def test_a_folder_belongs_to_the_instruction_of_its_start(tmp_path):
    start = starts_saying(tmp_path / "some.npz", "open the drawer")
    settings = {"policy": "zero", "steps": 1, "start": start}
    rollout(tmp_path / "run", **settings)
    starts_saying(tmp_path / "some.npz", "close the drawer")
    with pytest.raises(ValueError, match="another run: expected inputs"):
        rollout(tmp_path / "run", **settings)


def test_a_start_that_the_model_was_trained_on_is_warned_of(tmp_path, caplog):
    start = starts_saying(tmp_path / "some.npz", None)
    rollout(tmp_path / "new", CopyLast(STANDIN_SAWYER, window=4), start=start, steps=1)
    assert "trained on" not in caplog.text
    rollout(tmp_path / "known", Trained(STANDIN_SAWYER, window=4), start=start, steps=1)
    assert "trained on the episodes of 1 of 1 starts, such as 'day/1'" in caplog.text


def test_a_rollout_ends_when_the_policy_ends_it(tmp_path):
    recording(tmp_path / "ending.npz")
    with np.load(tmp_path / "ending.npz") as file:
        actions, frames = file["action"], file["image"]
    actions[2, STANDIN_SAWYER.slices["terminate_episode"]] = [1, 0, 0]
    episode = LabelledEpisode(
        frames=frames,
        actions=actions[:-1],
        expert_actions=actions[:-1],
        success=np.zeros(len(frames), bool),
        robot=STANDIN_SAWYER.name,
        task="open_drawer",
        instruction="open the drawer",
        behaviour="by hand",
        seed=0,
    )
    save_labelled(tmp_path / "episode.npz", episode)
    found, frames = rollout(tmp_path / "run", policy=str(tmp_path / "episode.npz"))
    assert (found["steps"], len(frames)) == (3, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "rt1-convergd"}, "did you mean 'rt1-converged'"),
        ({"policy": "zero", "mode": "clip", "steps": 2}, "expected mode=autoregressive"),
        ({"policy": "zero", "steps": 0}, "expected steps >= 1, found 0"),
        ({"policy": "rt1-15", "instruction": "open the fridge"}, "open the drawer"),
    ],
)
def test_a_policy_that_cannot_act_is_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        rollout(tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_an_error_is_printed_last(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(RobotPolicy, "act", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        rollout(tmp_path / "run", policy="zero", task="open_drawer", steps=2)
    assert "0/2" in capsys.readouterr().err
    del caught
    assert not capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_damaged_frame_of_an_interrupted_rollout_is_named(tmp_path, content):
    with pytest.raises(InterruptedError):
        rollout(tmp_path / "run", Noisy(stop_before=3))
    (tmp_path / "run" / "frames" / "00002.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"frames at .*00002\.png, found .*output="):
        rollout(tmp_path / "run", Noisy())


def test_start_and_actions_may_be_episodes_of_many(tmp_path):
    (tmp_path / "many").mkdir()
    recording(tmp_path / "many" / "train_eps_00000000.npz", steps=3)
    recording(tmp_path / "many" / "train_eps_00000001.npz", steps=5)
    many = {"start": f"{tmp_path / 'many'}#0", "actions": f"{tmp_path / 'many'}#train_eps_00000001"}
    found, _ = rollout(tmp_path / "run", Brightening(STANDIN_SAWYER), steps=None, **many)
    assert found["steps"] == 5
    with pytest.raises(ValueError, match="from 0 to 1 of .*many, found 2"):
        rollout(tmp_path / "other", Brightening(STANDIN_SAWYER), start=f"{tmp_path / 'many'}#2")


def test_only_what_is_used_of_a_recording_is_read(tmp_path, monkeypatch):
    recording(tmp_path / "episode.npz", steps=40)
    asked, known = [], ArrayFrames.__getitem__
    monkeypatch.setattr(
        ArrayFrames,
        "__getitem__",
        lambda frames, steps: asked.append(steps) or known(frames, steps),
    )
    start = {"start": str(tmp_path / "episode.npz"), "actions": "recorded"}
    found, _ = rollout(tmp_path / "some", Brightening(STANDIN_SAWYER), steps=5, **start)
    assert (found["steps"], asked) == (5, [slice(1), slice(0, 6)])
    asked.clear()
    found, _ = rollout(tmp_path / "all", Brightening(STANDIN_SAWYER), steps=None, **start)
    assert (found["steps"], asked) == (40, [slice(0, None)])

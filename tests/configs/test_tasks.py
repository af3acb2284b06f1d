"""The tasks of each robot."""

import gymnasium as gym
import pytest

from v2w_gym import registration
from v2w_gym.configs.robots import ROBOTS
from v2w_gym.configs.tasks import TASKS, find_task, tasks_of
from v2w_gym.registration import DOMAINS
from v2w_gym.standin.drawer import DRAWER_TASKS, margin


def test_every_robot_has_tasks_and_every_task_known_robots():
    assert all(tasks_of(robot) for robot in ROBOTS)
    assert {robot for task in TASKS.values() for robot in task.robots} == set(ROBOTS)


def test_the_simulator_knows_every_task_of_the_stand_in():
    assert set(DRAWER_TASKS) == set(tasks_of("standin_sawyer"))
    assert {task.opposite for task in DRAWER_TASKS.values()} <= set(DRAWER_TASKS)


def test_openings_are_measured_from_the_nearest_threshold():
    assert [round(margin(opening, "close_drawer"), 3) for opening in (0.0, 0.04)] == [0.03, -0.01]
    assert [round(margin(opening, "open_drawer"), 3) for opening in (0.1, 0.15)] == [-0.02, 0.03]
    with pytest.raises(ValueError, match="did you mean 'open_drawer'"):
        margin(0.1, "open_drawr")


def test_the_robots_of_an_environment_share_their_tasks():
    assert {robot for robots in DOMAINS.values() for robot in robots} == set(ROBOTS)
    for name, robots in DOMAINS.items():
        assert len({tuple(tasks_of(robot)) for robot in robots}) == 1
        horizons = {task.horizon for task in tasks_of(robots[0]).values()}
        assert gym.spec(name).max_episode_steps == max(horizons)


def test_a_robot_without_a_task_is_named(monkeypatch):
    monkeypatch.setattr(registration, "DOMAINS", {"Vid2World-New-v0": ["new_robot"]})
    with pytest.raises(ValueError, match="robot 'new_robot' .*add a task for Vid2World-New"):
        registration.register_environments()


def test_a_task_is_found_for_its_robots():
    assert find_task("play", "csgo_player").horizon == 100
    assert find_task("drive", "recon_jackal").horizon == 16
    assert find_task("open_drawer", "google_robot") is find_task("open_drawer", "standin_sawyer")


def test_a_task_of_another_robot_is_refused():
    with pytest.raises(
        ValueError, match=r"one of \['play'\] for robot 'csgo_player', found 'drive', .*recon_jack"
    ):
        find_task("drive", "csgo_player")


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'open_drawer'"):
        find_task("open_drawr", "csgo_player")

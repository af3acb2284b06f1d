"""Starts from episodes that a world model was trained on."""

import pytest

from v2w_gym.world_models.data.starts.held_out import trained_on, warn_of_training

CARD = {"provenance": {"training_ids": ["day/1", "day/2", "day/3", "day/4"]}}


def test_only_ids_on_the_card_count() -> None:
    assert trained_on(["day/3", "day/9", "day/1"], CARD) == ["day/3", "day/1"]
    assert trained_on(["day/3"], {}) == []


def test_known_starts_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_training(["day/9"], CARD)
    warn_of_training(["day/1"], {"provenance": {"training_episodes": 4}})
    assert not caplog.text
    warn_of_training([f"day/{n}" for n in range(6)], CARD)
    assert "episodes of 4 of 6 starts, such as 'day/1', 'day/2', 'day/3', so" in caplog.text

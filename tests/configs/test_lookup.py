"""Look-up by name."""

import re

import pytest

from v2w_gym.configs.names import hint, lookup

TABLE = {"close_drawer": 1, "open_drawer": 2}


def test_a_known_name_gives_its_value() -> None:
    assert lookup(TABLE, "open_drawer", "task") == 2


def test_an_unknown_name_lists_the_known_ones_and_suggests_the_nearest() -> None:
    message = (
        "expected task to be one of ['close_drawer', 'open_drawer'], found 'open_drawr'; "
        "did you mean 'open_drawer'?"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        lookup(TABLE, "open_drawr", "task")


def test_nothing_is_suggested_for_a_name_that_is_like_no_other() -> None:
    assert hint("xyz", TABLE) == ""

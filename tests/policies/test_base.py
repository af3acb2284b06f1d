"""The metadata of a policy is checked when it is made."""

import pytest

from v2w_gym.policies.base import PolicyMeta


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"max_batch": -1}, "expected max_batch >= 1, found -1"),
        ({"max_batch": 0}, "expected max_batch >= 1, found 0"),
        ({"max_batch": 1.5}, "cannot set max_batch: expected a whole number"),
        ({"chunk": 0}, "expected chunk >= 1, found 0"),
        ({"history": -1}, "expected history >= 0, found -1"),
        ({"control_hz": 0}, "expected control_hz >= 0.001, found 0"),
        ({"control_hz": float("nan")}, "cannot set control_hz: expected a finite number"),
        ({"image_size": (64,)}, "cannot set image_size: expected a list of 2"),
        ({"image_size": (64, -1)}, r"expected image_size\[1\] >= 1, found -1"),
        ({"name": 3}, "cannot set name: expected text"),
        ({"name": "a\0b"}, "cannot set name: expected the value itself, without NUL"),
    ],
)
def test_what_cannot_be_is_refused(given: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        PolicyMeta(**{"name": "mine", "layout": "oxe7", **given})


def test_a_list_is_a_size() -> None:
    assert PolicyMeta("mine", "oxe7", image_size=[64, 80]).image_size == (64, 80)  # type: ignore[arg-type]

"""Expressions for action values: what they take, and what they refuse."""

import numpy as np
import pytest

from v2w_gym.world_models.data.sources.expressions import (
    Expression,
    parse_expression,
    read_actions,
)

VALUES = np.arange(14, dtype=np.float64).reshape(2, 7)


@pytest.mark.parametrize(
    ("text", "expression", "columns"),
    [
        ("action", Expression("action"), range(7)),
        ("action[6]", Expression("action", 6, 7), [6]),
        ("action/world_vector[0:3]", Expression("action/world_vector", 0, 3), [0, 1, 2]),
        ("observation.state[2:7]", Expression("observation.state", 2, 7), range(2, 7)),
    ],
)
def test_it_takes_the_named_values(text, expression, columns):
    assert parse_expression(text) == expression
    taken = expression.take(VALUES)
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, VALUES[:, list(columns)])


@pytest.mark.parametrize(
    "text", ["", "action[", "action[0:3", "action[-1]", "action[:3]", "a[0:6:2]", "[0]", "a[0]b"]
)
def test_another_text_is_refused(text):
    with pytest.raises(ValueError, match=r"expected a field .* such as action\[0:3\], found"):
        parse_expression(text)


def test_a_part_without_values_is_refused():
    with pytest.raises(ValueError, match="at least one value, found 'action\\[3:3\\]'"):
        parse_expression("action[3:3]")


def test_a_part_beyond_the_values_is_refused():
    with pytest.raises(ValueError, match="expected action\\[5:9\\] within action, found 7 values"):
        parse_expression("action[5:9]").take(VALUES)


@pytest.mark.parametrize("values", [np.array([["open"]]), np.zeros((2, 3, 3))])
def test_text_and_matrices_are_refused(values):
    with pytest.raises(ValueError, match="expected numbers, .* in action"):
        Expression("action").take(values)


def test_fields_come_in_the_order_of_the_mapping():
    values = {"action": VALUES, "gripper": np.array([True, False])}
    actions, fields = read_actions(
        {"open_gripper": "gripper", "world_vector": "action[1:3]"}, values.__getitem__
    )
    assert fields == (("open_gripper", 1), ("world_vector", 2))
    np.testing.assert_array_equal(actions, np.float32([[1, 1, 2], [0, 8, 9]]))

"""The bounds of actions, as TF-Agents writes them."""

import pytest

from tests.saved_models import tensorflow
from tests.specs import field, write_specs
from v2w_gym.policies.rt1.action_bounds import action_bounds


@pytest.fixture(autouse=True)
def installed():
    tensorflow()


def test_bounds_of_the_action_fields_are_read(tmp_path):
    arm = field("world_vector", 3, -2.0, 2.0)
    end = field("terminate_episode", 3, 0, 1, kind="int")
    write_specs(tmp_path, arm + end)
    bounds = action_bounds(tmp_path)
    assert set(bounds) == {"world_vector", "terminate_episode"}
    for name, expected in (("world_vector", (-2, 2)), ("terminate_episode", (0, 1))):
        low, high = bounds[name]
        assert low.shape == high.shape == (3,)
        assert (low == expected[0]).all() and (high == expected[1]).all()


def test_bounds_may_differ_from_value_to_value(tmp_path):
    # -1.5 and 0.25 as the bytes of two floats, in the text format's escapes
    shape = "tensor_shape { dim { size: 2 } }"
    low = rf'dtype: DT_FLOAT {shape} tensor_content: "\000\000\300\277\000\000\200>"'
    text = field("reach", 2, -9.0, 2.0).replace("dtype: DT_FLOAT\nfloat_val: -9.0", low)
    write_specs(tmp_path, text)
    low, high = action_bounds(tmp_path)["reach"]
    assert low.tolist() == [-1.5, 0.25] and high.tolist() == [2, 2]


def test_no_file_no_bounds(tmp_path):
    assert action_bounds(tmp_path) == {}


@pytest.mark.parametrize("text", ["fields", "fields {", "a: {{{", "\x00" * 40])
def test_something_else_has_no_bounds_or_is_refused(tmp_path, text):
    (tmp_path / "policy_specs.pbtxt").write_text(text)
    try:
        assert action_bounds(tmp_path) == {}
    except ValueError as error:
        assert "expected the specs of a policy in" in str(error)


def test_a_zero_may_be_left_out(tmp_path):
    write_specs(tmp_path, field("reach", 2, -9.0, 2.0).replace("float_val: -9.0", ""))
    low, high = action_bounds(tmp_path)["reach"]
    assert low.tolist() == [0, 0] and high.tolist() == [2, 2]


def test_what_was_not_downloaded_is_refused(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (tmp_path / "policy_specs.pbtxt").write_text(pointer)
    with pytest.raises(ValueError, match="found a git-LFS pointer"):
        action_bounds(tmp_path)

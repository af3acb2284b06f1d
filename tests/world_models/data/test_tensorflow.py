"""TensorFlow as it is imported: late, quiet, and out of PyTorch's way."""

import os
import subprocess
import sys

import pytest

from tests.saved_models import tensorflow
from v2w_gym.world_models.data.tensorflow import import_tensorflow, reading


class NotInstalled:
    """Finds no TensorFlow."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "tensorflow":
            raise ModuleNotFoundError(name=name)


def test_where_it_is_missing_the_message_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NotInstalled(), *sys.meta_path])
    with pytest.raises(
        ModuleNotFoundError, match=r"no module 'tensorflow'; run: pip install '\.\["
    ):
        import_tensorflow()


def test_it_takes_no_gpu_and_one_thread_and_its_settings_are_not_inherited():
    tf = tensorflow()
    assert import_tensorflow() is tf
    assert tf.config.get_visible_devices("GPU") == []
    assert tf.config.threading.get_intra_op_parallelism_threads() == 1
    assert tf.config.threading.get_inter_op_parallelism_threads() == 1
    assert not {"TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"} & os.environ.keys()


def test_its_errors_become_one_short_line():
    tf = tensorflow()
    with pytest.raises(ValueError) as error, reading("a number"):
        tf.strings.to_number("x" * 1000)
    message = str(error.value)
    assert message.startswith("expected a number, found this: StringToNumberOp could not correctly")
    assert message.endswith("; copy it again") and len(message) < 300 and "{{" not in message


@pytest.mark.slow
@pytest.mark.parametrize("order", ["tensorflow first", "robot first"])
def test_it_lives_beside_the_renderer_of_the_stand_in_robot(order):
    """Both contain LLVM; without care the process dies when the second one is loaded."""
    pytest.importorskip("mujoco")
    steps = [
        "from v2w_gym.world_models.data.tensorflow import import_tensorflow; import_tensorflow()",
        "from v2w_gym import StandinEnv; StandinEnv().reset(seed=0)",
    ]
    code = "; ".join(steps if order == "tensorflow first" else reversed(steps))
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)

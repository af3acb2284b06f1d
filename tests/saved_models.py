"""Checkpoints that TensorFlow writes, for tests that read them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.networks import TINY_RT1
from v2w_gym.configs.rt1 import RT1Config
from v2w_gym.policies.rt1.efficientnet import IMAGE_MEAN, IMAGE_STD
from v2w_gym.policies.rt1.variables import published_order
from v2w_gym.world_models.data.tensorflow import import_tfds

SMALL = replace(
    TINY_RT1, kernels=(3, 3), expansions=(1, 4), feature_positions=False, token_size=16, width=16
)
"""A network that has all kinds of variables of a published RT-1."""


def tensorflow() -> Any:
    """Return the module `tensorflow`; the test is skipped where the extra is not installed."""
    try:
        import_tfds()
        import tensorflow as tf
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    return tf


def rt1_variables(cfg: RT1Config) -> list[tuple[str, np.ndarray]]:
    """Return name and random value of variables 1, 2, ... of a network with these sizes."""
    rng = np.random.default_rng(0)
    constants = {
        "encoder.mean": np.array(IMAGE_MEAN, np.float32),
        "encoder.std": np.array(IMAGE_STD, np.float32),
        "encoder.count": np.array(0, np.int64),
    }
    found = []
    for i, variable in enumerate(published_order(cfg), start=1):
        value = np.abs(rng.normal(0, 0.3, variable.shape)).astype(np.float32)
        found.append((f"layer_{i}/{variable.word}", constants.get(variable.key, value)))
    return found


def write_saved_model(folder: Path, variables: list[tuple[str, np.ndarray]], step: int = 7) -> Path:
    """Write the variables (name, value) as a policy's SavedModel holds them; return the folder."""
    tf = tensorflow()
    step_variable = tf.Variable(step, dtype=tf.int64, name="global_step")
    numbered = {i: tf.Variable(value, name=name) for i, (name, value) in enumerate(variables, 1)}
    write_variables(folder / "variables" / "variables", numbered, train_step=step_variable)
    return folder


def write_variables(prefix: Path, numbered: Mapping[int, Any], **others: Any) -> None:
    """Write a checkpoint of `model_variables` with these numbers, and of other variables."""
    tf = tensorflow()
    prefix.parent.mkdir(parents=True, exist_ok=True)
    listed = tf.train.Checkpoint(**{str(number): value for number, value in numbered.items()})
    tf.train.Checkpoint(model_variables=listed, **others).write(str(prefix))

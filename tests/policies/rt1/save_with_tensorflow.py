"""Write the golden RT-1 weights as a SavedModel; runs in a Python that has TensorFlow.

Arguments: the folder with rt1.json and rt1_weights.py, and the folder to write.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

case_folder, output = Path(sys.argv[1]), sys.argv[2]
sys.path.insert(0, str(case_folder))
from rt1_weights import value  # noqa: E402

STEP = 424760


class Policy(tf.Module):
    """Holds its variables in the way in which TF-Agents exports a policy."""

    def __init__(self) -> None:
        super().__init__()
        case = json.loads((case_folder / "rt1.json").read_text())
        self.train_step = tf.Variable(STEP, dtype=tf.int64, name="global_step")
        self.model_variables = [self.train_step]
        for i, (name, shape) in enumerate(zip(case["names"], case["shapes"], strict=True)):
            if i == 0:
                continue
            given = value(case["seed_base"], i, name, shape) if shape else np.array(0, np.int64)
            self.model_variables.append(tf.Variable(given, name=name.removesuffix(":0")))

    @tf.function(input_signature=[])
    def get_train_step(self) -> tf.Tensor:
        return self.train_step


policy = Policy()
tf.saved_model.save(policy, output, signatures={"get_train_step": policy.get_train_step})

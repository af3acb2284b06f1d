"""Small SavedModels with the signature of a published RT-1; import this where TensorFlow is.

Their actions are a recording, or a formula of image history, instruction and state, so that
anything lost on the way changes them.
"""

import numpy as np
import tensorflow as tf

HISTORY, EMBEDDING = 6, 512
ACTIONS = {
    "base_displacement_vector": 2,
    "base_displacement_vertical_rotation": 1,
    "gripper_closedness_action": 1,
    "rotation_delta": 3,
    "terminate_episode": 3,
    "world_vector": 3,
}
IGNORED = {
    "base_pose_tool_reached": [7],
    "gripper_closed": [1],
    "gripper_closedness_commanded": [1],
    "height_to_bottom": [1],
    "orientation_box": [2, 3],
    "orientation_start": [4],
    "robot_orientation_positions_box": [3, 3],
    "rotation_delta_to_go": [3],
    "src_rotation": [4],
    "vector_to_go": [3],
    "workspace_bounds": [3, 3],
}


class Model(tf.Module):
    def __init__(self, settings):
        super().__init__()
        self.settings = settings
        self.size = settings.get("size", [256, 320])
        rng = np.random.default_rng(0)
        features = HISTORY * 3 + EMBEDDING + 11 + 2
        self.weights = tf.Variable(rng.standard_normal((features, 13)).astype(np.float32))
        self.step = tf.Variable(400120, dtype=tf.int64)
        if "actions" in settings:
            self.recording = tf.Variable(np.load(settings["actions"]))

    def state_specs(self):
        return {
            "action_tokens": ([HISTORY, 11, 1, 1], tf.int32),
            "image": ([HISTORY, *self.size, 3], tf.uint8),
            "step_num": ([1, 1, 1, 1], tf.int32),
            "t": ([1, 1, 1, 1], tf.int32),
        }

    def initial(self, batch):
        return {
            name: tf.zeros(tf.concat([[batch], shape], 0), dtype)
            for name, (shape, dtype) in self.state_specs().items()
        }

    def action_specs(self):
        specs = {
            "0/discount": ([], tf.float32),
            "0/observation/image": ([*self.size, 3], tf.uint8),
            "0/observation/natural_language_embedding": ([EMBEDDING], tf.float32),
            "0/observation/natural_language_instruction": ([], tf.string),
            **{f"0/observation/{k}": (shape, tf.float32) for k, shape in IGNORED.items()},
            "0/reward": ([], tf.float32),
            "0/step_type": ([], tf.int32),
            **{f"1/{name}": spec for name, spec in self.state_specs().items()},
        }
        return [tf.TensorSpec([None, *shape], dtype, k) for k, (shape, dtype) in specs.items()]

    def act(self, *inputs):
        given = dict(zip((spec.name for spec in self.action_specs()), inputs, strict=True))
        state = {name: given[f"1/{name}"] for name in self.state_specs()}
        first = tf.equal(given["0/step_type"], 0)  # as TF-Agents resets the state by itself
        for name, value in self.initial(1).items():
            mask = tf.reshape(first, [1] * len(value.shape))
            state[name] = tf.where(mask, value, state[name])
        image = given["0/observation/image"]
        history = tf.concat([state["image"][:, 1:], image[:, None]], 1)
        count = state["step_num"] + 1
        if "actions" in self.settings:
            values = tf.gather(self.recording, tf.reshape(state["step_num"], [-1]))
        else:
            values = self.formula(history, given, state)
        tokens = tf.cast(tf.round(values[:, None, :11, None, None] * 50), tf.int32)
        state = {
            "action_tokens": tf.concat([state["action_tokens"][:, 1:], tokens], 1),
            "image": history,
            "step_num": count,
            "t": tf.minimum(count, HISTORY - 1),
        }
        return self.named(values), state

    def formula(self, history, given, state):
        colours = tf.reduce_mean(tf.cast(history, tf.float32), [2, 3]) / 8
        tokens = tf.reduce_sum(tf.cast(state["action_tokens"], tf.float32), [1, 3, 4]) / 50
        counts = [tf.cast(state[name][:, :1, 0, 0, 0], tf.float32) for name in ("step_num", "t")]
        parts = [tf.reshape(colours, [-1, HISTORY * 3]), tokens, *counts]
        features = tf.concat([*parts, given["0/observation/natural_language_embedding"]], 1)
        features *= tf.cast(given["0/step_type"], tf.float32)[:, None]
        features *= given["0/discount"][:, None]
        return tf.sin(tf.linalg.matmul(features, self.weights))

    def named(self, values):
        parts = tf.split(values, list(ACTIONS.values()), axis=1)
        actions = dict(zip(ACTIONS, parts, strict=True))
        mode = tf.argmax(actions["terminate_episode"], 1)
        actions["terminate_episode"] = tf.one_hot(mode, 3, dtype=tf.int32)
        return actions

    def signatures(self):
        def action(*inputs):
            actions, state = self.act(*inputs)
            outputs = {f"action/{name}": value for name, value in actions.items()}
            return {**outputs, **{f"state/{name}": value for name, value in state.items()}}

        fixed = self.settings.get("fixed_batch", False)
        sizes = [] if fixed else [tf.TensorSpec([], tf.int32, "batch_size")]
        return {
            "action": tf.function(action).get_concrete_function(*self.action_specs()),
            "get_initial_state": tf.function(
                lambda *size: self.initial(size[0] if size else 1)
            ).get_concrete_function(*sizes),
            "get_train_step": tf.function(
                lambda: {"int64": tf.identity(self.step)}
            ).get_concrete_function(),
        }

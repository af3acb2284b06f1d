"""TFDS builder folders of RLDS episodes, written by hand, for tests that read them."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.bundles import message, varint
from v2w_gym.world_models.data.tfrecord import masked_crc

Schema = Mapping[str, tuple[str, tuple[int, ...]]]
"""Path in a record -> type ("image", "string" or numpy's) and shape of one value."""

FRACTAL: Schema = {
    "steps/action/base_displacement_vector": ("float32", (2,)),
    "steps/action/base_displacement_vertical_rotation": ("float32", (1,)),
    "steps/action/gripper_closedness_action": ("float32", (1,)),
    "steps/action/rotation_delta": ("float32", (3,)),
    "steps/action/terminate_episode": ("int32", (3,)),
    "steps/action/world_vector": ("float32", (3,)),
    "steps/is_first": ("bool", ()),
    "steps/is_last": ("bool", ()),
    "steps/is_terminal": ("bool", ()),
    "steps/reward": ("float32", ()),
    "steps/observation/image": ("image", (256, 320, 3)),
    "steps/observation/natural_language_embedding": ("float32", (512,)),
    "steps/observation/natural_language_instruction": ("string", ()),
    "steps/observation/base_pose_tool_reached": ("float32", (7,)),
    "steps/observation/gripper_closed": ("float32", (1,)),
    "steps/observation/gripper_closedness_commanded": ("float32", (1,)),
    "steps/observation/height_to_bottom": ("float32", (1,)),
    "steps/observation/orientation_box": ("float32", (2, 3)),
    "steps/observation/orientation_start": ("float32", (4,)),
    "steps/observation/robot_orientation_positions_box": ("float32", (3, 3)),
    "steps/observation/rotation_delta_to_go": ("float32", (3,)),
    "steps/observation/src_rotation": ("float32", (4,)),
    "steps/observation/vector_to_go": ("float32", (3,)),
    "steps/observation/workspace_bounds": ("float32", (3, 3)),
    **{
        f"aspects/{name}": ("bool", ())
        for name in ("already_success", "feasible", "has_aspects", "success", "undesirable")
    },
    **{
        f"attributes/{name}{kind}": (dtype, ())
        for name in ("collection_mode", "data_type", "env", "location", "task_family")
        for kind, dtype in (("", "int64"), ("_name", "string"))
    },
}
"""The features of fractal20220817_data 0.1.0."""


def fractal_episode(steps: int, text: str, vector: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Return values for every feature of `FRACTAL`; (steps, ...) for those of the steps."""
    rng = np.random.default_rng(seed)
    episode: dict[str, Any] = {}
    for path, (dtype, shape) in FRACTAL.items():
        whole = (steps, *shape) if path.startswith("steps/") else shape
        if dtype == "image":
            rows = rng.integers(0, 256, (steps, 16, 20, 3), np.uint8)
            episode[path] = rows.repeat(16, axis=1).repeat(16, axis=2)
        elif dtype == "string":
            episode[path] = "kitchen"
        elif dtype == "float32":
            episode[path] = rng.normal(size=whole).astype(np.float32)
        else:
            episode[path] = rng.integers(0, 2, whole).astype(dtype)
    said = rng.integers(0, 3, steps)
    episode["steps/action/terminate_episode"] = np.eye(3, dtype=np.int32)[said]
    episode["steps/observation/natural_language_instruction"] = [text] * steps
    episode["steps/observation/natural_language_embedding"] = np.tile(vector, (steps, 1))
    episode["steps/is_last"] = np.arange(steps) == steps - 1
    modes = rng.integers(0, 3, steps)
    episode["steps/action/terminate_episode"] = np.eye(3, dtype=np.int32)[modes]
    return episode


def write_rlds(
    folder: Path,
    shards: Sequence[Sequence[Mapping[str, Any]]],
    schema: Schema = FRACTAL,
    name: str = "fractal20220817_data",
    split: str = "train",
) -> Path:
    """Write a folder with one split; `shards` holds the episodes of each file."""
    folder.mkdir(parents=True)
    for number, episodes in enumerate(shards):
        path = folder / f"{name}-{split}.tfrecord-{number:05d}-of-{len(shards):05d}"
        write_records(path, [example(episode) for episode in episodes])
    described = {
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "name": split,
        "shardLengths": [str(len(episodes)) for episodes in shards],
    }
    info = {"fileFormat": "tfrecord", "name": name, "splits": [described], "version": "0.1.0"}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "features.json").write_text(json.dumps(features_json(schema)))
    return folder


def write_records(path: Path, records: Sequence[bytes]) -> None:
    with path.open("wb") as file:
        for record in records:
            length = len(record).to_bytes(8, "little")
            for part in (length, record):
                file.write(part + masked_crc(part).to_bytes(4, "little"))


def example(features: Mapping[str, Any]) -> bytes:
    """Return a serialised tf.train.Example; images are stored as PNG."""
    entries = [message(1, name) + message(2, feature(v)) for name, v in features.items()]
    return message(1, b"".join(message(1, entry) for entry in entries))


def feature(values: Any) -> bytes:
    """Return a tf.train.Feature: strings, images (T, H, W, 3), floats or integers."""
    if isinstance(values, str | bytes):
        values = [values]
    if isinstance(values, list):
        return message(1, b"".join(message(1, value) for value in values))
    if values.ndim == 4 and values.dtype == np.uint8:
        return feature([encoded(image, "PNG") for image in values])
    if values.dtype.kind == "f":
        return message(2, message(1, values.astype("<f4").tobytes()))
    numbers = b"".join(varint(int(value) % (1 << 64)) for value in values.ravel())
    return message(3, message(1, numbers))


def encoded(image: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def features_json(schema: Schema) -> dict[str, Any]:
    """Return what TFDS writes into features.json for these features."""
    root: dict[str, Any] = {}
    for path, (dtype, shape) in schema.items():
        *parents, leaf = path.split("/")
        node = root
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = _leaf(dtype, shape)
    return _dict_json(root, "")


def _dict_json(node: dict[str, Any], name: str) -> dict[str, Any]:
    if "pythonClassName" in node:
        return node
    children = {child: _dict_json(value, child) for child, value in node.items()}
    found = {
        "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
        "featuresDict": {"features": children},
    }
    if name != "steps":
        return found
    return {
        "pythonClassName": "tensorflow_datasets.core.features.dataset_feature.Dataset",
        "sequence": {"feature": found, "length": "-1"},
    }


def _leaf(dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    dimensions = {"dimensions": [str(size) for size in shape]} if shape else {}
    if dtype == "image":
        return {
            "pythonClassName": "tensorflow_datasets.core.features.image_feature.Image",
            "image": {"dtype": "uint8", "encodingFormat": "png", "shape": dimensions},
        }
    return {
        "pythonClassName": "tensorflow_datasets.core.features.tensor_feature.Tensor",
        "tensor": {"dtype": dtype, "encoding": "none", "shape": dimensions},
    }

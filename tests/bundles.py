"""Checkpoint bundles in TensorFlow's format, written by hand, for tests that read them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import cramjam
import numpy as np

from v2w_gym.configs.rt1 import RT1Config
from v2w_gym.policies.rt1.efficientnet import IMAGE_MEAN, IMAGE_STD
from v2w_gym.policies.rt1.variables import published_order
from v2w_gym.world_models.data.tfrecord import masked_crc

SMALL = RT1Config(
    stem=8,
    channels=(8, 8),
    repeats=(1, 2),
    kernels=(3, 3),
    strides=(2, 2),
    expansions=(1, 4),
    top=16,
    feature_positions=False,
    token_size=16,
    image_tokens=2,
    learner_width=8,
    width=16,
    layers=1,
    heads=2,
    head_size=8,
    instruction_size=8,
)
"""A network that has all kinds of variables of a published RT-1."""

DTYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int64": 9, "float16": 19}
VALUE = "model_variables/{}/.ATTRIBUTES/VARIABLE_VALUE"
STEP = "train_step/.ATTRIBUTES/VARIABLE_VALUE"
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


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


def write_saved_model(
    folder: Path,
    variables: list[tuple[str, np.ndarray]],
    step: int = 7,
    snappy: bool = True,
    shards: int = 1,
) -> Path:
    """Write the variables (name, value) as a policy's SavedModel holds them; return the folder."""
    tensors = {VALUE.format(i): value for i, (_, value) in enumerate(variables, start=1)}
    named = {VALUE.format(i): name for i, (name, _) in enumerate(variables, start=1)}
    tensors[STEP] = np.array(step, np.int64)
    prefix = folder / "variables" / "variables"
    prefix.parent.mkdir(parents=True)
    write_bundle(prefix, tensors, named, snappy=snappy, shards=shards)
    return folder


def write_bundle(
    prefix: Path,
    tensors: Mapping[str, np.ndarray],
    named: Mapping[str, str],
    header: bytes = b"",
    snappy: bool = False,
    shards: int = 1,
) -> None:
    """Write tensors, dealt out to the data files in turn, and the names of variables."""
    data = [bytearray() for _ in range(shards)]
    entries = {b"": header or number(1, shards) + message(3, number(1, 1))}
    graph = b"".join(
        message(1, message(2, message(2, v) + message(3, k))) for k, v in named.items()
    )
    values = {**{key: array.tobytes() for key, array in tensors.items()}, **string(graph)}
    for place, key in enumerate(sorted(values)):
        shard, value = place % shards, values[key]
        kind, shape = 7, ()
        crc = masked_crc(value)
        if key in tensors:
            kind, shape = DTYPES[tensors[key].dtype.name], tensors[key].shape
        else:
            crc = masked_crc(len(graph).to_bytes(4, "little") + value[-len(graph) - 4 :])
        entries[key.encode()] = (
            number(1, kind)
            + message(2, b"".join(message(2, number(1, size)) for size in shape))
            + number(3, shard)
            + number(4, len(data[shard]))
            + number(5, len(value))
            + fixed(6, crc)
        )
        data[shard] += value
    prefix.with_name(f"{prefix.name}.index").write_bytes(table(entries, snappy))
    for shard, content in enumerate(data):
        prefix.with_name(f"{prefix.name}.data-{shard:05}-of-{shards:05}").write_bytes(content)


def string(text: bytes) -> dict[str, bytes]:
    """Return the tensor of one string: its length, the checksum of that as 32 bits, the bytes."""
    if not text:
        return {}
    check = masked_crc(len(text).to_bytes(4, "little")).to_bytes(4, "little")
    return {GRAPH: varint(len(text)) + check + text}


def table(entries: Mapping[bytes, bytes], snappy: bool, per_block: int = 50) -> bytes:
    """Return a sorted table: blocks of entries, an empty one, one that says where they lie."""
    content, handles = b"", {}
    keys = sorted(entries)
    for start in range(0, len(keys), per_block):
        chosen = keys[start : start + per_block]
        block, handle = stored({key: entries[key] for key in chosen}, len(content), snappy)
        content, handles = content + block, {**handles, chosen[-1]: handle}
    empty, about = stored({}, len(content), snappy)
    content += empty
    index, where = stored(handles, len(content), snappy)
    footer = (about + where).ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")
    return content + index + footer


def stored(entries: Mapping[bytes, bytes], at: int, snappy: bool) -> tuple[bytes, bytes]:
    """Return a block with its trailer, and its handle: where it starts and how long it is."""
    block, restarts, before = b"", [], b""
    for place, (key, value) in enumerate(entries.items()):
        if place % 16 == 0:  # a key is written whole
            restarts, before = [*restarts, len(block)], b""
        shared = len(list(common(before, key)))
        block += varint(shared) + varint(len(key) - shared) + varint(len(value))
        block, before = block + key[shared:] + value, key
    restarts = restarts or [0]
    block += b"".join(place.to_bytes(4, "little") for place in [*restarts, len(restarts)])
    if snappy:
        block = bytes(cramjam.snappy.compress_raw(block))
    checked = block + bytes([snappy])
    trailer = checked[-1:] + masked_crc(checked).to_bytes(4, "little")
    return block + trailer, varint(at) + varint(len(block))


def common(one: bytes, other: bytes) -> Iterator[int]:
    for a, b in zip(one, other, strict=False):
        if a != b:
            return
        yield a


def number(field: int, value: int) -> bytes:
    """Return a number as a field of a message; zeros are left out."""
    return varint(field << 3) + varint(value) if value else b""


def fixed(field: int, value: int) -> bytes:
    return varint(field << 3 | 5) + value.to_bytes(4, "little")


def message(field: int, content: bytes | str) -> bytes:
    """Return a string or a nested message as a field of a message."""
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    parts = [value & 0x7F]
    while value := value >> 7:
        parts[-1] |= 0x80
        parts.append(value & 0x7F)
    return bytes(parts)

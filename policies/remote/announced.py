"""Read and check the metadata that a policy server announces."""

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeAlias

import numpy as np

from v2w_gym.configs.loader import from_mapping
from v2w_gym.configs.policies import RemoteConfig
from v2w_gym.configs.text import brief, printable
from v2w_gym.policies.base import PolicyMeta
from v2w_gym.policies.remote.wire import MAX_BYTES, pack

Message: TypeAlias = Mapping[str, Any]

REQUIRED = ("layout", "chunk")
"""Metadata that the server must announce or the policy file must set."""
LONGEST_TEXT = 200
"""Most characters of an announced name, layout or fingerprint."""


def to_meta(url: str, metadata: Message, cfg: RemoteConfig) -> PolicyMeta:
    """Return the metadata of a server's policy; `cfg` overrides the server.

    Raises:
        ValueError: Neither has the layout or chunk, or a value is invalid.
    """
    known: dict[str, Any] = {}
    for name in (field.name for field in fields(PolicyMeta)):
        configured = getattr(cfg, name, None)
        value = metadata.get(name) if configured is None else configured
        if value is not None:
            known[name] = value
    for name in REQUIRED:
        if name not in known:
            raise ValueError(
                f"expected the policy server at {url} to announce its {name}, found "
                f"{brief(sorted(map(str, metadata)))}; set it in a policy file: `source: {url}` "
                f"and `remote: {{{name}: ...}}`"
            )
    _check_texts(url, known)
    origin = f"the policy at {url}"
    meta = from_mapping(PolicyMeta, {"name": url, **known}, origin)
    _check_size(url, meta)
    name = printable(meta.name).strip() or url
    return from_mapping(
        PolicyMeta, {**known, "name": name, "fingerprint": fingerprint(metadata)}, origin
    )


def is_announced(url: str, metadata: Message, flag: str) -> bool:
    """Whether a server announces `flag`, such as "stateless".

    Raises:
        ValueError: Neither true nor false.
    """
    found = metadata.get(flag, False)
    if not isinstance(found, bool | np.bool_):
        raise ValueError(
            f"expected {flag} of the policy at {url} to be true or false, found {brief(found)}"
        )
    return bool(found)


def fingerprint(metadata: Message) -> str:
    """Return the announced fingerprint, or else the sha256 of all metadata.

    Raises:
        ValueError: The metadata is nested too deeply.
    """
    announced = metadata.get("fingerprint")
    if isinstance(announced, str) and announced:
        return printable(announced)
    return hashlib.sha256(pack(dict(metadata))).hexdigest()


def _check_texts(url: str, known: Message) -> None:
    for name, value in known.items():
        if isinstance(value, str) and len(value) > LONGEST_TEXT:
            raise ValueError(
                f"expected {name} of the policy at {url} in at most {LONGEST_TEXT} characters, "
                f"found {len(value)}"
            )


def _check_size(url: str, meta: PolicyMeta) -> None:
    """Check that a frame fits into a message."""
    height, width = meta.image_size or (1, 1)
    if 3 * height * width > MAX_BYTES:
        raise ValueError(
            f"expected an image_size of the policy at {url} whose frames fit into messages of "
            f"{MAX_BYTES} bytes, found {height} x {width} pixels"
        )

"""Adapter for LeRobot policies, which are served from LeRobot's own Python environment.

In that environment, run `pip install msgpack "websockets>=15"`. With this repository on PYTHONPATH,
run:

    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors

    from v2w_gym.configs.policies import LeRobotConfig
    from v2w_gym.policies.adapters.lerobot import lerobot_maker
    from v2w_gym.policies.remote.server import PolicyServer

    policy = ACTPolicy.from_pretrained("you/your-policy")
    processors = make_pre_post_processors(policy.config, "you/your-policy")
    make = lerobot_maker(policy, LeRobotConfig(layout="oxe7"), *processors)
    PolicyServer(make).run(print)

Then run `v2w rank 'policies=[ws://127.0.0.1:8000]'` here.
Source: LeRobot 0.4.4 and 0.6.1, `lerobot.policies.pretrained.PreTrainedPolicy`.
"""

import copy
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from v2w_gym.configs.names import lookup
from v2w_gym.configs.policies import LeRobotConfig
from v2w_gym.configs.robots import ACTION_LAYOUTS
from v2w_gym.policies.adapters.lerobot_inputs import TASK, check_inputs, constant_inputs, to_tensor
from v2w_gym.policies.base import ActionBatch, PolicyMeta, check_frames, check_reset, renew
from v2w_gym.policies.processing.constants import Constants, add_constants

log = logging.getLogger(__name__)

Batch: TypeAlias = Mapping[str, Any]

EXECUTED = "n_action_steps"
"""LeRobot's name for the execution horizon."""
RETURNS_EXECUTED = ("groot", "molmoact2", "pi0_fast")
"""Policies whose `predict_action_chunk` returns the executed actions only (LeRobot 0.6)."""
NEEDS_EVERY_FRAME = ("lingbot_va",)
"""Policies that also need the frames within a chunk (LeRobot 0.6)."""
NONE: Constants = {}


class PreTrained(Protocol):
    """The part of LeRobot's `PreTrainedPolicy` that this adapter uses."""

    name: str
    config: Any

    def reset(self) -> None:
        """Clear the history."""
        ...

    def predict_action_chunk(self, batch: Batch) -> torch.Tensor:
        """Return actions (1, chunk, D)."""
        ...

    def select_action(self, batch: Batch) -> torch.Tensor:
        """Return one action (1, D)."""
        ...

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield the weights."""
        ...

    def state_dict(self) -> Mapping[str, torch.Tensor]:
        """Return weights and buffers by name."""
        ...


def lerobot_maker(
    policy: PreTrained,
    cfg: LeRobotConfig,
    preprocess: Callable[[Any], Batch] = dict,
    postprocess: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.cpu,
) -> Callable[[], "LeRobotPolicy"]:
    """Return a function that makes policies with the shared weights of `policy`.

    Args:
        policy: A `PreTrainedPolicy`, in evaluation mode and on its device.
        cfg: The layout of its actions, and how to call it.
        preprocess: First result of LeRobot's `make_pre_post_processors`.
        postprocess: Second result of LeRobot's `make_pre_post_processors`.

    Raises:
        FileNotFoundError: No such file of an image input.
        ValueError: The policy needs more than a frame, an instruction and the constants in `cfg`,
            or a setting does not fit it.
    """
    constants = constant_inputs(policy.config, cfg)
    meta = to_meta(policy, cfg, constants)
    modes = getattr(policy.config, "normalization_mapping", None) or {}
    if preprocess is dict and any(mode != "IDENTITY" for mode in modes.values()):
        log.warning(
            "policy %r normalises %s, but has no processors; pass those that LeRobot's "
            "make_pre_post_processors returns",
            policy.name,
            ", ".join(sorted(str(name) for name in modes)),
        )
    return lambda: LeRobotPolicy(policy, meta, cfg, preprocess, postprocess, constants)


class LeRobotPolicy:
    """Runs a copy of a LeRobot policy in each slot, one after the other; copies share weights.

    Its random numbers from torch depend on the slot's seed and step alone.
    """

    def __init__(
        self,
        policy: PreTrained,
        meta: PolicyMeta,
        cfg: LeRobotConfig,
        preprocess: Callable[[Any], Batch],
        postprocess: Callable[[torch.Tensor], torch.Tensor],
        constants: Constants = NONE,
    ) -> None:
        self.meta = meta
        self._policy, self._cfg = policy, cfg
        self._preprocess, self._postprocess = preprocess, postprocess
        self._device = next(policy.parameters()).device
        self._constants = {
            name: to_tensor(values).to(self._device) for name, values in constants.items()
        }
        self._copies: list[PreTrained] = []
        self._instructions: list[str] = []
        self._seeds: list[int] = []
        self._steps: list[int] = []

    def reset(
        self,
        instructions: Sequence[str],
        *,
        seeds: Sequence[int],
        slots: Sequence[int] | None = None,
    ) -> None:
        """See `Policy.reset`; LeRobot does not report unknown instructions."""
        begins = check_reset(self.meta, instructions, seeds, slots, len(self._instructions))
        self._instructions = renew(self._instructions, instructions, slots)
        self._seeds = renew(self._seeds, seeds, slots)
        self._steps = renew(self._steps, [0] * len(seeds), slots)
        weights = {id(weight): weight for weight in self._policy.parameters()}
        while len(self._copies) < len(seeds):
            self._copies.append(copy.deepcopy(self._policy, dict(weights)))
        for slot in begins:
            self._copies[slot].reset()

    def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> ActionBatch:
        """See `Policy.act`.

        Raises:
            ValueError: Also if the policy's actions do not have the shape of layout and chunk.
        """
        check_frames(self.meta, len(self._instructions), frames, active)
        size = ACTION_LAYOUTS[self.meta.layout].size
        actions = np.zeros((len(frames), self.meta.chunk, size), np.float32)
        for slot in np.flatnonzero(active):
            found = self._act_in(int(slot), frames[slot])
            if found.shape != actions.shape[1:]:
                raise ValueError(
                    f"expected actions of shape {actions.shape[1:]} from policy "
                    f"{self.meta.name!r}, found {found.shape}; correct the layout"
                    + (f", or set chunk={len(found)}" if self._cfg.whole_chunks else "")
                )
            actions[slot] = found
        return ActionBatch(actions)

    def close(self) -> None:
        """See `Policy.close`."""

    @torch.no_grad()
    def _act_in(self, slot: int, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        rng = np.random.default_rng([self._seeds[slot], self._steps[slot]])
        self._steps[slot] += 1
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(int(rng.integers(2**63)))
            batch = self._preprocess(self._observe(slot, frame))
            if self._cfg.whole_chunks:
                chunk = self._copies[slot].predict_action_chunk(batch).unbind(1)
            else:
                chunk = (self._copies[slot].select_action(batch),)
            actions = torch.cat([self._postprocess(action) for action in chunk])
        return actions.float().cpu().numpy()

    def _observe(self, slot: int, frame: NDArray[np.uint8]) -> dict[str, Any]:
        """Return LeRobot's observation dict: the frame, the task and the constants."""
        image = to_tensor(frame).to(self._device)
        return {self._cfg.image_key: image, TASK: [self._instructions[slot]], **self._constants}


def to_meta(policy: PreTrained, cfg: LeRobotConfig, constants: Constants = NONE) -> PolicyMeta:
    """Return a LeRobot policy's metadata; its own config has the execution horizon and ensemble.

    Raises:
        ValueError: As `lerobot_maker`.
    """
    theirs = policy.config
    check_inputs(policy.name, theirs, cfg, constants)
    image = lookup(theirs.image_features, cfg.image_key, "image_key")
    _check_chunks(policy, cfg)
    chunk = _chunk(policy, cfg) if cfg.whole_chunks else 1
    ensemble = getattr(theirs, "temporal_ensemble_coeff", None) if cfg.whole_chunks else None
    own = chunk if ensemble is not None else getattr(theirs, EXECUTED, None) or chunk
    return PolicyMeta(
        name=policy.name,
        layout=cfg.layout,
        image_size=(image.shape[1], image.shape[2]),
        control_hz=cfg.control_hz,
        history=theirs.n_obs_steps,
        chunk=chunk,
        gripper=cfg.gripper,
        rotation=cfg.rotation,
        fingerprint=add_constants(fingerprint(policy.state_dict()), constants),
        execution_horizon=own if own < chunk else 0,
        ensemble=ensemble,
    )


def _check_chunks(policy: PreTrained, cfg: LeRobotConfig) -> None:
    """Check that the policy supports `cfg.whole_chunks`.

    Raises:
        ValueError: The policy does not.
    """
    theirs = policy.config
    if cfg.whole_chunks:
        histories = set(getattr(policy, "_queues", None) or ()) - {"action"}
        needs_history = histories or theirs.n_obs_steps > 1 or policy.name in NEEDS_EVERY_FRAME
        if needs_history or not (cfg.chunk or hasattr(theirs, "chunk_size")):
            raise ValueError(
                f"expected a policy that returns chunks from one frame, found {policy.name!r}, "
                "which does not; set whole_chunks=False"
            )
    elif cfg.chunk:
        raise ValueError(f"expected no chunk with whole_chunks=False, found {cfg.chunk}")
    elif getattr(getattr(theirs, "rtc_config", None), "enabled", False):
        raise ValueError(
            f"expected {policy.name!r} without real-time chunking, which `select_action` does not "
            "support; set rtc_config.enabled=False in its config, or whole_chunks=True"
        )


def _chunk(policy: PreTrained, cfg: LeRobotConfig) -> int:
    """Return the number of actions that `predict_action_chunk` returns."""
    own: int = getattr(policy.config, EXECUTED if policy.name in RETURNS_EXECUTED else "chunk_size")
    return cfg.chunk or own


def fingerprint(weights: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 of names and values."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(raw.numpy().tobytes())
    return digest.hexdigest()

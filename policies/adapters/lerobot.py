"""Policies of LeRobot, which live in an environment of their own and are served from there.

In LeRobot's environment, `pip install msgpack "websockets>=15"`, and run with this repository on
PYTHONPATH:

    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors

    from configs.lerobot import LeRobotConfig
    from policies.adapters.lerobot import lerobot_maker
    from policies.remote.server import PolicyServer

    policy = ACTPolicy.from_pretrained("you/your-policy")
    processors = make_pre_post_processors(policy.config, "you/your-policy")
    make = lerobot_maker(policy, LeRobotConfig(layout="oxe7"), *processors)
    PolicyServer(make).run(print)

Then `v2w rank 'policies=[ws://127.0.0.1:8000]'` as anywhere else.
Source: LeRobot 0.4.4, `lerobot.policies.pretrained.PreTrainedPolicy`.
"""

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from configs.layouts import LAYOUTS
from configs.lerobot import LeRobotConfig
from configs.lookup import lookup
from policies.base import ActionBatch, PolicyMeta
from policies.checks import check_frames, check_reset, renew

Batch: TypeAlias = Mapping[str, Any]

STATE = "observation.state"


class PreTrained(Protocol):
    """What is used of LeRobot's `PreTrainedPolicy`."""

    name: str
    config: Any

    def reset(self) -> None:
        """Forget the episode."""
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
    """Return what makes policies that share the weights of `policy`.

    Args:
        policy: A `PreTrainedPolicy`, in evaluation mode and on its device.
        cfg: What its actions mean, and how it is asked.
        preprocess: First of what LeRobot's `make_pre_post_processors` returns.
        postprocess: Second of it.

    Raises:
        ValueError: A policy that needs more than a frame and an instruction, or settings that do
            not fit it.
    """
    meta = to_meta(policy, cfg)
    return lambda: LeRobotPolicy(policy, meta, cfg, preprocess, postprocess)


class LeRobotPolicy:
    """Asks a copy of the policy in each slot, one after the other; copies share their weights.

    Random numbers that it draws from torch depend on the slot's seed and step.
    """

    def __init__(
        self,
        policy: PreTrained,
        meta: PolicyMeta,
        cfg: LeRobotConfig,
        preprocess: Callable[[Any], Batch],
        postprocess: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        """See `lerobot_maker`."""
        self.meta = meta
        self._policy, self._cfg = policy, cfg
        self._preprocess, self._postprocess = preprocess, postprocess
        self._device = next(policy.parameters()).device
        self._copies: list[PreTrained] = []
        self._told: list[str] = []
        self._seeds: list[int] = []
        self._steps: list[int] = []

    def reset(
        self,
        instructions: Sequence[str],
        *,
        seeds: Sequence[int],
        slots: Sequence[int] | None = None,
    ) -> None:
        """See `Policy.reset`; whether it knows an instruction, LeRobot does not say."""
        begins = check_reset(self.meta, instructions, seeds, slots, len(self._told))
        self._told = renew(self._told, instructions, slots)
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
            ValueError: Also actions of another shape than layout and chunk say.
        """
        check_frames(self.meta, len(self._told), frames, active)
        size = LAYOUTS[self.meta.layout].size
        actions = np.zeros((len(frames), self.meta.chunk, size), np.float32)
        for slot in np.flatnonzero(active):
            found = self._act_in(int(slot), frames[slot])
            if found.shape != actions.shape[1:]:
                raise ValueError(
                    f"expected actions of shape {actions.shape[1:]} from policy "
                    f"{self.meta.name!r}, found {found.shape}; correct the layout"
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
        """Return what LeRobot calls an observation: (1, 3, H, W) in [0, 1], and the task."""
        image = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float() / 255
        seen = {self._cfg.image_key: image.to(self._device), "task": [self._told[slot]]}
        if self._cfg.zero_state:
            state = self._policy.config.robot_state_feature
            size = state.shape[0] if state else 0
            seen[STATE] = torch.zeros(1, size, device=self._device)
        return seen


def to_meta(policy: PreTrained, cfg: LeRobotConfig) -> PolicyMeta:
    """Return what is known of a policy of LeRobot.

    Raises:
        ValueError: As `lerobot_maker`.
    """
    theirs = policy.config
    lookup(LAYOUTS, cfg.layout, "layout")
    if theirs.env_state_feature or (theirs.robot_state_feature and not cfg.zero_state):
        raise ValueError(
            f"expected a policy that needs a frame and an instruction, found {policy.name!r}, "
            "which needs the state of robot or scene too; a video world model has none. Take a "
            "policy trained without, or set zero_state=True if it can do without the robot's"
        )
    image = lookup(theirs.image_features, cfg.image_key, "image_key")
    remembering = set(getattr(policy, "_queues", None) or ()) - {"action"}
    if cfg.whole_chunks and (remembering or not hasattr(theirs, "chunk_size")):
        raise ValueError(
            f"expected a policy that gives chunks from one frame, found {policy.name!r}, which "
            "does not; set whole_chunks=False"
        )
    return PolicyMeta(
        name=policy.name,
        layout=cfg.layout,
        image_size=(image.shape[1], image.shape[2]),
        control_hz=cfg.control_hz,
        history=theirs.n_obs_steps,
        chunk=theirs.chunk_size if cfg.whole_chunks else 1,
        gripper=cfg.gripper,
        rotation=cfg.rotation,
        fingerprint=fingerprint(policy.state_dict()),
    )


def fingerprint(weights: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 of names and values."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(raw.numpy().tobytes())
    return digest.hexdigest()

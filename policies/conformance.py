"""Conformance tests that every policy passes.

class TestMine(PolicyConformance):
    @pytest.fixture
    def policy(self) -> MyPolicy: ...
"""

import inspect
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from v2w_gym.configs.robots import ACTION_LAYOUTS
from v2w_gym.policies.base import Policy

STEPS, SLOTS = 9, 3


class PolicyConformance:
    """Tests of a policy; a subclass adds the fixture `policy`.

    Override the fixture `instructions` if the policy does not know the default ones. A policy with
    `max_batch` below three is tested in `max_batch` slots.
    """

    @pytest.fixture
    def instructions(self) -> Sequence[str]:
        """Three instructions that the policy knows."""
        return ["close the drawer", "open the drawer", "close the drawer"]

    @pytest.fixture
    def slots(self, policy: Policy) -> int:
        """Number of slots in the tests."""
        return min(SLOTS, policy.meta.max_batch or SLOTS)

    @pytest.fixture
    def frames(self, policy: Policy, slots: int) -> NDArray[np.uint8]:
        """Random frames of all steps and slots: (STEPS, slots, H, W, 3)."""
        height, width = policy.meta.image_size or (64, 64)
        rng = np.random.default_rng(0)
        return rng.integers(0, 256, (STEPS, slots, height, width, 3), np.uint8)

    @pytest.fixture(autouse=True)
    def _closed(self, policy: Policy):  # type: ignore[no-untyped-def]
        yield
        policy.close()
        policy.close()  # twice is safe

    def test_actions_have_the_shape_of_the_meta(
        self, policy: Policy, frames: NDArray[np.uint8], instructions: Sequence[str]
    ) -> None:
        """Actions are (B, chunk, D) float32 and finite, with D of the layout."""
        actions = roll(policy, frames, instructions)
        size = ACTION_LAYOUTS[policy.meta.layout].size
        assert actions.shape == (STEPS, frames.shape[1], policy.meta.chunk, size)
        assert actions.dtype == np.float32
        assert np.isfinite(actions).all()

    def test_reset_clears_the_history(
        self, policy: Policy, frames: NDArray[np.uint8], instructions: Sequence[str]
    ) -> None:
        """The same frames after a reset give the same actions."""
        first = roll(policy, frames, instructions)
        roll(policy, frames[::-1], instructions[::-1], first_seed=7)
        assert (roll(policy, frames, instructions) == first).all()

    def test_one_slot_resets_while_the_others_continue(
        self, policy: Policy, frames: NDArray[np.uint8], instructions: Sequence[str], slots: int
    ) -> None:
        """After a partial reset, that slot acts as a new one and the others as before, bitwise."""
        if "slots" not in inspect.signature(policy.reset).parameters:
            pytest.skip("its reset takes no slots, so all slots are reset together")
        before, after = frames[: STEPS // 2], frames[STEPS // 2 :]
        through = roll(policy, frames, instructions)[len(before) :]
        fresh = roll(policy, after[:, :1], [instructions[1]], first_seed=7)
        roll(policy, before, instructions)
        again = [instructions[1], *["ignored"] * (slots - 1)]
        policy.reset(again, seeds=[7] * slots, slots=[0])
        everyone = np.ones(slots, bool)
        renewed = np.stack([policy.act(now, everyone).actions for now in after])
        assert (renewed[:, 0] == fresh[:, 0]).all()
        assert (renewed[:, 1:] == through[:, 1:]).all()
        for wrong in ([slots], [-1], [0.5], [[0]], [True] + [False] * (slots - 1)):
            with pytest.raises(ValueError, match="expected slots as numbers from 0"):
                policy.reset(instructions[:slots], seeds=range(slots), slots=wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"for all {slots} slots of the last reset"):
            policy.reset([], seeds=[], slots=[])
        policy.reset(instructions[:slots], seeds=range(slots), slots=[])  # resets no slot

    def test_a_slot_acts_the_same_alone(
        self, policy: Policy, frames: NDArray[np.uint8], instructions: Sequence[str]
    ) -> None:
        """A slot's actions do not depend on the rest of the batch, bitwise."""
        together = roll(policy, frames, instructions)
        for slot in range(frames.shape[1]):
            alone = roll(policy, frames[:, [slot]], [instructions[slot]], first_seed=slot)
            assert (alone[:, 0] == together[:, slot]).all()

    def test_an_inactive_slot_keeps_its_history(
        self, policy: Policy, frames: NDArray[np.uint8], instructions: Sequence[str], slots: int
    ) -> None:
        """A frame of an inactive slot does not enter that slot's history."""
        expected = roll(policy, frames[1:], instructions)[:, -1]
        policy.reset(instructions[:slots], seeds=range(slots))
        policy.act(frames[0], np.arange(slots) < slots - 1)
        everyone = np.ones(slots, bool)
        resumed = [policy.act(now, everyone).actions[-1] for now in frames[1:]]
        assert (np.stack(resumed) == expected).all()

    def test_slots_may_act_one_by_one(
        self, policy: Policy, frames: NDArray[np.uint8], instructions: Sequence[str], slots: int
    ) -> None:
        """One request per slot, last slot first, gives the same actions as one request for all."""
        together = roll(policy, frames, instructions)
        policy.reset(instructions[:slots], seeds=range(slots))
        for now, expected in zip(frames, together, strict=True):
            for slot in reversed(range(slots)):
                response = policy.act(now, np.arange(slots) == slot)
                assert (response.actions[slot] == expected[slot]).all()

    def test_frames_are_not_changed(
        self, policy: Policy, frames: NDArray[np.uint8], instructions: Sequence[str]
    ) -> None:
        """The policy does not write into its input frames."""
        before = frames.copy()
        roll(policy, frames, instructions)
        assert (frames == before).all()

    def test_wrong_inputs_are_refused(
        self, policy: Policy, frames: NDArray[np.uint8], instructions: Sequence[str], slots: int
    ) -> None:
        """Inputs of the wrong type, size or number raise an error that says what was expected."""
        policy.reset(instructions[:slots], seeds=range(slots))
        everyone = np.ones(slots, bool)
        with pytest.raises(ValueError, match="expected uint8 frames"):
            policy.act(frames[0].astype(np.float32), everyone)
        with pytest.raises(ValueError, match="expected uint8 frames"):
            policy.act(np.concatenate([frames[0], frames[0]]), everyone)
        with pytest.raises(ValueError, match="expected a bool mask"):
            policy.act(frames[0], np.ones(slots + 1, bool))
        with pytest.raises(ValueError, match="expected a bool mask"):
            policy.act(frames[0], np.ones(slots))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="expected one seed per instruction"):
            policy.reset(instructions[:slots], seeds=range(slots + 1))

    def test_too_many_slots_are_refused(self, policy: Policy, instructions: Sequence[str]) -> None:
        """A reset with more than `max_batch` slots raises."""
        if policy.meta.max_batch is None:
            pytest.skip("the policy has no max_batch")
        many = policy.meta.max_batch + 1
        with pytest.raises(ValueError, match="expected at most"):
            policy.reset([instructions[0]] * many, seeds=range(many))


def roll(
    policy: Policy, frames: NDArray[np.uint8], instructions: Sequence[str], first_seed: int = 0
) -> NDArray[np.float32]:
    """Return the policy's actions (steps, B, chunk, D) on `frames` (steps, B, H, W, 3)."""
    slots = frames.shape[1]
    policy.reset(instructions[:slots], seeds=range(first_seed, first_seed + slots))
    everyone = np.ones(slots, bool)
    return np.stack([policy.act(now, everyone).actions for now in frames])

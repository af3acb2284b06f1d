"""Any policy on a robot: independent slots, actions within bounds, executed chunks."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from v2w_gym.configs.policies import ProcessingConfig
from v2w_gym.configs.robots import (
    ACTION_LAYOUTS,
    GOOGLE_ROBOT,
    RECON_JACKAL,
    STANDIN_SAWYER,
    RobotSpec,
)
from v2w_gym.policies.base import ActionBatch, PolicyMeta, check_frames, check_reset, renew
from v2w_gym.policies.processing.actions import CLIPPED, IMPOSSIBLE
from v2w_gym.policies.robot_policy import IGNORED, LIT_BARS, PLAIN, RobotPolicy
from v2w_gym.policies.scripted import random_policy

OXE = PolicyMeta("chunks", "oxe7", chunk=4)
FRACTAL = PolicyMeta("chunks", "fractal13", chunk=3, gripper="relative")


class Chunks:
    """Gives chunks that depend on the slot's seed, its frame and the number of its requests."""

    def __init__(self, meta: PolicyMeta, spread: float = 0.5) -> None:
        self.meta = meta
        self.spread = spread
        self.requests: list[np.ndarray] = []
        self.shown: list[np.ndarray] = []
        self.closed = 0

    def reset(self, instructions: Sequence[str], *, seeds: Sequence[int]) -> None:
        check_reset(self.meta, instructions, seeds)
        self.seeds, self.times = list(seeds), [0] * len(seeds)

    def act(self, frames: np.ndarray, active: np.ndarray) -> ActionBatch:
        check_frames(self.meta, len(self.seeds), frames, active)
        self.requests.append(active.copy())
        self.shown.append(frames.copy())
        size = ACTION_LAYOUTS[self.meta.layout].size
        actions = np.full((len(active), self.meta.chunk, size), np.nan, np.float32)
        for slot in np.flatnonzero(active):
            actions[slot] = self.answer(slot, int(frames[slot].sum()), size)
            self.times[slot] += 1
        return ActionBatch(
            actions, tuple((int(slot), "requested") for slot in np.flatnonzero(active))
        )

    def answer(self, slot: int, frame: int, size: int) -> np.ndarray:
        rng = np.random.default_rng([self.seeds[slot], self.times[slot], frame])
        return rng.normal(0, self.spread, (self.meta.chunk, size))

    def close(self) -> None:
        self.closed += 1


class Renewable(Chunks):
    """Can be reset in some slots."""

    def reset(
        self,
        instructions: Sequence[str],
        *,
        seeds: Sequence[int],
        slots: Sequence[int] | None = None,
    ) -> None:
        held = len(self.seeds) if slots is not None else 0
        check_reset(self.meta, instructions, seeds, slots, held)
        self.seeds = renew(getattr(self, "seeds", []), seeds, slots)
        self.times = renew(getattr(self, "times", []), [0] * len(seeds), slots)


class Constant(Chunks):
    """Gives the same chunk at every request."""

    def __init__(self, meta: PolicyMeta, chunk: object) -> None:
        super().__init__(replace(meta, chunk=len(chunk)))
        self.chunk = np.array(chunk, np.float32)

    def answer(self, slot: int, frame: int, size: int) -> np.ndarray:
        return self.chunk


def some_frames(steps: int, slots: int, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(1, 256, (steps, slots, *size, 3), np.uint8)


def roll(
    on_robot: RobotPolicy, frames: np.ndarray, active: np.ndarray, seeds: Sequence[int]
) -> np.ndarray:
    """Actions (steps, B, A) on frames (steps, B, H, W, 3) with slots active or not (steps, B)."""
    on_robot.reset(["close the drawer"] * frames.shape[1], seeds=seeds)
    return np.stack([on_robot.act(now, who) for now, who in zip(frames, active, strict=True)])


SETTINGS = [
    ProcessingConfig(),
    ProcessingConfig(execution_horizon=2, sticky=3, scale=1.5),
    ProcessingConfig(ensemble=0.1, sticky=2, terminate="ignore"),
    ProcessingConfig(execution_horizon=1, gripper_deadband=0.2),
]


@pytest.mark.parametrize("cfg", SETTINGS)
@pytest.mark.parametrize("meta", [OXE, FRACTAL, replace(OXE, layout="wme10", gripper="absolute")])
@pytest.mark.parametrize("robot", [GOOGLE_ROBOT, STANDIN_SAWYER], ids=lambda r: r.name)
def test_any_chunks_become_actions_and_slots_stay_apart(
    cfg: ProcessingConfig, meta: PolicyMeta, robot: RobotSpec
) -> None:
    """Slots come and go; each gets what it gets alone, and what the robot executes."""
    frames = some_frames(12, 3)
    active = np.random.default_rng(1).random((12, 3)) < 0.7
    on_robot = RobotPolicy(Chunks(meta), robot, cfg)
    together = roll(on_robot, frames, active, seeds=range(3))
    events = on_robot.events
    for actions, who in zip(together, active, strict=True):
        assert (robot.check_actions(actions) == actions).all()
        assert (actions[:, robot.slices["terminate_episode"]].sum(1) == 1).all()
        assert (actions[~who] == robot.make_action()).all()
    for slot in range(3):
        alone = roll(on_robot, frames[:, [slot]], active[:, [slot]], seeds=[slot])
        assert (alone[:, 0] == together[:, slot]).all()
        assert on_robot.events == [events[slot]]
    # A slot that pauses continues unchanged.
    busy = active[:, 0]
    through = roll(on_robot, frames[busy][:, [0]], np.ones((busy.sum(), 1), bool), seeds=[0])
    assert (through[:, 0] == together[busy, 0]).all()


def test_a_reset_forgets_everything() -> None:
    frames, everybody = some_frames(6, 2), np.ones((6, 2), bool)
    on_robot = RobotPolicy(Chunks(OXE), GOOGLE_ROBOT, ProcessingConfig(sticky=15))
    first = roll(on_robot, frames, everybody, seeds=[0, 1])
    events = on_robot.events
    roll(on_robot, frames[:5], everybody[:5], seeds=[3, 4])  # ends in the middle of a chunk
    assert (roll(on_robot, frames, everybody, seeds=[0, 1]) == first).all()
    assert on_robot.events == events


@pytest.mark.parametrize("cfg", SETTINGS)
def test_a_slot_begins_anew_while_the_others_go_on(cfg: ProcessingConfig) -> None:
    """In the middle of chunks, of an ensemble, and of a gripper that is being sent on."""
    frames, everybody = some_frames(9, 3), np.ones((9, 3), bool)
    on_robot = RobotPolicy(Renewable(OXE), GOOGLE_ROBOT, cfg)
    through = roll(on_robot, frames, everybody, seeds=[0, 1, 2])
    events = on_robot.events
    fresh = roll(on_robot, frames[5:, [1]], everybody[5:, [1]], seeds=[7])
    fresh_events = on_robot.events[0]
    roll(on_robot, frames[:5], everybody[:5], seeds=[0, 1, 2])
    on_robot.reset(["", "open the drawer", ""], seeds=[5, 7, 5], slots=np.array([1]))
    renewed = np.stack([on_robot.act(now, everybody[0]) for now in frames[5:]])
    assert (renewed[:, 1] == fresh[:, 0]).all()
    assert (renewed[:, [0, 2]] == through[5:, [0, 2]]).all()
    assert on_robot.events == [events[0], fresh_events, events[2]]


def test_a_policy_that_is_only_reset_as_a_whole_says_so() -> None:
    on_robot = RobotPolicy(Chunks(OXE), GOOGLE_ROBOT)
    on_robot.reset(["a", "b"], seeds=[0, 1])
    on_robot.act(some_frames(1, 2)[0], np.ones(2, bool))
    with pytest.raises(ValueError, match="whose reset takes slots.*'chunks'.* reset all slots"):
        on_robot.reset(["a", "b"], seeds=[0, 1], slots=[0])
    on_robot.reset(["a", "b"], seeds=[0, 1], slots=[])  # nobody begins
    on_robot.act(some_frames(1, 2)[0], np.ones(2, bool))  # nothing was reset
    on_robot.reset(["a", "b"], seeds=[0, 1])


@pytest.mark.parametrize("slots", [[2], [-1], [True, False], [0.0], ["0"], [[0]]])
def test_slots_that_are_not_there_are_refused(slots: list) -> None:
    on_robot = RobotPolicy(Renewable(OXE), GOOGLE_ROBOT)
    on_robot.reset(["a", "b"], seeds=[0, 1])
    with pytest.raises(ValueError, match="expected slots as numbers from 0 to 1, .*flatnonzero"):
        on_robot.reset(["a", "b"], seeds=[0, 1], slots=slots)
    with pytest.raises(ValueError, match="for all 2 slots of the last reset .* found 1"):
        on_robot.reset(["a"], seeds=[0], slots=[0])


def test_only_slots_whose_chunk_has_run_out_get_a_request() -> None:
    policy = Chunks(OXE)
    on_robot = RobotPolicy(policy, GOOGLE_ROBOT, ProcessingConfig(execution_horizon=2))
    active = np.array([[1, 0], [1, 1], [1, 1], [1, 1]], bool)
    roll(on_robot, some_frames(4, 2), active, seeds=[0, 1])
    wanted = [[True, False], [False, True], [True, False], [False, True]]
    assert [list(who) for who in policy.requests] == wanted
    assert [events["requested"] for events in on_robot.events] == [2, 2]


def test_a_policy_gets_no_request_where_no_slot_acts() -> None:
    policy = Chunks(OXE)
    actions = roll(
        RobotPolicy(policy, GOOGLE_ROBOT), some_frames(1, 2), np.zeros((1, 2), bool), [0, 1]
    )
    assert not policy.requests
    assert (actions == GOOGLE_ROBOT.make_action()).all()


def test_a_chunk_of_seven_values_by_hand() -> None:
    """Hand, rotation and an open gripper that closes: +1 for two steps, then held."""
    chunk = [[0.1, 0, 0, 0, 0, 0.2, 1], [0.2, 0, 0, 0, 0, 0, 0], [0, 0, 0.3, 0, 0, 0, 0]]
    on_robot = RobotPolicy(
        Constant(OXE, chunk), GOOGLE_ROBOT, ProcessingConfig(scale=0.5, sticky=2)
    )
    actions = roll(on_robot, some_frames(3, 1), np.ones((3, 1), bool), seeds=[0])[:, 0]
    make = GOOGLE_ROBOT.make_action
    wanted = [
        make(world_vector=(0.05, 0, 0), rotation_delta=(0, 0, 0.2)),
        make(world_vector=(0.1, 0, 0), gripper_closedness_action=1),
        make(world_vector=(0, 0, 0.15), gripper_closedness_action=1),
    ]
    np.testing.assert_allclose(actions, wanted, atol=1e-7)
    assert on_robot.events == [{"requested": 1}]


def test_the_policy_knows_its_gripper_better_than_its_layout() -> None:
    chunk = [[0, 0, 0, 0, 0, 0, 0.25]] * 2
    everybody = np.ones((2, 1), bool)
    relative = RobotPolicy(Constant(replace(OXE, gripper="relative"), chunk), GOOGLE_ROBOT)
    assert (roll(relative, some_frames(2, 1), everybody, [0])[:, 0, 3] == 0.25).all()
    absolute = RobotPolicy(Constant(OXE, chunk), GOOGLE_ROBOT)
    assert (roll(absolute, some_frames(2, 1), everybody, [0])[:, 0, 3] == 0).all()


def test_a_gripper_of_another_convention_is_counted() -> None:
    chunk = [[0, 0, 0, 0, 0, 0, value] for value in (-1, -1, 1, 1)]
    frames, everybody = some_frames(4, 1), np.ones((4, 1), bool)
    wrong = RobotPolicy(Constant(OXE, chunk), GOOGLE_ROBOT)  # 1 open, 0 closed: -1 is neither
    assert list(roll(wrong, frames, everybody, [0])[:, 0, 3]) == [0, 0, -1, 0]
    assert wrong.events[0][IMPOSSIBLE] == 2
    right = RobotPolicy(Constant(replace(OXE, gripper="signed_closedness"), chunk), GOOGLE_ROBOT)
    assert list(roll(right, frames, everybody, [0])[:, 0, 3]) == [0, 0, 1, 0]
    assert IMPOSSIBLE not in right.events[0]


def test_a_chunk_is_carried_out_as_far_as_the_policys_makers_do() -> None:
    policy = Chunks(replace(OXE, execution_horizon=2))
    roll(RobotPolicy(policy, GOOGLE_ROBOT), some_frames(5, 1), np.ones((5, 1), bool), seeds=[0])
    assert len(policy.requests) == 3  # before steps 0, 2 and 4
    configured = Chunks(OXE)
    on_robot = RobotPolicy(configured, GOOGLE_ROBOT, ProcessingConfig(execution_horizon=2))
    roll(on_robot, some_frames(5, 1), np.ones((5, 1), bool), seeds=[0])
    assert len(configured.requests) == 3


def test_chunks_are_averaged_as_the_policys_makers_do() -> None:
    frames, everybody = some_frames(5, 1), np.ones((5, 1), bool)
    own = RobotPolicy(Chunks(replace(OXE, ensemble=0.1)), GOOGLE_ROBOT)
    configured = RobotPolicy(Chunks(OXE), GOOGLE_ROBOT, ProcessingConfig(ensemble=0.1))
    plain = RobotPolicy(Chunks(OXE), GOOGLE_ROBOT)
    averaged = roll(own, frames, everybody, [0])
    assert (averaged == roll(configured, frames, everybody, [0])).all()
    assert (averaged != roll(plain, frames, everybody, [0])).any()
    assert own.fingerprint == configured.fingerprint != plain.fingerprint
    assert own.identity == configured.identity != plain.identity


@pytest.mark.parametrize(
    "cfg", [ProcessingConfig(execution_horizon=3), ProcessingConfig(ensemble=0.0)]
)
@pytest.mark.parametrize("own", [{"execution_horizon": 2}, {"ensemble": 0.1}])
def test_the_settings_override_the_makers_and_say_so(
    cfg: ProcessingConfig, own: dict, caplog: pytest.LogCaptureFixture
) -> None:
    frames, everybody = some_frames(6, 1), np.ones((6, 1), bool)
    on_robot = RobotPolicy(Chunks(replace(OXE, **own)), GOOGLE_ROBOT, cfg)
    assert "policy 'chunks': its authors set" in caplog.text
    caplog.clear()
    plain = RobotPolicy(Chunks(OXE), GOOGLE_ROBOT, cfg)
    assert (roll(on_robot, frames, everybody, [0]) == roll(plain, frames, everybody, [0])).all()
    RobotPolicy(
        Chunks(replace(OXE, execution_horizon=3)), GOOGLE_ROBOT, replace(PLAIN, ensemble=None)
    )
    assert not caplog.text


def test_a_horizon_of_the_makers_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="execution_horizon between 0 .* and 4, .* found 5"):
        RobotPolicy(Chunks(replace(OXE, execution_horizon=5)), GOOGLE_ROBOT)


def test_the_policy_knows_its_rotation_better_than_its_layout() -> None:
    """A quarter turn about (1, 1, 0) / sqrt 2: as angles it is another turn than as an axis."""
    vector = np.array([1.0, 1.0, 0.0]) / np.sqrt(2) * np.pi / 4
    chunk, everybody = [[0, 0, 0, *vector, 0]], np.ones((1, 1), bool)
    as_angles = RobotPolicy(Constant(replace(OXE, chunk=1), chunk), GOOGLE_ROBOT)
    configured = roll(as_angles, some_frames(1, 1), everybody, [0])[0, 0, 4:7]
    np.testing.assert_allclose(configured, vector, atol=1e-6)
    meta = replace(OXE, chunk=1, rotation="axis_angle")
    about_axis = RobotPolicy(Constant(meta, chunk), GOOGLE_ROBOT)
    turned = roll(about_axis, some_frames(1, 1), everybody, [0])[0, 0, 4:7]
    assert abs(turned[2]) > 0.1  # yaw, which the vector does not have


def test_clipped_actions_are_counted() -> None:
    """Once per action; turns of the wrist, which this robot lacks, do not count."""
    chunk = [[0.2, -0.2, 0, 0, 0, 0, 1], [0.05, 0, 0, 1, 1, 1, 1], [0, 0, 0.06, 0, 0, 0, 1]]
    on_robot = RobotPolicy(Constant(OXE, chunk), STANDIN_SAWYER)
    actions = roll(on_robot, some_frames(3, 1), np.ones((3, 1), bool), [0])[:, 0, 10:]
    np.testing.assert_allclose(actions, [[0.05, -0.05, 0], [0.05, 0, 0], [0, 0, 0.05]])
    assert on_robot.events[0][CLIPPED] == 2


def ending(robot: RobotSpec = GOOGLE_ROBOT) -> Constant:
    return Constant(FRACTAL, [robot.make_action(), robot.make_action(terminate_episode=(1, 0, 0))])


def test_an_ending_is_passed_on_or_ignored() -> None:
    frames, everybody = some_frames(2, 1), np.ones((2, 1), bool)
    on_robot = RobotPolicy(ending(), GOOGLE_ROBOT)
    actions = roll(on_robot, frames, everybody, [0])[:, 0]
    assert list(GOOGLE_ROBOT.terminates(actions)) == [False, True]
    assert IGNORED not in on_robot.events[0]
    on_robot = RobotPolicy(ending(), GOOGLE_ROBOT, ProcessingConfig(terminate="ignore"))
    assert (roll(on_robot, frames, everybody, [0]) == GOOGLE_ROBOT.make_action()).all()
    assert on_robot.events[0][IGNORED] == 1


def test_frames_are_fitted_to_the_policy() -> None:
    policy = Chunks(replace(OXE, image_size=(16, 20)))
    frames = np.zeros((1, 2, 320, 512, 3), np.uint8)
    frames[:, :, :, 56:456] = 90
    on_robot = RobotPolicy(policy, GOOGLE_ROBOT, ProcessingConfig(crop="bars"))
    roll(on_robot, frames, np.array([[True, False]]), seeds=[0, 1])
    assert (policy.shown[0][0] == 90).all()
    assert policy.shown[0].shape == (2, 16, 20, 3)


def test_a_world_model_that_paints_over_the_bars_is_counted() -> None:
    policy = Chunks(replace(OXE, image_size=(16, 20), chunk=1))
    frames = np.zeros((3, 2, 320, 512, 3), np.uint8)
    frames[:, :, :, 56:456] = 90
    frames[2, 1, :, 456:] = 90
    on_robot = RobotPolicy(policy, GOOGLE_ROBOT, ProcessingConfig(crop="bars"))
    roll(on_robot, frames, np.ones((3, 2), bool), seeds=[0, 1])
    assert [events[LIT_BARS] for events in on_robot.events] == [0, 1]
    with pytest.raises(ValueError, match="found a mean of 90; use crop=none"):
        roll(on_robot, frames[2:], np.ones((1, 2), bool), seeds=[0, 1])  # so it began


def test_bars_are_refused_even_in_frames_of_the_right_size() -> None:
    on_robot = RobotPolicy(Chunks(replace(OXE, image_size=(32, 32))), GOOGLE_ROBOT)
    frames = some_frames(1, 2)
    frames[:, 1, :2] = frames[:, 1, -2:] = 0
    roll(on_robot, frames, np.array([[True, False]]), [0, 1])  # nobody looks at the second slot
    with pytest.raises(ValueError, match="found black rows"):
        roll(on_robot, frames, np.array([[False, True]]), [0, 1])


def test_a_value_that_is_no_number_stops_the_run() -> None:
    chunk = np.zeros((2, 7), np.float32)
    policy = Constant(OXE, chunk)
    on_robot = RobotPolicy(policy, GOOGLE_ROBOT)
    frames, who = some_frames(2, 2), np.array([False, True])
    roll(on_robot, frames, np.stack([who, who]), [0, 1])
    policy.chunk[1, 3] = np.inf
    with pytest.raises(ValueError, match="'chunks', found inf in slot 1, step 2"):
        on_robot.act(frames[0], who)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (ActionBatch(torch.zeros(1, 2, 7, dtype=torch.bfloat16)), "torch.bfloat16"),
        (torch.zeros(1, 2, 7), "torch.float32"),
        (ActionBatch(np.full((1, 2, 7), "a")), "<U1"),
        ([[[0.0] * 7] * 2], "list"),
        (None, "NoneType"),
        (np.zeros((1, 2, 7), np.float32), "float32"),
    ],
)
def test_an_answer_that_is_no_array_is_refused(answer: object, found: str) -> None:
    policy = Constant(OXE, np.zeros((2, 7)))
    on_robot = RobotPolicy(policy, GOOGLE_ROBOT)
    policy.act = lambda frames, active: answer
    with pytest.raises(ValueError, match=f"float32 actions, a NumPy array, .* found {found};"):
        roll(on_robot, some_frames(1, 1), np.ones((1, 1), bool), [0])


@pytest.mark.parametrize("events", [None, ("x",), ((1, "x"),), ((0, 5),), ((0, "two\nlines"),)])
def test_events_that_cannot_be_counted_are_refused(events: object) -> None:
    policy = Constant(OXE, np.zeros((2, 7)))
    on_robot = RobotPolicy(policy, GOOGLE_ROBOT)
    policy.act = lambda frames, active: ActionBatch(np.zeros((1, 2, 7), np.float32), events)
    with pytest.raises(ValueError, match="expected events of policy 'chunks' as pairs of a slot"):
        roll(on_robot, some_frames(1, 1), np.ones((1, 1), bool), [0])


@pytest.mark.parametrize("value", [np.nan, 1e300])
def test_a_number_that_no_robot_executes_is_refused_anywhere_in_a_chunk(value: float) -> None:
    policy = Constant(OXE, np.zeros((2, 7)))
    on_robot = RobotPolicy(policy, GOOGLE_ROBOT, ProcessingConfig(execution_horizon=1))
    wrong = np.zeros((1, 2, 7))
    wrong[0, 1, 2] = value
    policy.act = lambda frames, active: ActionBatch(wrong)
    with pytest.raises(ValueError, match="expected finite actions from policy 'chunks'"):
        roll(on_robot, some_frames(1, 1), np.ones((1, 1), bool), [0])


def test_settings_of_what_a_robot_lacks_are_refused() -> None:
    policy = Chunks(PolicyMeta("chunks", "recon3"))
    for wrong in ({"scale": 2.0}, {"sticky": 15}, {"gripper_deadband": 0.01}):
        (name,) = wrong
        with pytest.raises(ValueError, match=f"expected no {name} for robot 'recon_jackal'"):
            RobotPolicy(policy, RECON_JACKAL, ProcessingConfig(**wrong))


def test_a_policy_keeps_to_its_meta() -> None:
    policy = Constant(OXE, np.zeros((2, 7)))
    on_robot = RobotPolicy(policy, GOOGLE_ROBOT)
    policy.act = lambda frames, active: ActionBatch(np.zeros((1, 4, 7), np.float32))
    with pytest.raises(ValueError, match=r"\(1, 2, 7\) from policy 'chunks'.*found \(1, 4, 7\)"):
        roll(on_robot, some_frames(1, 1), np.ones((1, 1), bool), [0])


def test_a_policy_may_write_into_the_same_array_again() -> None:
    policy = Constant(OXE, [[0.1] * 7, [0.2] * 7])
    answer = ActionBatch(np.tile(policy.chunk, (2, 1, 1)))

    def act(frames: np.ndarray, active: np.ndarray) -> ActionBatch:
        answer.actions[:] = np.where(active[:, None, None], policy.chunk, np.nan)
        return answer

    policy.act = act
    active = np.array([[1, 0], [0, 1], [1, 0]], bool)
    actions = roll(RobotPolicy(policy, GOOGLE_ROBOT), some_frames(3, 2), active, [0, 1])
    assert actions[2, 0, 10] == np.float32(0.2)


def test_what_the_policy_refuses_is_refused() -> None:
    on_robot = RobotPolicy(Chunks(replace(OXE, max_batch=1)), GOOGLE_ROBOT)
    with pytest.raises(ValueError, match="expected at most 1 slots"):
        on_robot.reset(["go", "go"], seeds=[0, 1])


def test_wrong_inputs_are_refused() -> None:
    on_robot = RobotPolicy(Chunks(OXE), GOOGLE_ROBOT)
    frames, everybody = some_frames(1, 2)[0], np.ones(2, bool)
    with pytest.raises(ValueError, match="one per instruction of the last reset"):
        on_robot.act(frames, everybody)
    on_robot.reset(["go", "go"], seeds=[0, 1])
    for wrong in (frames[:1], frames[0], frames.astype(np.float32), frames[..., :1], frames[:, :0]):
        with pytest.raises(ValueError, match=r"expected uint8 frames of shape \(2, H, W, 3\)"):
            on_robot.act(wrong, everybody)
    with pytest.raises(ValueError, match="expected a bool mask"):
        on_robot.act(frames, np.ones(2))


def test_no_slots_no_actions() -> None:
    on_robot = RobotPolicy(Chunks(OXE), GOOGLE_ROBOT)
    on_robot.reset([], seeds=[])
    assert on_robot.act(some_frames(1, 0)[0], np.ones(0, bool)).shape == (0, 13)


def test_another_rate_is_refused_without_any_rate() -> None:
    policy = Chunks(replace(OXE, control_hz=5))
    with pytest.raises(ValueError, match="for 3 actions per second.* found 5 .*any_rate=true"):
        RobotPolicy(policy, GOOGLE_ROBOT)
    RobotPolicy(policy, GOOGLE_ROBOT, ProcessingConfig(any_rate=True))
    RobotPolicy(Chunks(replace(OXE, control_hz=3)), GOOGLE_ROBOT)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"crop": "bar"}, "expected crop .* did you mean 'bars'"),
        ({"resize": "lanczos"}, "expected resize .* did you mean 'lanczos3'"),
        ({"terminate": "stopp"}, "expected terminate .* did you mean 'stop'"),
        ({"scale": -1}, "expected scale >= 0, found -1"),
        ({"scale": float("nan")}, "cannot set scale: expected a finite number"),
        ({"sticky": 0}, "expected sticky >= 1, found 0"),
        ({"gripper_deadband": -0.1}, "expected gripper_deadband >= 0"),
        ({"execution_horizon": 5}, "found 5"),
        ({"ensemble": 0.1, "execution_horizon": 3}, "together with an ensemble"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RobotPolicy(Chunks(OXE), GOOGLE_ROBOT, ProcessingConfig(**wrong))


def test_a_layout_of_another_robot_is_refused() -> None:
    with pytest.raises(ValueError, match="found 'recon3'"):
        RobotPolicy(Chunks(replace(OXE, layout="recon3")), GOOGLE_ROBOT)
    with pytest.raises(ValueError, match="did you mean 'oxe7'"):
        RobotPolicy(Chunks(replace(OXE, layout="oxe")), GOOGLE_ROBOT)


def test_a_policy_of_the_robots_own_gives_what_it_gave() -> None:
    policy = random_policy(STANDIN_SAWYER)
    frames, everybody = some_frames(5, 2), np.ones((5, 2), bool)
    acted = roll(RobotPolicy(policy, STANDIN_SAWYER), frames, everybody, [0, 1])
    policy.reset(["go", "go"], seeds=[0, 1])
    given = [policy.act(now, everybody[0]).actions[:, 0] for now in frames]
    assert (acted == np.stack(given)).all()


def test_closing_closes_the_policy() -> None:
    policy = Chunks(OXE)
    on_robot = RobotPolicy(policy, GOOGLE_ROBOT)
    on_robot.close()
    assert policy.closed == 1
    assert on_robot.meta is policy.meta


@pytest.mark.parametrize("wrong", [Constant, lambda frame: frame, {"meta": 1}, None, "zero"])
def test_what_is_no_policy_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="expected a policy with `meta`"):
        RobotPolicy(wrong, GOOGLE_ROBOT)  # type: ignore[arg-type]

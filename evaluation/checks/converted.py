"""Compare a converted RT-1 with the SavedModel it was made from, frame by frame."""

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.convert import VerifyPolicyConfig
from v2w_gym.configs.names import lookup
from v2w_gym.configs.policies import ProcessingConfig
from v2w_gym.configs.robots import ROBOTS, TERMINATE
from v2w_gym.evaluation.checks.shown_frames import find_weakness, load_frames
from v2w_gym.policies.adapters.saved_model import load_saved_model
from v2w_gym.policies.base import Policy
from v2w_gym.policies.instructions import load_table
from v2w_gym.policies.processing.images import check_bars, preprocess_frames
from v2w_gym.policies.rt1.policy import RT1Policy, load_rt1
from v2w_gym.policies.rt1.tokenizer import TOKEN_ORDER, ActionTokenizer
from v2w_gym.world_models.files import write_text

LEAST_STEPS = 8
"""More than the six frames of RT-1's history, so that its window has to slide."""
TIE = 1e-3
"""Rounding may swap the ranks of two logits that are nearer than this."""
ACTION_TOLERANCE = 1e-5
"""Largest difference between two actions of the same token; single precision needs 1e-6."""


@dataclass(frozen=True)
class FieldAgreement:
    """How far two policies agree in one field of the action.

    Attributes:
        tokens: Tokens compared.
        ties: Tokens that differ where the converted network's best two logits are nearly equal.
        different: Tokens that differ elsewhere.
        worst: Largest difference between two values of the action.
        apart: Largest difference between two values that have the same token.
    """

    tokens: int
    ties: int
    different: int
    worst: float
    apart: float


@dataclass(frozen=True)
class Agreement:
    """How far a converted policy agrees with its original.

    Attributes:
        steps: Number of frames given to both.
        fields: Agreement by field, in the order of the tokens.
        control: Tokens of the converted policy that change when red and blue are swapped in the
            frames. If none does, a wrong normalisation of images would go unnoticed too.
        warnings: Reasons why the comparison is weak.
    """

    steps: int
    fields: Mapping[str, FieldAgreement]
    control: int
    warnings: tuple[str, ...] = ()

    @property
    def total(self) -> FieldAgreement:
        """All fields together."""
        parts = self.fields.values()
        return FieldAgreement(
            tokens=sum(part.tokens for part in parts),
            ties=sum(part.ties for part in parts),
            different=sum(part.different for part in parts),
            worst=max(part.worst for part in parts),
            apart=max(part.apart for part in parts),
        )

    @property
    def passed(self) -> bool:
        """Whether the converted policy may replace its original."""
        return self.verdict == "equal"

    @property
    def verdict(self) -> str:
        """`equal`, or what is wrong."""
        total = self.total
        if total.different:
            return f"different: {total.different} of {total.tokens} tokens"
        if total.apart > ACTION_TOLERANCE:
            return f"different: the same tokens mean actions {total.apart:.2g} apart"
        if not self.control:
            return "no power: swapped colours change no token either; show other frames"
        return "equal"


def verify_policy(cfg: VerifyPolicyConfig) -> Agreement:
    """Run a converted policy and its original on the same frames, and write the comparison.

    Raises:
        FileNotFoundError: A missing file.
        ValueError: Frames that do not fit, an unknown instruction, or a damaged policy.
        OSError: The server of the SavedModel cannot be started or kept alive.
    """
    robot = lookup(ROBOTS, cfg.robot, "robot")
    output = Path(cfg.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.is_dir():
        raise ValueError(f"expected output to be a file, found a folder at {output}")
    table = load_table(Path(cfg.instructions)) if cfg.instructions else None
    converted = load_rt1(Path(cfg.converted), robot, table=table)
    frames = load_frames(Path(cfg.frames), cfg.steps)
    processing = ProcessingConfig(crop=cfg.crop)
    check_bars(frames, processing)
    resized = preprocess_frames(frames, converted.meta.image_size, processing)
    instruction = cfg.instruction or next(iter(converted.table.texts), "")
    converted.table.row(instruction)  # an unknown one fails before TensorFlow is started
    original = load_saved_model(Path(cfg.saved_model), robot, converted.table, cfg.python)
    with closing(original):
        result = compare(converted, original, resized, instruction)
    provenance = {
        "settings": {**asdict(cfg), "instruction": instruction},
        "converted": converted.meta.fingerprint,
        "saved_model": original.meta.fingerprint,
        "saved_model_says": original.metadata["says"],
    }
    _write(output, result, provenance)
    return result


def compare(
    converted: RT1Policy, original: Policy, frames: NDArray[np.uint8], instruction: str
) -> Agreement:
    """Give both policies `frames` (T, H, W, 3), one by one, and compare their actions.

    Raises:
        ValueError: Too few frames, frames of another size, or an unknown instruction.
    """
    if len(frames) < LEAST_STEPS:
        raise ValueError(
            f"expected at least {LEAST_STEPS} frames, so that the policies' history fills up and "
            f"slides, found {len(frames)}; name a longer recording, or set steps higher"
        )
    tokenizer = converted.tokenizer
    ours, gaps = _choose(converted, frames, instruction)
    swapped, _ = _choose(converted, frames[..., ::-1], instruction)
    theirs = _act(original, frames, instruction)
    tokens, expected = to_tokens(tokenizer, ours), to_tokens(tokenizer, theirs)
    control = int((to_tokens(tokenizer, swapped) != tokens).sum())
    fields, end = {}, 0
    for name in TOKEN_ORDER:
        values = tokenizer.robot.slices[name]
        start, end = end, end + (1 if name == TERMINATE else values.stop - values.start)
        wrong = tokens[:, start:end] != expected[:, start:end]
        ties = wrong & (gaps[:, start:end] < TIE)
        distance = np.abs(ours[:, values] - theirs[:, values])
        fields[name] = FieldAgreement(
            tokens=wrong.size,
            ties=int(ties.sum()),
            different=int((wrong & ~ties).sum()),
            worst=float(distance.max()),
            apart=float(np.where(wrong, 0, distance).max()),
        )
    return Agreement(len(frames), fields, control, find_weakness(frames))


def to_tokens(tokenizer: ActionTokenizer, actions: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the tokens (T, tokens) that actions (T, A) were decoded from.

    Decoded values lie on the edge between two bins, where rounding would decide which of them
    `encode` takes. Half a bin is added, so that it always takes the right one.
    """
    robot = tokenizer.robot
    half = np.float32(0.5) * (robot.high - robot.low) / np.float32(tokenizer.bins - 1)
    half[robot.slices[TERMINATE]] = 0
    return tokenizer.encode(actions + half)


def to_table(result: Agreement) -> str:
    """Return the comparison as lines of text."""
    head = f"{'field':<37}{'tokens':>7}{'equal':>7}{'ties':>6}{'different':>11}{'worst':>10}"
    rows = [
        f"{name:<37}{part.tokens:>7}{part.tokens - part.ties - part.different:>7}{part.ties:>6}"
        f"{part.different:>11}{part.worst:>10.2g}"
        for name, part in {**result.fields, "all": result.total}.items()
    ]
    control = (
        f"with red and blue swapped, {result.control} of {result.total.tokens} tokens of the "
        "converted policy change"
    )
    warnings = [f"warning: {text}" for text in result.warnings]
    verdict = f"{result.verdict} ({result.steps} steps)"
    return "\n".join([head, *rows, control, *warnings, verdict])


def _choose(
    policy: RT1Policy, frames: NDArray[np.uint8], instruction: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the actions (T, A), and the gap between the best two logits of each token."""
    policy.reset([instruction], seeds=[0])
    slot = np.zeros(1, np.int64)
    logits = np.concatenate(
        [policy.token_history.step(frame[None], slot).numpy() for frame in frames]
    )
    second, best = np.moveaxis(np.sort(logits)[..., -2:], -1, 0)
    return policy.tokenizer.decode(logits.argmax(-1)), best - second


def _act(policy: Policy, frames: NDArray[np.uint8], instruction: str) -> NDArray[np.float32]:
    policy.reset([instruction], seeds=[0])
    return np.stack([policy.act(frame[None], np.ones(1, bool)).actions[0, 0] for frame in frames])


def _write(path: Path, result: Agreement, provenance: Mapping[str, Any]) -> None:
    found = {"verdict": result.verdict, **asdict(result), "total": asdict(result.total)}
    write_text(path, json.dumps({**found, **provenance}, indent=2) + "\n")

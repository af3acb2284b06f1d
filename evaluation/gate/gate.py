"""The validation gate: checks that a world model must pass before its rankings are relied on.

The open loop replays recorded actions and compares imagined frames with recorded ones. The closed
loop compares a finished `v2w rank` run with trials.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from v2w_gym.configs.evaluate import GateConfig
from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import RobotSpec
from v2w_gym.configs.tasks import tasks_of
from v2w_gym.evaluation.compare.comparison import Comparison, compare
from v2w_gym.evaluation.gate.open_loop import OpenLoop, imagine, measure_open_loop
from v2w_gym.evaluation.judges.checks import check_rollout_judge, load_judged_episode
from v2w_gym.evaluation.records.rows import ROWS, load_rows
from v2w_gym.evaluation.records.strips import save_strips
from v2w_gym.evaluation.records.trials import check_fingerprints, load_trials
from v2w_gym.judges.base import Judge, MeasuringJudge
from v2w_gym.judges.loading import load_judge
from v2w_gym.world_models.data.labelled import LabelledEpisode, list_labelled, read_task
from v2w_gym.world_models.data.recorded_actions import NO_MISFITS, execute_recorded, warn_of
from v2w_gym.world_models.files import check_writable, write_text
from v2w_gym.world_models.loading import load_with

NULL_POLICY = "zero"


@dataclass(frozen=True)
class Check:
    """One requirement of the validation gate.

    Attributes:
        task: Name of the task.
        asked: The requirement, in words.
        found: The measurement, in words.
        passed: Whether it holds.
    """

    task: str
    asked: str
    found: str
    passed: bool


@dataclass(frozen=True)
class GateResult:
    """Everything the gate measured.

    Attributes:
        model: Fingerprint of the world model.
        judge: Name of the judge.
        open_loop: One per task.
        checks: All requirements, with their measurements.
    """

    model: str
    judge: str
    open_loop: tuple[OpenLoop, ...]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)


def run_gate(cfg: GateConfig) -> GateResult:
    """Measure a world model on held-out episodes and write `gate.json`, `gate.md` and strips.

    Raises:
        FileNotFoundError: No checkpoint, judge, held-out episodes or rank run.
        ValueError: The rank run is of another world model, or an episode of another robot.
    """
    model = load_with(cfg)
    judge = load_judge(cfg.judge, model.robot)
    closed_loop = _closed_loop_checks(cfg, model.fingerprint)
    held_out = _held_out(cfg, model.robot, judge)
    check_rollout_judge(judge, model, list(held_out))
    output = Path(cfg.output)
    check_writable(output)
    measured = []
    for task, episodes in held_out.items():
        imagined = imagine(model, episodes, cfg.batch_size)
        measured.append(measure_open_loop(episodes, imagined, judge))
        save_strips(output / f"{task}.png", [e.frames for e in episodes[:6]], list(imagined[:6]))
    open_loop = [check for result in measured for check in _open_loop_checks(result, cfg)]
    checks = (*open_loop, *closed_loop)
    result = GateResult(model.fingerprint, judge.name, tuple(measured), checks)
    pages = {
        "gate.json": json.dumps(asdict(result), indent=2) + "\n",
        "gate.md": to_markdown(result),
    }
    for name, text in pages.items():
        write_text(output / name, text)
    return result


def to_markdown(result: GateResult) -> str:
    """Return the result as a page to read and commit."""
    lines = [
        f"# Validation gate: {'passed' if result.passed else 'NOT passed'}",
        "",
        "Reality is the stand-in robot, a physics simulation. Intervals are Wilson's, 95 %.",
        "",
        f"World model `{result.model[:12]}`, judge `{result.judge}`.",
        "",
        *_table(
            ["task", "required", "found", "result"],
            [[c.task, c.asked, c.found, "pass" if c.passed else "**fail**"] for c in result.checks],
        ),
        "",
        *_table(
            ["task", *ACCURACY],
            [[r.task, *(write(r) for write in ACCURACY.values())] for r in result.open_loop],
        ),
        "",
        "PSNR in dB of the imagined frame, and of repeating the first frame, after k steps:",
        "",
        *_table(
            ["task", *(f"k = {h}" for h in result.open_loop[0].psnr)],
            [
                [r.task, *(f"{r.psnr[h]:.1f} / {r.psnr_copy[h]:.1f}" for h in r.psnr)]
                for r in result.open_loop
            ],
        ),
    ]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    first, *others = (f"| {' | '.join(cells)} |" for cells in [head, *rows])
    return [first, "|---" * len(head) + "|", *others]


def _reading(result: OpenLoop) -> str:
    if result.reading is None:
        return "none"
    r = result.reading
    return f"{r.quantity}: {r.error:.1f} / {r.error_on_real:.1f} {r.unit}"


ACCURACY: Mapping[str, Callable[[OpenLoop], str]] = {
    "episodes": lambda r: str(r.n),
    "solved in reality": lambda r: str(r.solved),
    "missed": lambda r: str(r.missed),
    "invented": lambda r: str(r.invented),
    "abstained": lambda r: str(r.abstained),
    "agreement on real frames": lambda r: f"{r.agreed_on_real / r.n:.2f}",
    "agreement of guessing the majority": lambda r: f"{r.majority:.2f}",
    "error of the reading: imagined / real": _reading,
}
"""Columns of the page on the judge's accuracy on imagined frames."""


def _held_out(cfg: GateConfig, robot: RobotSpec, judge: Judge) -> dict[str, list[LabelledEpisode]]:
    """Read the first `limit` episodes of every task that has any; of the others, only the task.

    Raises:
        FileNotFoundError: No episodes.
        ValueError: A damaged episode, one of another robot, length or task, or one without the
            judge's quantity.
    """
    by_task: dict[str, list[LabelledEpisode]] = {task: [] for task in tasks_of(robot.name)}
    quantity = judge.quantity if isinstance(judge, MeasuringJudge) else None
    misfits = NO_MISFITS
    for path in list_labelled(cfg.episodes):
        of_task = lookup(by_task, read_task(path), f"the task of {path}")
        if len(of_task) < cfg.limit:
            episode = load_judged_episode(path, robot, quantity)
            actions, lacking = execute_recorded(episode.actions, robot, path)
            misfits += lacking
            of_task.append(replace(episode, actions=actions))
            _check_length(path, episode, of_task[0])
    warn_of(misfits, ", ".join(cfg.episodes))
    return {task: episodes for task, episodes in by_task.items() if episodes}


def _check_length(path: Path, episode: LabelledEpisode, first: LabelledEpisode) -> None:
    if len(episode.frames) != len(first.frames):
        raise ValueError(
            f"expected {len(first.frames)} frames in {path}, as in the first episode of its task, "
            f"found {len(episode.frames)}"
        )


def _open_loop_checks(result: OpenLoop, cfg: GateConfig) -> Iterator[Check]:
    low, high = result.interval
    yield Check(
        result.task,
        f"the judge sees the recorded outcome in at least {cfg.agreement:.2f} of held-out episodes",
        f"{result.agreement:.2f} [{low:.2f}, {high:.2f}], n = {result.n}",
        result.agreement >= cfg.agreement,
    )
    if reading := result.reading:
        yield Check(
            result.task,
            f"the change in {reading.quantity} correlates with the recorded one by at least "
            f"{cfg.correlation:.2f}",
            f"{reading.change_correlation:.2f}, n = {result.n}",
            reading.change_correlation >= cfg.correlation,
        )


def _closed_loop_checks(cfg: GateConfig, fingerprint: str) -> list[Check]:
    if cfg.run is None:
        return [Check("all", "closed loop", "not measured: set run=", False)]
    rows = load_rows(Path(cfg.run) / ROWS)
    others = set(rows["model_fingerprint"]) - {fingerprint}
    if others:
        raise ValueError(
            f"expected a rank run of world model {fingerprint[:12]} in {cfg.run}, found "
            f"{sorted(others)}; run `v2w rank` with this checkpoint and a new output first"
        )
    trials = load_trials(cfg.trials)
    check_fingerprints(trials, dict(zip(rows["policy"], rows["policy_fingerprint"], strict=True)))
    comparison = compare(rows, trials)
    if not comparison.compared:
        raise ValueError(
            f"expected trials of a policy in {cfg.run}, found: {' '.join(comparison.notes)} Record "
            "some with `v2w trials`"
        )
    return [
        check
        for task in comparison.simulated_tasks
        for check in (_order_check(comparison, task), _null_check(comparison, task, cfg))
    ]


def _order_check(comparison: Comparison, task: str) -> Check:
    """Require the same order in simulation for pairs that differ significantly in reality."""
    pairs = [p for p in comparison.pairs if p.task == task and p.separation in REAL_DIFFERENCE]
    wrong = [f"{p.first} / {p.second}" for p in pairs if p.gap_simulated * p.gap_real <= 0]
    found = f"{len(pairs) - len(wrong)} of {len(pairs)}"
    return Check(
        task,
        "every pair of policies that the trials tell apart is in the same order",
        found + (f"; not {', '.join(wrong)}" if wrong else ""),
        not wrong and bool(pairs),
    )


def _null_check(comparison: Comparison, task: str, cfg: GateConfig) -> Check:
    asked = f"the policy that does nothing succeeds in at most {cfg.null_rate:.2f} of rollouts"
    cell = comparison.cell(task, NULL_POLICY)
    if cell is None:
        return Check(task, asked, f"no policy {NULL_POLICY!r} in the run", False)
    low, high = cell.simulated.interval
    found = f"{cell.simulated.value:.2f} [{low:.2f}, {high:.2f}], n = {cell.simulated.n}"
    return Check(task, asked, found, cell.simulated.value <= cfg.null_rate)


REAL_DIFFERENCE = ("same order", "opposite order", "only real")
"""Separations of pairs that differ significantly in reality."""

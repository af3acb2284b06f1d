"""Run every golden case in a folder and say how far this implementation is from it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from v2w_gym.configs.names import lookup
from v2w_gym.evaluation.checks.parity.cases import CASES
from v2w_gym.evaluation.checks.parity.golden import load_case

ODD_CASE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""A case comes from outside; one that is odd must not stop the others."""


@dataclass(frozen=True)
class CaseResult:
    """What one case found.

    Attributes:
        case: Its name.
        compared: Number of tensors compared.
        relative: Worst relative error over those with a relative tolerance.
        used: Largest share of its tolerance that a tensor used up; above 1 fails.
        worst: The tensor which used most.
        tolerance: That tensor's tolerance.
        problem: Why the case could not be run, or nothing.
    """

    case: str
    compared: int = 0
    relative: float = 0.0
    used: float = 0.0
    worst: str = ""
    tolerance: str = ""
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether everything was compared and nothing is over its tolerance."""
        return not self.problem and self.compared > 0 and self.used <= 1

    def __str__(self) -> str:
        """Return one line for people."""
        if self.problem:
            return f"{self.case:<16} COULD NOT RUN  {self.problem}"
        return (
            f"{self.case:<16} {'pass' if self.passed else 'FAIL':<5} {self.compared:4d} tensors  "
            f"worst relative error {self.relative:.1e}  uses {self.used:7.1%} of tolerance "
            f"{self.tolerance} ({self.worst})"
        )


def run_parity(folder: Path) -> Iterator[CaseResult]:
    """Run every case in `folder` and in the folders in it, one result each, in order of path.

    A case that fails or cannot be run is a result too, and the others still run.

    Raises:
        FileNotFoundError: No such folder, or no case in it.
    """
    paths = sorted([*folder.glob("*.json"), *folder.glob("*/*.json")])
    if not paths:
        raise FileNotFoundError(f"expected golden cases (<case>.json) in {folder}, found none")
    return (run_case(path) for path in paths)


def run_case(path: Path) -> CaseResult:
    """Run the case at `path` (.json)."""
    try:
        case = load_case(path)
        check = lookup(CASES, case.name, "case")
        comparisons = list(check(case))
    except ODD_CASE as error:
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return CaseResult(path.stem, problem=problem)
    if not comparisons:
        return CaseResult(case.name, problem="expected tensors to compare, found none")
    worst = max(comparisons, key=lambda comparison: comparison.used)
    return CaseResult(
        case=path.stem,
        compared=len(comparisons),
        relative=max(comparison.relative for comparison in comparisons),
        used=worst.used,
        worst=worst.name,
        tolerance=str(worst.tolerance),
    )

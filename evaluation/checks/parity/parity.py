"""Run every reference test vector in a folder and say how far this implementation is from it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from v2w_gym.configs.names import lookup
from v2w_gym.evaluation.checks.parity.network import training_loss, unet, weight_transfer
from v2w_gym.evaluation.checks.parity.rt1 import rt1
from v2w_gym.evaluation.checks.parity.sampling import ddim_ar, ddim_nar, schedule
from v2w_gym.evaluation.checks.parity.towers import clip_image, clip_text, resampler, vae
from v2w_gym.evaluation.checks.parity.vectors import Comparison, Vector, load_vector

CHECKS: Mapping[str, Callable[[Vector], Iterator[Comparison]]] = {
    "unet_noncausal": unet,
    "unet_causal": unet,
    "unet_csgo": unet,
    "unet_recon": unet,
    "weight_transfer": weight_transfer,
    "schedule": schedule,
    "ddim_ar": ddim_ar,
    "ddim_nar": ddim_nar,
    "training_loss": training_loss,
    "vae": vae,
    "resampler": resampler,
    "clip_image": clip_image,
    "clip_text": clip_text,
    "rt1": rt1,
}
"""Kind of vector -> what runs our implementation on it."""
ODD_VECTOR = (
    *(ArithmeticError, AssertionError, AttributeError),
    *(LookupError, RuntimeError, TypeError, ValueError),
)
"""A vector comes from outside; one that is odd must not stop the others."""


@dataclass(frozen=True)
class Result:
    """What one vector found: comparisons, or why it could not be run."""

    name: str
    comparisons: tuple[Comparison, ...] = ()
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether everything was compared and nothing is over its tolerance."""
        return not self.problem and self.worst.used <= 1

    @property
    def worst(self) -> Comparison:
        """The comparison that uses most of its tolerance."""
        return max(self.comparisons, key=lambda comparison: comparison.used)

    def __str__(self) -> str:
        """Return one line for people."""
        if self.problem:
            return f"{self.name:<16} COULD NOT RUN  {self.problem}"
        relative, worst = max(c.relative for c in self.comparisons), self.worst
        return (
            f"{self.name:<16} {'pass' if self.passed else 'FAIL':<5} {len(self.comparisons):4d} "
            f"tensors  worst relative error {relative:.1e}  uses {worst.used:7.1%} of tolerance "
            f"{worst.tolerance} ({worst.name})"
        )


def run_parity(folder: Path) -> Iterator[Result]:
    """Run every vector in `folder` and in the folders in it, one result each, in order of path.

    Raises:
        FileNotFoundError: No such folder, or no vector in it.
    """
    paths = sorted([*folder.glob("*.json"), *folder.glob("*/*.json")])
    if not paths:
        raise FileNotFoundError(
            f"expected reference test vectors (<vector>.json) in {folder}, found none"
        )
    return (run_vector(path) for path in paths)


def run_vector(path: Path) -> Result:
    """Run the vector at `path` (.json); one that cannot be run is a result too."""
    try:
        vector = load_vector(path)
        comparisons = tuple(lookup(CHECKS, vector.kind, "case")(vector))
    except ODD_VECTOR as error:
        return Result(path.stem, problem=f"{type(error).__name__}: {' '.join(str(error).split())}")
    problem = "" if comparisons else "expected tensors to compare, found none"
    return Result(path.stem, comparisons, problem)

"""Run reference test vectors, and compare our outputs with the reference's."""

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from v2w_gym.configs.names import lookup
from v2w_gym.evaluation.checks.parity import networks, rt1, sampling
from v2w_gym.evaluation.checks.parity.vectors import Vector, load_vector

CHECKS: Mapping[str, Callable[[Vector], Mapping[str, Tensor]]] = {
    **dict.fromkeys(("unet_noncausal", "unet_causal", "unet_csgo", "unet_recon"), networks.unet),
    "weight_transfer": networks.weight_transfer,
    "training_loss": networks.training_loss,
    "vae": networks.vae,
    "resampler": networks.resampler,
    "clip_image": networks.clip_image,
    "clip_text": networks.clip_text,
    "schedule": sampling.schedule,
    **dict.fromkeys(("ddim_ar", "ddim_nar"), sampling.ddim),
    "rt1": rt1.rt1,
}
"""Kind of vector -> function that returns our outputs, with the reference's names and layout."""


class Tolerance(NamedTuple):
    """The accepted difference: `share` of the largest reference value, or of each, `plus` more.

    Reference values below `noise` are rounding noise, and may differ by as much.
    """

    share: float
    plus: float = 0.0
    elementwise: bool = False
    noise: float = 0.0

    def __str__(self) -> str:
        return f"{self.share:g} x {'own size' if self.elementwise else 'max'} + {self.plus:g}"


FORWARD = Tolerance(1e-5, 2e-5)
TOLERANCES: Mapping[str, Tolerance | None] = {
    "weight_transfer/*/y": FORWARD,
    "weight_transfer/*": Tolerance(2**-23),
    "schedule/*/dir_coef_squared_f32": Tolerance(0.0, 2e-7),  # a small difference of large numbers
    "schedule/*/dir_coef_*": None,  # its root, which the reference takes of negative numbers too
    "schedule/*/sqrt_one_minus_alphas": None,  # no step of ours tabulates it
    "schedule/*": Tolerance(1e-6, 1e-7, elementwise=True),
    "ddim_*/pred_x0*": None,  # our sampler does not return it
    "ddim_*/v_first_step_*": FORWARD,  # nothing sampled went in
    "ddim_*": Tolerance(1e-4),
    "training_loss/model_output": FORWARD,
    "training_loss/loss*": Tolerance(1e-5),
    "training_loss/grad_norms": Tolerance(1e-4, elementwise=True, noise=1e-6),
    "training_loss/*grad*": Tolerance(1e-4, noise=1e-6),
    "training_loss/adamw_delta/*": Tolerance(0.0, 1e-7),
    "training_loss/*": Tolerance(1e-6),
    "clip_image/*preprocessed": Tolerance(0.0, 3e-5),
    "clip_*": Tolerance(1e-5, 3e-5),
    "rt1/logits": Tolerance(0.0, 1e-4),
    "rt1/image_tokens": Tolerance(0.0, 1e-4),
    "rt1/*": Tolerance(0.0, 1e-6),  # tokens are whole numbers
    "*": FORWARD,
}
"""Pattern of kind/output -> tolerance; the first that fits counts, and None compares nothing."""


class Comparison(NamedTuple):
    """How far one output of ours is from the reference's."""

    name: str
    relative: float | None  # largest difference / largest reference value; None if no share counts
    used: float  # largest difference / the accepted one: 1 is the limit
    tolerance: Tolerance


class Result(NamedTuple):
    """The result of one vector: comparisons, or why it could not run."""

    name: str
    comparisons: tuple[Comparison, ...] = ()
    problem: str = ""

    @property
    def passed(self) -> bool:
        return not self.problem and self.worst.used <= 1

    @property
    def worst(self) -> Comparison:
        return max(self.comparisons, key=lambda comparison: comparison.used)

    @property
    def relative(self) -> str:
        """The largest relative error; "-" where only absolute differences are accepted."""
        found = [c.relative for c in self.comparisons if c.relative is not None]
        return f"{max(found):.1e}" if found else f"{'-':>7}"

    def __str__(self) -> str:
        if self.problem:
            return f"{self.name:<16} COULD NOT RUN  {self.problem}"
        worst = self.worst
        return (
            f"{self.name:<16} {'pass' if self.passed else 'FAIL':<5} {len(self.comparisons):4d} "
            f"tensors  worst relative error {self.relative}  uses {worst.used:7.1%} of tolerance "
            f"{worst.tolerance} ({worst.name})"
        )


def run_parity(folder: Path) -> Iterator[Result]:
    """Run every vector in `folder` and in the folders in it, in order of path.

    Raises:
        FileNotFoundError: No such folder, or no vector in it.
    """
    paths = sorted([*folder.glob("*.json"), *folder.glob("*/*.json")])
    if not paths:
        raise FileNotFoundError(f"expected reference test vectors (.json) in {folder}, found none")
    return (run_vector(path) for path in paths)


def run_vector(path: Path) -> Result:
    """Run the vector at `path` (.json); an error becomes the `problem` of its result."""
    try:
        vector = load_vector(path)
        with torch.no_grad():
            ours = lookup(CHECKS, vector.kind, "case")(vector)
        comparisons = tuple(compare_outputs(vector, ours))
    except Exception as error:  # noqa: BLE001  # an odd vector must not stop the others
        return Result(path.stem, problem=f"{type(error).__name__}: {' '.join(str(error).split())}")
    problem = "" if comparisons else "expected outputs to compare, found none"
    return Result(path.stem, comparisons, problem)


def compare_outputs(vector: Vector, ours: Mapping[str, Tensor]) -> Iterator[Comparison]:
    """Compare every output that has a tolerance with ours, which must be there."""
    for name, reference in sorted(vector.outputs.items()):
        place = f"{vector.kind}/{name}"
        tolerance = next(t for pattern, t in TOLERANCES.items() if fnmatch(place, pattern))
        if tolerance is not None:
            if name not in ours:
                raise ValueError(f"expected outputs that v2w_gym computes too, found {name!r}")
            yield compare(name, ours[name], reference, tolerance)


def compare(name: str, ours: Tensor, reference: Tensor, tolerance: Tolerance) -> Comparison:
    """Compare two tensors; another shape, or a value that is no number, is infinitely far off."""
    if ours.shape != reference.shape:
        return Comparison(name, torch.inf, torch.inf, tolerance)
    zero = torch.zeros(1)  # so that there is a largest difference
    a, b = (torch.cat([t.detach().double().flatten(), zero]) for t in (ours, reference))
    difference, size = (a - b).abs(), b.abs().max()
    own = b.abs() if tolerance.elementwise else size
    accepted = tolerance.plus + tolerance.share * own
    accepted = accepted.where(~(own < tolerance.noise), tolerance.noise)
    relative, used = (
        (difference / limit.clamp(min=1e-30)).nan_to_num(torch.inf, torch.inf).max().item()
        for limit in (size, accepted)
    )
    counts = tolerance.share and not size < tolerance.noise
    return Comparison(name, relative if counts else None, used, tolerance)

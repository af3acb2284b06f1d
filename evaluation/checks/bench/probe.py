"""Ask the network itself, through the sampler: a solver whose result is the velocity."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from v2w_gym.configs.sampler import SamplerConfig
from v2w_gym.world_models import solvers
from v2w_gym.world_models.diffusion import NoiseSchedule

PROBE = "probe"


class Probe:
    """Asks once, about pure noise, and returns the guided velocity; a `Solver`.

    The level it asks at is the lowest one of `steps` steps.
    """

    def __init__(self, schedule: NoiseSchedule, cfg: SamplerConfig) -> None:
        """Choose the level."""
        self.levels: Sequence[int] = solvers.trailing_levels(len(schedule), cfg.steps)[-1:]

    def spreads(self, index: int) -> bool:
        """Return whether fresh noise is added: it is not."""
        return False

    def step(self, index: int, noisy: Tensor, velocity: Tensor, draw: Tensor | None) -> Tensor:
        """Return the velocity."""
        return velocity


@contextmanager
def probing() -> Iterator[None]:
    """Let `SamplerConfig.solver` be `PROBE` while the context lasts."""
    known = solvers.SOLVERS
    solvers.SOLVERS = {**known, PROBE: Probe}
    try:
        yield
    finally:
        solvers.SOLVERS = known

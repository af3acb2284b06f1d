"""The noise schedule and both ways of sampling, compared with the reference implementation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from v2w_gym.configs.sampler import PRESETS
from v2w_gym.evaluation.checks.parity.network import (
    MODEL,
    SCHEDULE,
    load_network,
    read_context,
    shifted,
)
from v2w_gym.evaluation.checks.parity.towers import FORWARD
from v2w_gym.evaluation.checks.parity.vectors import Comparison, Tolerance, Vector, compare
from v2w_gym.world_models.diffusion import published_buffers
from v2w_gym.world_models.sampler import (
    FIRST_DRAW,
    HISTORY_DRAW,
    STEP_DRAW,
    Sampler,
)
from v2w_gym.world_models.solvers import ddim_steps
from v2w_gym.world_models.vid2world.unet import Conditioning, UNet

SAMPLES = Tolerance(1e-4)
"""For a whole sampling run."""
TABLE, DIRECTION = Tolerance(1e-6, 1e-7, elementwise=True), Tolerance(0.0, 2e-7)
"""For tabulated values; for those that are a small difference of two large ones."""


def schedule(vector: Vector) -> Iterator[Comparison]:
    """Compare the schedule's buffers and the DDIM tables of every step count and eta."""
    for where, zero_snr in (("zsnr/", True), ("no_zsnr/", False)):
        buffers = published_buffers(MODEL.diffusion, zero_terminal_snr=zero_snr)
        for name in sorted(k for k in vector.tensors if k.startswith(f"out/{where}")):
            output = name.removeprefix("out/")
            yield vector.compare(output, buffers[output.removeprefix(where)], TABLE)
    for run in sorted(vector.info["ddim"]):
        steps, eta = run.split("/eta")
        yield from _ddim_table(vector, int(steps), float(eta))


@torch.no_grad()
def ddim_ar(vector: Vector) -> Iterator[Comparison]:
    """Compare frames drawn one after another, from the reference's own random draws."""
    network = load_network(vector)
    for name in sorted(vector.info["runs"]):
        run = _Run(vector, network, name)
        known, frames = run.settings["cond_frame"], run.settings["T"]
        latents, trace = vector.frames("in/z")[:, :known], []  # (B, T, C, h, w)
        for t in range(known, frames):
            run.calls.clear()
            newest = run.next_frame(latents, replace(run.noise, frame=t))
            latents = torch.cat([latents, newest[:, None]], dim=1)
            trace.append(torch.stack([*(noisy[:, -1] for noisy, _ in run.calls[1:]), newest]))
            for step, call in (("first", 0), ("last", -1)):
                yield from run.velocities(call, f"v_frame{t}_{step}_step_{{}}", SAMPLES)
            if t == known:  # nothing sampled went in: one forward pass
                yield from run.velocities(0, "v_first_step_{}_first_frame", FORWARD)
        yield vector.compare(f"{name}/samples", latents.transpose(1, 2), SAMPLES)
        yield vector.compare(f"{name}/x_prev_last_frame", torch.stack(trace), SAMPLES)


@torch.no_grad()
def ddim_nar(vector: Vector) -> Iterator[Comparison]:
    """Compare whole clips, from the reference's own random draws."""
    network = load_network(vector)
    for name in sorted(vector.info["runs"]):
        run = _Run(vector, network, name)
        frames = run.settings["T"]
        kept = vector.tensor("in/uncond_mask_nar")[:, :frames].bool()
        hidden = torch.zeros_like(kept) if run.settings.get("uncond") == "none" else kept
        like, noise = vector.frames("in/z")[:, 0], replace(run.noise, frame=frames - 1)
        clip = run.sampler.clip(run, hidden, like, noise)
        yield vector.compare(f"{name}/samples", clip.transpose(1, 2), SAMPLES)
        steps = torch.stack([*(noisy for noisy, _ in run.calls[1:]), clip])
        yield from vector.compare_given({f"{name}/x_prev": steps.transpose(2, 3)}, SAMPLES)
        yield from run.velocities(0, "v_first_step_{}", FORWARD)


@dataclass(frozen=True)
class RecordedNoise:
    """The reference's random draws in the place of ours; a `v2w_gym.world_models.sampler.Noise`.

    Attributes:
        draws: (draw, frame) -> the numbers (B, C, h, w).
        frame: The frame that is being made.
    """

    draws: Mapping[tuple[int, int], Tensor]
    frame: int = 0

    def normal(self, draw: int, shape: tuple[int, ...]) -> Tensor:
        """Return the recorded numbers (B, *shape)."""
        return self.draws[draw, self.frame]

    def earlier(self, frames: int) -> "RecordedNoise":
        """Return the draws of the frame made `frames` frames before this one."""
        return replace(self, frame=self.frame - frames)


class _Run:
    """One sampling run of the reference, as a network that our sampler calls.

    Attributes:
        settings: Its settings in the vector.
        sampler: Our sampler, with its settings.
        noise: Its random draws.
        calls: Noisy latents (B, T, C, h, w) and velocities (G B, T, C, h, w) of each call.
    """

    def __init__(self, vector: Vector, network: UNet, name: str) -> None:
        self._vector, self._network, self._name = vector, network, name
        self.settings = vector.info["runs"][name]
        cfg = replace(
            PRESETS["reference"],
            steps=self.settings["steps"],
            eta=self.settings["eta"],
            guidance_scale=self.settings["cfg_scale"],
            guidance_rescale=self.settings["guidance_rescale"],
        )
        self.sampler = Sampler(SCHEDULE, cfg)
        self.noise = RecordedNoise(dict(self._draws()))
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __call__(self, noisy: Tensor, levels: Tensor, mask: Tensor) -> Tensor:
        """Return the velocity of a window, (G B, T, C, h, w), in as many branches as masks."""
        tensor, frames, branches = self._vector.tensor, noisy.shape[1], len(mask) // len(noisy)
        same = self.settings["equal_contexts"] or self.settings.get("uncond") == "none"
        tokens = [tensor("in/ctx_cond"), tensor("in/ctx_cond" if same else "in/ctx_uncond")]
        conditioning = Conditioning(
            frame=self._vector.frames("in/c_concat")[:, :frames].repeat(branches, 1, 1, 1, 1),
            actions=shifted(tensor("in/action_raw"))[:, :frames].repeat(branches, 1, 1),
            action_mask=mask,
            rate=tensor("in/fs").repeat(branches),
            context=read_context(self._network, torch.cat(tokens[:branches]), frames),
        )
        both, both_levels = noisy.repeat(branches, 1, 1, 1, 1), levels.repeat(branches, 1)
        velocity: Tensor = self._network(both, both_levels, conditioning)
        self.calls.append((noisy, velocity))
        return velocity

    def next_frame(self, latents: Tensor, noise: RecordedNoise) -> Tensor:
        """Draw the frame that follows latents (B, T, C, h, w)."""
        known = self.sampler.noisy_history(latents, noise.earlier(1))
        denoise = self.sampler.window_denoiser(self, known)
        return self.sampler.next_frame(denoise, latents[:, -1], noise)

    def velocities(self, call: int, output: str, tolerance: Tolerance) -> Iterator[Comparison]:
        """Compare each branch of one call with an output, if the vector has it."""
        noisy, velocity = self.calls[call]
        branches = zip(("cond", "uncond"), velocity.split(len(noisy)), strict=False)
        ours = {f"{self._name}/{output.format(b)}": v.transpose(1, 2) for b, v in branches}
        yield from self._vector.compare_given(ours, tolerance)

    def _draws(self) -> Iterator[tuple[tuple[int, int], Tensor]]:
        """Yield what each random draw was for, its frame, and the numbers (B, C, h, w)."""
        for entry in self.settings["draws"]:
            is_step = "step" in entry
            if is_step and self.sampler.cfg.eta == 0:
                continue  # without effect, and not stored
            drawn = self._vector.frames(f"rng/{self._name}/{entry['i']:04d}")
            kind = FIRST_DRAW if entry["i"] == 0 else HISTORY_DRAW
            kind = STEP_DRAW + entry["step"] if is_step else kind
            if "frame" in entry:  # the newest frame's step, or noise of the clean one before it
                yield (kind, entry["frame"] - (not is_step)), drawn[:, -1]
            else:
                yield from (((kind, t), drawn[:, t]) for t in range(drawn.shape[1]))


def _ddim_table(vector: Vector, steps: int, eta: float) -> Iterator[Comparison]:
    where = f"ddim_{steps}_eta{eta:g}/"
    table = ddim_steps(SCHEDULE, replace(PRESETS["reference"], steps=steps, eta=eta))[::-1]
    levels = torch.tensor([step.level for step in table])
    powers = torch.tensor([step.power for step in table], dtype=torch.float64)
    spreads = torch.tensor([step.spread for step in table], dtype=torch.float64)
    directions = torch.tensor([step.direction for step in table])
    ours = {
        "timesteps": levels,
        "alphas": SCHEDULE.alphas_cumprod[levels],
        "alphas_prev": powers,
        "sigmas": spreads,
        "used_a_prev_f32": powers.float(),
        "used_sigma_f32": spreads.float(),
        "scale": SCHEDULE.scale[levels],
        "scale_prev": SCHEDULE.scale[levels] * torch.tensor([step.rescale for step in table]),
    }
    yield from vector.compare_given({where + name: value for name, value in ours.items()}, TABLE)
    # Below zero the reference's root is NaN; ours is held at zero.
    squared = vector.tensor(f"out/{where}dir_coef_squared_f32").clamp(min=0)
    yield compare(f"{where}dir_coef_squared", directions**2, squared, DIRECTION)

"""The noise schedule and both ways of sampling, held against the reference implementation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from v2w_gym.configs.model import PRESETS, SamplerConfig
from v2w_gym.evaluation.checks.parity.golden import Comparison, GoldenCase, Tolerance
from v2w_gym.evaluation.checks.parity.network import (
    FORWARD,
    PUBLISHED_DIFFUSION,
    load_network,
    make_context,
    shifted,
)
from v2w_gym.world_models.diffusion import NoiseSchedule, published_buffers
from v2w_gym.world_models.sampler import (
    FIRST_DRAW,
    HISTORY_DRAW,
    STEP_DRAW,
    history_level,
    noisy_history,
    sample_clip,
    sample_next_frame,
    window_denoiser,
)
from v2w_gym.world_models.solvers import ddim_steps
from v2w_gym.world_models.vid2world.conditioning import Conditioning
from v2w_gym.world_models.vid2world.unet import UNet

SAMPLES = Tolerance(1e-4)
"""What a whole sampling run may differ by."""
TABLE = Tolerance(1e-6, 1e-7, elementwise=True)
"""What a tabulated value may differ by."""


def schedule(case: GoldenCase) -> Iterator[Comparison]:
    """Compare the schedule's buffers and the DDIM tables of every step count and eta."""
    for zero_snr in (True, False):
        where = "out/zsnr/" if zero_snr else "out/no_zsnr/"
        buffers = published_buffers(PUBLISHED_DIFFUSION, zero_terminal_snr=zero_snr)
        for name in sorted(k for k in case.tensors if k.startswith(where)):
            yield _tabulated(name, buffers[name.rpartition("/")[2]], case.tensor(name))
    for run in sorted(case.info["ddim"]):
        steps, eta = run.split("/eta")
        yield from _ddim_table(case, int(steps), float(eta))


@torch.no_grad()
def ddim_ar(case: GoldenCase) -> Iterator[Comparison]:
    """Compare frames drawn one after another, from the reference's own random draws."""
    network = load_network(case.info["config"], case.state())
    for name, run in sorted(case.info["runs"].items()):
        recorder = _Recorder(case, network, run)
        clean = case.tensor("in/z").transpose(1, 2)[:, : run["T"]]  # (B, T, C, h, w)
        latents, trace = clean[:, : run["cond_frame"]], []
        noise = RecordedNoise(_autoregressive_draws(case, name, run))
        for t in range(run["cond_frame"], run["T"]):
            recorder.calls.clear()
            newest = recorder.next_frame(latents, replace(noise, frame=t))
            latents = torch.cat([latents, newest[:, None]], dim=1)
            trace.append(recorder.newest_after_each_step(newest))
            yield from recorder.velocities(name, t, first=t == run["cond_frame"])
        yield _sampled(case, f"{name}/samples", latents.transpose(1, 2))
        yield _sampled(case, f"{name}/x_prev_last_frame", torch.stack(trace))


@torch.no_grad()
def ddim_nar(case: GoldenCase) -> Iterator[Comparison]:
    """Compare whole clips, from the reference's own random draws."""
    network = load_network(case.info["config"], case.state())
    for name, run in sorted(case.info["runs"].items()):
        recorder = _Recorder(case, network, run)
        kept = case.tensor("in/uncond_mask_nar")[:, : run["T"]].bool()
        hidden = torch.zeros_like(kept) if run.get("uncond") == "none" else kept
        noise = RecordedNoise(_clip_draws(case, name, run), run["T"] - 1)
        like = case.tensor("in/z")[:, :, 0]
        clip = sample_clip(recorder, recorder.schedule, recorder.cfg, hidden, like, noise)
        yield _sampled(case, f"{name}/samples", clip.transpose(1, 2))
        if f"out/{name}/x_prev" in case.tensors:
            steps = torch.stack([*(noisy[: len(clip)] for noisy, _ in recorder.calls[1:]), clip])
            yield _sampled(case, f"{name}/x_prev", steps.transpose(2, 3))
        for branch, ours in zip(("cond", "uncond"), recorder.branches(0), strict=False):
            golden = case.tensor(f"out/{name}/v_first_step_{branch}")
            yield Comparison(f"{name}/v_{branch}", ours.transpose(1, 2), golden, FORWARD)


@dataclass(frozen=True)
class RecordedNoise:
    """The reference's random draws in the place of ours; a `v2w_gym.world_models.sampler.Noise`.

    Attributes:
        draws: (what for, frame) -> the numbers (B, C, h, w).
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


@dataclass
class _Recorder:
    """The network as the sampler calls it in one run, which remembers what went in and out."""

    case: GoldenCase
    network: UNet
    run: Mapping[str, Any]
    calls: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.schedule = NoiseSchedule(PUBLISHED_DIFFUSION)
        self.cfg = _sampler(self.run["steps"], self.run["eta"])
        guidance = self.run["cfg_scale"], self.run["guidance_rescale"]
        self.cfg = replace(self.cfg, guidance_scale=guidance[0], guidance_rescale=guidance[1])

    def next_frame(self, latents: Tensor, noise: "RecordedNoise") -> Tensor:
        """Draw the frame that follows latents (B, T, C, h, w)."""
        known = noisy_history(self.schedule, self.cfg, latents, noise.earlier(1))
        denoise = window_denoiser(self, self.cfg, known, history_level(self.schedule, self.cfg))
        return sample_next_frame(denoise, self.schedule, self.cfg, latents[:, -1], noise)

    def __call__(self, noisy: Tensor, levels: Tensor, mask: Tensor) -> Tensor:
        """Return the velocity of a window, (G B, T, C, h, w), in as many branches as masks."""
        tensor, frames = self.case.tensor, noisy.shape[1]
        branches = len(mask) // len(noisy)
        noisy, levels = noisy.repeat(branches, 1, 1, 1, 1), levels.repeat(branches, 1)
        own = [tensor("in/ctx_cond"), tensor("in/ctx_uncond")]
        contexts = [own[0] if self.run["equal_contexts"] else own[b] for b in range(branches)]
        if self.run.get("uncond") == "none":
            contexts = [own[0]] * branches
        told = Conditioning(
            frame=tensor("in/c_concat").transpose(1, 2)[:, :frames].repeat(branches, 1, 1, 1, 1),
            actions=shifted(tensor("in/action_raw"))[:, :frames].repeat(branches, 1, 1),
            action_mask=mask,
            rate=tensor("in/fs").repeat(branches),
            context=make_context(self.network, torch.cat(contexts), frames),
        )
        velocity: Tensor = self.network(noisy, levels, told)
        self.calls.append((noisy, velocity))
        return velocity

    def branches(self, call: int) -> tuple[Tensor, ...]:
        """Return what one call gave, for each branch: (B, T, C, h, w)."""
        return self.calls[call][1].split(len(self.case.tensor("in/fs")))

    def newest_after_each_step(self, final: Tensor) -> Tensor:
        """Return the newest frame after every step: (steps, B, C, h, w)."""
        batch = len(self.case.tensor("in/fs"))
        return torch.stack([*(noisy[:batch, -1] for noisy, _ in self.calls[1:]), final])

    def velocities(self, name: str, frame: int, *, first: bool) -> Iterator[Comparison]:
        """Compare the velocities of a frame's first and last step, where there are golden ones."""
        for call, step in ((0, "first"), (-1, "last")):
            for branch, ours in zip(("cond", "uncond"), self.branches(call), strict=False):
                golden = {f"v_frame{frame}_{step}_step_{branch}": SAMPLES}
                if first and step == "first":  # nothing sampled went in: one forward pass
                    golden[f"v_first_step_{branch}_first_frame"] = FORWARD
                for tensor, limits in golden.items():
                    reference = self.case.tensors.get(f"out/{name}/{tensor}")
                    if reference is not None:
                        found = ours.transpose(1, 2)
                        yield Comparison(f"{name}/{tensor}", found, reference, limits)


def _sampler(steps: int, eta: float) -> SamplerConfig:
    return replace(PRESETS["reference"], steps=steps, eta=eta)


def _ddim_table(case: GoldenCase, steps: int, eta: float) -> Iterator[Comparison]:
    where = f"out/ddim_{steps}_eta{eta:g}/"
    noise = NoiseSchedule(PUBLISHED_DIFFUSION)
    table = ddim_steps(noise, _sampler(steps, eta))[::-1]
    levels = torch.tensor([step.level for step in table])
    powers = torch.tensor([step.power for step in table], dtype=torch.float64)
    spreads = torch.tensor([step.spread for step in table], dtype=torch.float64)
    directions = torch.tensor([step.direction for step in table])
    ours = {
        "timesteps": levels,
        "alphas": noise.alphas_cumprod[levels],
        "alphas_prev": powers,
        "sigmas": spreads,
        "used_a_prev_f32": powers.float(),
        "used_sigma_f32": spreads.float(),
        "scale": noise.scale[levels],
        "scale_prev": noise.scale[levels] * torch.tensor([step.rescale for step in table]),
    }
    for name, value in ours.items():
        if where + name in case.tensors:
            yield _tabulated(where + name, value, case.tensor(where + name))
    squared = case.tensor(where + "dir_coef_squared_f32").clamp(min=0)  # the reference gives NaN
    yield Comparison(where[4:] + "dir_coef_squared", directions**2, squared, Tolerance(0.0, 2e-7))


def _tabulated(name: str, ours: Tensor, reference: Tensor) -> Comparison:
    return Comparison(name[4:], ours, reference, TABLE)


def _sampled(case: GoldenCase, name: str, ours: Tensor) -> Comparison:
    return Comparison(name, ours, case.tensor(f"out/{name}"), SAMPLES)


def _draw(case: GoldenCase, run: str, index: int) -> Tensor:
    """Return one recorded draw as (B, T, C, h, w)."""
    return case.tensor(f"rng/{run}/{index:04d}").transpose(1, 2)


def _autoregressive_draws(
    case: GoldenCase, name: str, run: Mapping[str, Any]
) -> dict[tuple[int, int], Tensor]:
    first, history = _draw(case, name, 0), _draw(case, name, 1)
    draws = {(FIRST_DRAW, t): first[:, t] for t in range(run["T"])}
    draws |= {(HISTORY_DRAW, t): history[:, t] for t in range(run["cond_frame"])}
    for entry in run["draws"][2:]:
        if "step" not in entry:  # the clean frame before `frame` gets its noise
            draws[HISTORY_DRAW, entry["frame"] - 1] = _draw(case, name, entry["i"])[:, 0]
        elif run["eta"] > 0:
            step = STEP_DRAW + entry["step"]
            draws[step, entry["frame"]] = _draw(case, name, entry["i"])[:, -1]
    return draws


def _clip_draws(
    case: GoldenCase, name: str, run: Mapping[str, Any]
) -> dict[tuple[int, int], Tensor]:
    draws: dict[tuple[int, int], Tensor] = {}
    for entry in run["draws"]:
        if "step" in entry and run["eta"] == 0:
            continue
        kind = STEP_DRAW + entry["step"] if "step" in entry else FIRST_DRAW
        drawn = _draw(case, name, entry["i"])
        draws |= {(kind, t): drawn[:, t] for t in range(run["T"])}
    return draws

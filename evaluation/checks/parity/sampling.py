"""Outputs of the noise schedule and of both ways of sampling, on the reference's random draws."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from v2w_gym.configs.sampler import PRESETS
from v2w_gym.evaluation.checks.parity.networks import MODEL, SCHEDULE, load_unet, velocity
from v2w_gym.evaluation.checks.parity.vectors import Vector
from v2w_gym.world_models.diffusion import published_buffers
from v2w_gym.world_models.sampler import FIRST_DRAW, HISTORY_DRAW, STEP_DRAW, Sampler
from v2w_gym.world_models.solvers import ddim_steps
from v2w_gym.world_models.vid2world.unet import UNet

REFERENCE = PRESETS["reference"]


def schedule(vector: Vector) -> dict[str, Tensor]:
    """Return the schedule's buffers, and the DDIM tables of every step count and eta."""
    ours: dict[str, Tensor] = {}
    for where, zero_snr in (("zsnr", True), ("no_zsnr", False)):
        buffers = published_buffers(MODEL.diffusion, zero_terminal_snr=zero_snr)
        ours |= {f"{where}/{name}": buffer for name, buffer in buffers.items()}
    for run in vector.info["ddim"]:
        steps, eta = run.split("/eta")
        where = f"ddim_{steps}_eta{float(eta):g}"
        ours |= {f"{where}/{name}": v for name, v in _table(int(steps), float(eta)).items()}
    return ours


def _table(steps: int, eta: float) -> dict[str, Tensor]:
    table = ddim_steps(SCHEDULE, replace(REFERENCE, steps=steps, eta=eta))[::-1]
    levels = torch.tensor([step.level for step in table])
    rows = [(step.power, step.spread, step.rescale, step.direction) for step in table]
    powers, spreads, rescales, directions = torch.tensor(rows, dtype=torch.float64).T
    return {
        "timesteps": levels,
        "alphas": SCHEDULE.alphas_cumprod[levels],
        "alphas_prev": powers,
        "sigmas": spreads,
        "used_a_prev_f32": powers.float(),
        "used_sigma_f32": spreads.float(),
        "scale": SCHEDULE.scale[levels],
        "scale_prev": SCHEDULE.scale[levels] * rescales.float(),
        "dir_coef_squared_f32": directions.float() ** 2,
    }


def ddim(vector: Vector) -> dict[str, Tensor]:
    """Return the samples of every run, and latents and velocities on the way."""
    network = load_unet(vector)
    ours: dict[str, Tensor] = {}
    for name in vector.info["runs"]:
        run = _Run(vector, network, name)
        found = run.frame_by_frame() if vector.kind == "ddim_ar" else run.whole_clip()
        ours |= {f"{name}/{output}": value for output, value in found.items()}
    return ours


@dataclass(frozen=True)
class RecordedNoise:
    """The reference's random draws in place of ours; a `v2w_gym.world_models.sampler.Noise`."""

    draws: Mapping[tuple[int, int], Tensor]  # (draw, frame) -> (B, C, h, w)
    frame: int = 0

    def normal(self, draw: int, shape: tuple[int, ...]) -> Tensor:
        return self.draws[draw, self.frame]

    def earlier(self, frames: int) -> "RecordedNoise":
        return replace(self, frame=self.frame - frames)


class _Run:
    """One run of the reference, as a network that our sampler calls."""

    def __init__(self, vector: Vector, network: UNet, name: str) -> None:
        self.vector, self.network, self.settings = vector, network, vector.info["runs"][name]
        self.calls: list[tuple[Tensor, Tensor]] = []  # noisy latents, velocities
        self.noise = RecordedNoise(dict(_draws(vector, name)))
        cfg = replace(REFERENCE, steps=self.settings["steps"], eta=self.settings["eta"])
        scale, share = self.settings["cfg_scale"], self.settings["guidance_rescale"]
        cfg = replace(cfg, guidance_scale=scale, guidance_rescale=share)
        self.sampler = Sampler(SCHEDULE, cfg)

    def __call__(self, noisy: Tensor, levels: Tensor, mask: Tensor) -> Tensor:
        same = self.settings["equal_contexts"] or self.settings.get("uncond") == "none"
        contexts = [self.vector[f"in/ctx_{c}"] for c in ("cond", "cond" if same else "uncond")]
        window = self.vector.with_inputs(
            x_noisy=noisy.transpose(1, 2),
            timesteps=levels,
            action_mask=mask,
            context=torch.cat(contexts[: len(mask) // len(noisy)]),
        )
        self.calls.append((noisy, velocity(self.network, window)))
        return self.calls[-1][1]

    def frame_by_frame(self) -> dict[str, Tensor]:
        known, steps = self.settings["cond_frame"], []
        latents = self.vector.frames("in/z")[:, :known]
        ours: dict[str, Tensor] = {}
        for t in range(known, self.settings["T"]):
            self.calls.clear()
            noise = replace(self.noise, frame=t)
            history = self.sampler.noisy_history(latents, noise.earlier(1))
            denoise = self.sampler.window_denoiser(self, history)
            newest = self.sampler.next_frame(denoise, latents[:, -1], noise)
            latents = torch.cat([latents, newest[:, None]], dim=1)
            steps.append(self._steps(latents)[:, :, -1])
            ours |= self._velocities(0, f"v_frame{t}_first_step_{{}}")
            ours |= self._velocities(-1, f"v_frame{t}_last_step_{{}}")
            if t == known:
                ours |= self._velocities(0, "v_first_step_{}_first_frame")
        return ours | {"samples": latents.transpose(1, 2), "x_prev_last_frame": torch.stack(steps)}

    def whole_clip(self) -> dict[str, Tensor]:
        frames, like = self.settings["T"], self.vector.frames("in/z")[:, 0]
        mask = self.vector["in/uncond_mask_nar"][:, :frames].bool()
        mask = mask & (self.settings.get("uncond") != "none")
        clip = self.sampler.clip(self, mask, like, replace(self.noise, frame=frames - 1))
        ours = {"samples": clip.transpose(1, 2), "x_prev": self._steps(clip).transpose(2, 3)}
        return ours | self._velocities(0, "v_first_step_{}")

    def _steps(self, clean: Tensor) -> Tensor:
        return torch.stack([*(noisy for noisy, _ in self.calls[1:]), clean])

    def _velocities(self, call: int, output: str) -> dict[str, Tensor]:
        noisy, found = self.calls[call]
        branches = zip(("cond", "uncond"), found.split(len(noisy)), strict=False)
        return {output.format(branch): part.transpose(1, 2) for branch, part in branches}


def _draws(vector: Vector, name: str) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """Yield the draw and the frame that random numbers (B, C, h, w) were for."""
    for entry in vector.info["runs"][name]["draws"]:
        place, step = f"rng/{name}/{entry['i']:04d}", entry.get("step")
        if step is not None and place not in vector.tensors:
            continue  # eta is 0: the draw has no effect, and is not stored
        drawn, draw = vector.frames(place), HISTORY_DRAW if entry["i"] else FIRST_DRAW
        draw = draw if step is None else STEP_DRAW + step
        if "frame" in entry:  # the newest frame's step, or noise of the clean one before it
            yield (draw, entry["frame"] - (step is None)), drawn[:, -1]
        else:
            yield from (((draw, t), drawn[:, t]) for t in range(drawn.shape[1]))

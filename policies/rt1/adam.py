"""One optimiser step: its rate, and its gradient, which may hold numbers that are not finite."""

import math

import torch
from torch import Tensor, nn

from v2w_gym.configs.train import AdamConfig, TrainPolicyConfig
from v2w_gym.world_models.optimiser import check_loss, check_norm

ADVICE = "lower optimiser.learning_rate and run the same command again"


def make_adam(network: nn.Module, cfg: AdamConfig) -> torch.optim.Optimizer:
    """Return Adam; its rate is set in every step."""
    return torch.optim.AdamW(network.parameters(), eps=cfg.epsilon, weight_decay=cfg.weight_decay)


def learning_rate(cfg: AdamConfig, step: int, steps: int) -> float:
    """Return the rate of a step of `steps`: linear warm-up, times what is scheduled."""
    warm = min(1.0, (step + 1) / max(cfg.warmup, 1))
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return cfg.learning_rate * warm * (cosine if cfg.schedule == "cosine" else 1.0)


def follow(
    loss: Tensor,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    cfg: TrainPolicyConfig,
    step: int,
) -> dict[str, float]:
    """Follow the gradient of `loss` once, and return what is worth noting.

    Raises:
        FloatingPointError: The loss is not finite; or the gradient, where that is an error.
    """
    check_loss(loss, step, ADVICE)
    rate = learning_rate(cfg.optimiser, step, cfg.steps)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    norm, zeroed = nn.utils.get_total_norm(gradients), 0
    if not torch.isfinite(norm):
        zeroed = zero_nonfinite(gradients, cfg.optimiser, step)
        norm = nn.utils.get_total_norm(gradients)
        check_norm(norm, step, ADVICE)  # finite values may have a norm that is not
    if cfg.optimiser.clip_norm is not None:
        nn.utils.clip_grads_with_norm_(network.parameters(), cfg.optimiser.clip_norm, norm)
    optimiser.step()
    return {
        "loss": loss.item(),
        "learning_rate": rate,
        "gradient_norm": norm.item(),
        "gradients_zeroed": zeroed,
    }


def zero_nonfinite(gradients: list[Tensor], cfg: AdamConfig, step: int) -> int:
    """Set NaN and infinite values to zero, as RT-1's public code does, and return their number.

    Raises:
        FloatingPointError: `cfg` says that they are an error.
    """
    found = sum(int((~torch.isfinite(gradient)).sum()) for gradient in gradients)
    if cfg.nonfinite == "error":
        raise FloatingPointError(
            f"expected a finite gradient at step {step}, found {found} values that are not; "
            f"{ADVICE}"
        )
    for gradient in gradients:
        torch.nan_to_num_(gradient, nan=0.0, posinf=0.0, neginf=0.0)
    return found

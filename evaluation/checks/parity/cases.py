"""Which golden cases can be checked, and what checks each."""

from collections.abc import Mapping

from v2w_gym.evaluation.checks.parity.golden import Check
from v2w_gym.evaluation.checks.parity.network import training_loss, unet, weight_transfer
from v2w_gym.evaluation.checks.parity.rt1 import rt1
from v2w_gym.evaluation.checks.parity.sampling import ddim_ar, ddim_nar, schedule
from v2w_gym.evaluation.checks.parity.towers import clip_image, clip_text, resampler, vae

CASES: Mapping[str, Check] = {
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
"""Name of a case -> what runs ours on it."""

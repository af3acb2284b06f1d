"""Encode every frame of prepared data once, so that training can read latents in its place."""

from v2w_gym.configs.clips import CacheConfig

SCHEMA = CacheConfig
ARGUMENTS = ("data",)


def main(cfg: CacheConfig) -> None:
    """Write the latents, then print where they are."""
    from v2w_gym.world_models.vid2world.encode_data import cache_latents

    cached = cache_latents(cfg)
    kinds = ", ".join(f"{name} {shape}" for name, shape in cached.shapes.items())
    frames = int(cached.data.lengths.sum())
    print(f"{frames:,} frames as {kinds} of float16 in {cached.folder}")

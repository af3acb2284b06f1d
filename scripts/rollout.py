"""Imagine one rollout from a start, as a video and a strip; the same command resumes."""

from v2w_gym.configs.evaluate import RolloutConfig

SCHEMA = RolloutConfig


def main(cfg: RolloutConfig) -> None:
    """Imagine the rollout, then print its files."""
    from v2w_gym.evaluation.imagine.imagination import run_rollout

    found = run_rollout(cfg)
    print(f"{found['steps']} frames, {found['seconds_per_frame']:.2f} s each")
    for event, times in found["events"].items():
        print(f"  note: {event}, {times} times")
    for name in ("rollout.mp4", "strip.png", "actions.npy", "rollout.json"):
        print(f"  {cfg.output}/{name}")

"""Imagine each of the robot's moves from one start, and measure how much the videos differ."""

from v2w_gym.configs.evaluate import ActionControlConfig

SCHEMA = ActionControlConfig


def main(cfg: ActionControlConfig) -> None:
    """Imagine every move, then print the difference and the files."""
    from v2w_gym.evaluation.imagine.imagination import headline, run_action_control

    print(headline(run_action_control(cfg)["difference"]))
    for name in ("action_control.png", "action_control.mp4", "action_control.json"):
        print(f"  {cfg.output}/{name}")

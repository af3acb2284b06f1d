"""Hold each move of the robot from one start, and show and measure what differs."""

from v2w_gym.configs.evaluate import ActionControlConfig

SCHEMA = ActionControlConfig


def main(cfg: ActionControlConfig) -> None:
    """Imagine every move, and say how far they lead apart and where to see it."""
    from v2w_gym.evaluation.imagine.imagination import headline, run_action_control

    print(headline(run_action_control(cfg)["difference"]))
    for name in ("action_control.png", "action_control.mp4", "action_control.json"):
        print(f"  {cfg.output}/{name}")

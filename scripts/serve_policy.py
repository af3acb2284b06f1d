"""Serve a policy over a websocket, with openpi's protocol, until Ctrl-C."""

from v2w_gym.configs.policies import ServePolicyConfig

SCHEMA = ServePolicyConfig
ARGUMENTS = ("policy",)


def main(cfg: ServePolicyConfig) -> None:
    """Serve the policy, and print its URL."""
    from v2w_gym.configs.names import lookup
    from v2w_gym.configs.robots import ROBOTS
    from v2w_gym.policies.loading import load_policy, policy_config
    from v2w_gym.policies.remote.server import PolicyServer

    robot = lookup(ROBOTS, cfg.robot, "robot")
    policy = policy_config(cfg.policy)
    server = PolicyServer(
        lambda: load_policy(policy, robot),
        host=cfg.host,
        port=cfg.port,
        connections=cfg.connections,
        client_timeout_s=cfg.client_timeout_s,
    )
    name = server.metadata["name"]
    server.run(lambda url: print(f"policy {name} at {url}; Ctrl-C ends it", flush=True))
    print("ended")

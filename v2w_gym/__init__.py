"""Evaluate robot policies inside a learned video world model.

Importing this package registers the environments and loads neither torch nor a simulator.
"""

from v2w_gym.forks import calm_threads_after_fork

calm_threads_after_fork()  # Gymnasium's AsyncVectorEnv and SB3's SubprocVecEnv fork

try:
    from v2w_gym.registration import register_environments
except ModuleNotFoundError as error:
    if error.name != "gymnasium":  # a policy server beside somebody's model needs no environments
        raise
else:
    register_environments()

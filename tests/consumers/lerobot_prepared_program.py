"""Load prepared data with LeRobot, and store what it returns.

python lerobot_prepared_program.py FOLDER OUTPUT.npz
"""

import json
import sys

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

IMAGE = "observation.images.image"


def load(folder, **settings):
    return LeRobotDataset("tests/prepared", root=folder, **settings)


def with_neighbours(folder, rate):
    """Return what LeRobot's own loader yields of the frame before, and of the action after."""
    wanted = {IMAGE: [-1 / rate, 0.0], "action": [0.0, 1 / rate]}
    data = load(folder, delta_timestamps=wanted)
    batches = list(torch.utils.data.DataLoader(data, batch_size=16))
    names = (IMAGE, f"{IMAGE}_is_pad", "action", "action_is_pad")
    return {f"near {name}": torch.cat([b[name] for b in batches]).numpy() for name in names}


if __name__ == "__main__":
    folder, output = sys.argv[1:]
    data = load(folder)
    rows = [data[i] for i in range(len(data))]
    names = (IMAGE, "action", "timestamp", "episode_index", "frame_index", "next.success")
    arrays = {name: torch.stack([row[name] for row in rows]).numpy() for name in names}
    arrays |= with_neighbours(folder, data.fps)
    tasks = [row["task"] for row in rows]
    stats = {f"stats {name}": data.meta.stats["action"][name] for name in ("mean", "std")}
    np.savez(output, task=tasks, **arrays, **stats)
    one = load(folder, episodes=[1])
    told = {"episodes": data.num_episodes, "frames": data.num_frames, "fps": data.fps}
    print(json.dumps({**told, "frames_of_one": len(one), "robot": data.meta.robot_type}))

"""Record data sets with LeRobot, and store beside each what LeRobot itself returns for it.

python lerobot_data_program.py FOLDER
"""

import inspect
import json
import sys
from pathlib import Path

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import CODEBASE_VERSION, LeRobotDataset

CAMERAS = ("observation.images.top", "observation.images.wrist")
LENGTHS = (9, 4, 13, 7, 5)
FPS = 10
TASKS = ("open the drawer", "close the drawer", "öffne die Schublade")


def picture(episode, step, camera):
    y, x = np.mgrid[:48, :64]
    seed = np.random.default_rng([episode, step, camera])
    smooth = np.stack([x * 3 + 5 * step, y * 4 + 30 * episode, (x + y) * 2 + 90 * camera], -1) % 256
    noise = seed.integers(0, 24, (6, 8, 3)).repeat(8, 0).repeat(8, 1)
    return np.clip(smooth * 0.8 + noise, 0, 255).astype(np.uint8)


def task(episode, step):
    return TASKS[1 if episode == 2 and step >= 6 else episode % len(TASKS)]


def features(kind):
    image = {"dtype": kind, "shape": (48, 64, 3), "names": ["height", "width", "channels"]}
    return {
        **{camera: dict(image) for camera in CAMERAS},
        "action": {"dtype": "float32", "shape": (3,), "names": ["dx", "dy", "gripper"]},
        "observation.state": {"dtype": "float32", "shape": (2,), "names": None},
        "next.success": {"dtype": "bool", "shape": (1,), "names": None},
    }


def keep_files_small(data):
    """Two files a chunk, about two episodes a file."""
    limits = {"chunks_size": 2, "data_files_size_in_mb": 0.02, "video_files_size_in_mb": 0.006}
    if isinstance(data.meta.info, dict):
        data.meta.info.update(limits)
    else:
        for name, value in limits.items():
            setattr(data.meta.info, name, value)


def record(folder, kind, small, **settings):
    data = LeRobotDataset.create(
        "tests/recorded", FPS, features(kind), root=folder, use_videos=kind == "video", **settings
    )
    if small:
        keep_files_small(data)
    told_apart = "task" in inspect.signature(data.add_frame).parameters  # version 2.1
    for episode, length in enumerate(LENGTHS):
        for step in range(length):
            frame = {camera: picture(episode, step, n) for n, camera in enumerate(CAMERAS)}
            frame["action"] = np.float32([step, -episode, step % 2])
            frame["observation.state"] = np.float32([episode, step])
            frame["next.success"] = np.array([step == length - 1 and episode % 2 == 0])
            said = task(episode, step)
            data.add_frame(frame, said) if told_apart else data.add_frame({**frame, "task": said})
        data.save_episode()
    if hasattr(data, "finalize"):
        data.finalize()


def store(folder):
    """Store every row as LeRobot returns it; pictures as uint8."""
    data = LeRobotDataset("tests/recorded", root=folder, video_backend="pyav")
    rows = [data[i] for i in range(len(data))]
    arrays = {name: torch.stack([row[name] for row in rows]).numpy() for name in CAMERAS}
    arrays = {
        n: (a.transpose(0, 2, 3, 1) * 255).round().astype(np.uint8) for n, a in arrays.items()
    }
    for name in ("action", "timestamp", "episode_index", "next.success"):
        arrays[name] = torch.stack([row[name] for row in rows]).numpy()
    np.savez(folder / "returned.npz", task=[row["task"] for row in rows], **arrays)


def codec(name):
    """Settings of `create` for a video codec, which versions name differently."""
    known = inspect.signature(LeRobotDataset.create).parameters
    if "vcodec" in known:
        return {"vcodec": name}
    if "rgb_encoder" in known:
        from lerobot.configs import RGBEncoderConfig

        return {"rgb_encoder": RGBEncoderConfig(vcodec=name)}
    return {}


if __name__ == "__main__":
    root = Path(sys.argv[1])
    kinds = {
        "av1": ("video", False, {}),
        "h264": ("video", True, codec("h264")),
        "images": ("image", False, {}),
        "small_images": ("image", True, {}),
    }
    for name, (kind, small, settings) in kinds.items():
        record(root / name, kind, small, **settings)
        store(root / name)
    print(json.dumps({"version": CODEBASE_VERSION, "sets": list(kinds)}))

"""Settings of `v2w train-policy`."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class RT1Config:
    """Sizes of an RT-1 network; the card of a checkpoint holds them.

    Attributes:
        image_size: Height and width of the frames, in pixels.
        history: Frames in the policy's memory, the newest included (T).
        channels: Channels of the encoder's stages; each stage halves height and width.
        blocks: Residual blocks, each followed by FiLM, in every stage.
        groups: Groups of every group normalisation.
        width: Size of one token (D).
        image_tokens: Tokens kept of one frame (K).
        learner_width: Hidden size of the TokenLearner.
        layers: Transformer layers.
        heads: Attention heads.
        head_size: Size of one head's keys, queries and values.
        dropout: Dropout in the transformer.
        instruction_size: Length of an instruction's vector (E).
        bins: Values one action token can take.
    """

    image_size: tuple[int, int] = (64, 64)
    history: int = 6
    channels: tuple[int, ...] = (24, 48, 96)
    blocks: tuple[int, ...] = (0, 1, 2)
    groups: int = 8
    width: int = 128
    image_tokens: int = 8
    learner_width: int = 64
    layers: int = 4
    heads: int = 4
    head_size: int = 32
    dropout: float = 0.1
    instruction_size: int = 64
    bins: int = 256


@dataclass(frozen=True)
class TrainPolicyConfig:
    """How an RT-1 policy is cloned from the expert's labels in recorded episodes.

    Attributes:
        output: Run folder; the same command resumes there.
        weights: Folder of the finished checkpoints, one per stage.
        robot: Name of the `RobotSpec` whose actions the policy gives.
        episodes: Folders with training episodes.
        held_out: Folders with episodes for the validation loss on the card.
        stages: Name of each checkpoint that is kept, and the share of the training after which.
        network: See `RT1Config`.
        steps: Optimiser steps.
        batch_size: Windows of `network.history` frames per step.
        learning_rate: Peak rate of AdamW.
        warmup: Steps of linear warm-up; a cosine to zero follows.
        clip_norm: Largest gradient norm.
        shift: Largest random shift of a window, in pixels.
        seed: Seed of weights, batches, shifts and dropout.
        threads: CPU threads.
        save_every: Steps between saves of the state a resume needs.
    """

    output: str = "runs/train_policy_standin"
    weights: str = "policies/weights"
    robot: str = "standin_sawyer"
    episodes: list[str] = field(default_factory=lambda: ["data/standin/train"])
    held_out: list[str] = field(default_factory=lambda: ["data/standin/held_out"])
    stages: dict[str, float] = field(
        default_factory=lambda: {
            "rt1-begin": 0.02,
            "rt1-15": 0.15,
            "rt1-25": 0.25,
            "rt1-40": 0.40,
            "rt1-converged": 1.0,
        }
    )
    network: RT1Config = field(default_factory=RT1Config)
    steps: int = 2000
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup: int = 100
    clip_norm: float = 1.0
    shift: int = 3
    seed: int = 0
    threads: int = 1
    save_every: int = 100

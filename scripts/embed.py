"""Make a table of instruction embeddings from recordings, or add instructions to a table."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2w_gym.configs.convert import EmbedConfig

if TYPE_CHECKING:
    from v2w_gym.policies.instructions import InstructionTable

SCHEMA = EmbedConfig
ARGUMENTS = ("source", "output")


def main(cfg: EmbedConfig) -> None:
    """Write the table, then print its size and how to use it."""
    from v2w_gym.policies.embeddings import extend, make_encoder
    from v2w_gym.policies.instructions import save_table

    _check(cfg)
    output = Path(cfg.output)
    encode = make_encoder(cfg.encoder) if cfg.texts else None
    table, source = _read(cfg) if Path(cfg.source).is_file() else _harvest(cfg)
    known = len(table.texts)
    if encode is not None:
        extended = extend(table, cfg.texts, encode, cfg.min_cosine)
        new = sorted(set(extended.texts) - set(table.texts))
        source = {"encoder": cfg.encoder, "encoded": new, "rest": source}
        table = extended
    save_table(output, table, source)
    _kept(output).unlink(missing_ok=True)
    print(f"wrote {output}: {len(table.texts)} instructions, vectors of {table.vectors.shape[1]}")
    print(f"  {known} came from {cfg.source}, {len(table.texts) - known} from the encoder")
    print(f"  use it with a policy that takes embeddings: instructions={output}")


def _check(cfg: EmbedConfig) -> None:
    if not cfg.output.endswith(".safetensors"):
        raise ValueError(f"expected output to end with .safetensors, found {cfg.output!r}")
    if bool(cfg.texts) != bool(cfg.encoder):
        raise ValueError(
            "expected texts and encoder together, found only one of them; the encoder encodes the "
            "texts"
        )
    if Path(cfg.source).is_file() and not cfg.texts:
        raise ValueError(
            f"expected texts and encoder to extend the table {cfg.source}, found neither"
        )


def _read(cfg: EmbedConfig) -> tuple["InstructionTable", Any]:
    from v2w_gym.policies.instructions import load_table
    from v2w_gym.world_models.checkpoint import load_checkpoint

    path = Path(cfg.source)
    table = load_table(path)
    return table, load_checkpoint(path)[1]["source"]


def _harvest(cfg: EmbedConfig) -> tuple["InstructionTable", Any]:
    from v2w_gym.policies.embeddings import Harvest, harvest
    from v2w_gym.world_models.data.sources.opening import split_path
    from v2w_gym.world_models.data.sources.rlds_records import open_rlds

    dataset = open_rlds(*split_path(cfg.source))
    found = Harvest(cfg.text_feature, cfg.vector_feature, cfg.tolerance)
    harvest(dataset, found, _kept(Path(cfg.output)), cfg.save_every)
    source = {
        "dataset": dataset.label,
        "split": dataset.split,
        "features": [cfg.text_feature, cfg.vector_feature],
        "episodes": found.episodes,
        "counts": found.counts(),
    }
    return found.table(), source


def _kept(output: Path) -> Path:
    """Return the file of an unfinished harvest."""
    return output.with_suffix(".harvest.npz")

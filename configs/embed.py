"""Settings of `v2w embed`."""

from dataclasses import dataclass, field
from typing import Annotated

from configs.rules import Factor, PathText, Range, Steps
from configs.values import Settings


@dataclass(frozen=True)
class EmbedConfig(Settings):
    """A table of instructions and their embeddings: from recordings, or an older table, plus texts.

    Attributes:
        source: An RLDS folder (a TFDS builder folder) whose steps carry instructions and their
            embeddings, or a table (.safetensors) made before.
        output: Where the table is written (.safetensors); its card lies beside it.
        split: Which part of an RLDS folder is read, such as train or train[:12shard].
        text_feature: The steps' instruction.
        vector_feature: The steps' embedding.
        tolerance: How far apart the values of one instruction's embeddings may be.
        save_every: Episodes between saves of the unfinished harvest.
        texts: More instructions, which `encoder` encodes.
        encoder: What encodes `texts`: "onnx:" and the path of a model.
        min_cosine: Least cosine between the encoder's vectors and those of the source; the
            encoder is refused below it.
    """

    source: PathText
    output: PathText
    split: str = "train"
    text_feature: str = "observation/natural_language_instruction"
    vector_feature: str = "observation/natural_language_embedding"
    tolerance: Factor = 1e-5
    save_every: Steps = 1000
    texts: list[str] = field(default_factory=list)
    encoder: str = ""
    min_cosine: Annotated[float, Range(-1, 1)] = 0.999

"""Read the variables of a SavedModel or a checkpoint with TensorFlow."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.world_models.data.tensorflow import import_tensorflow, reading
from v2w_gym.world_models.downloads import check_not_lfs_pointer

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


@dataclass(frozen=True)
class SavedVariables:
    """The variables of one checkpoint, each read on demand.

    Attributes:
        index: The checkpoint's index file.
        reader: TensorFlow's reader.
    """

    index: Path
    reader: Any

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Names of the variables in the checkpoint, sorted."""
        return tuple(sorted(self.reader.get_variable_to_shape_map()))

    def read(self, key: str) -> NDArray[Any]:
        """Return a variable; TensorFlow checks its checksum.

        Raises:
            ValueError: The variable is damaged.
        """
        with reading(f"{key} beside {self.index}"):
            return np.asarray(self.reader.get_tensor(key))

    def program_names(self) -> dict[str, str]:
        """Return the variables' names in the program, by their keys in the checkpoint.

        Object-based checkpoints have these names, and so do all SavedModels of TensorFlow 2.

        Raises:
            ValueError: The record of the names is damaged.
        """
        if OBJECT_GRAPH not in self.keys:
            return {}
        from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

        graph = TrackableObjectGraph.FromString(self.read(OBJECT_GRAPH).item())
        attributes = [attribute for node in graph.nodes for attribute in node.attributes]
        return {attribute.checkpoint_key: attribute.full_name for attribute in attributes}


def open_variables(path: Path) -> SavedVariables:
    """Open a checkpoint without reading its values.

    Args:
        path: A SavedModel, its folder `variables`, or the prefix of a checkpoint's files.

    Raises:
        FileNotFoundError: No index file at the path.
        ModuleNotFoundError: TensorFlow is not installed.
        ValueError: The index is damaged, or files were not downloaded.
    """
    index = find_index(path)
    prefix = index.with_suffix("")
    for file in (index, *sorted(prefix.parent.glob(f"{prefix.name}.data-*"))):
        check_not_lfs_pointer(file)
    with reading(f"the index of a checkpoint in {index}"):
        return SavedVariables(index, import_tensorflow().train.load_checkpoint(str(prefix)))


def find_index(path: Path) -> Path:
    """Return the index file of a SavedModel, of its folder `variables`, or of a prefix.

    Raises:
        FileNotFoundError: No index file.
    """
    places = (
        path / "variables" / "variables.index",
        path / "variables.index",
        path.with_name(f"{path.name}.index"),
    )
    for index in places:
        if index.is_file():
            return index
    raise FileNotFoundError(
        f"expected variables/variables.index in the SavedModel folder {path}, found none; name the "
        "folder that holds saved_model.pb and variables/"
    )

"""Fixtures for the tests of several packages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.saved_models import tensorflow


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write the SavedModel that settings of `saved_policies.Model` describe, once for each."""
    tf = tensorflow()
    from tests.saved_policies import Model

    built: dict[str, Path] = {}

    def build(**settings: Any) -> Path:
        key = repr(settings)
        if key not in built:
            built[key] = tmp_path_factory.mktemp("saved_model") / "model"
            model = Model(settings)
            tf.saved_model.save(model, str(built[key]), signatures=model.signatures())
        return built[key]

    return build

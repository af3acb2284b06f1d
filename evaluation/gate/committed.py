"""What the committed validation gate found about a world model and a judge."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

GATE = Path(__file__).parents[1] / "reference" / "gate" / "gate.json"
"""What `v2w gate` found for the bundled world model."""
NOT_OF_THE_JUDGE = ("task", "psnr", "psnr_copy")
"""Keys of the gate's open loop that do not concern the judge."""


def committed_gate(model: str, judge: str) -> Mapping[str, Any]:
    """Return what the committed gate found, as JSON values of a `GateResult`.

    Args:
        model: Fingerprint of the world model.
        judge: Name of the judge.

    Returns:
        Empty if the gate measured another pair.
    """
    gate: dict[str, Any] = json.loads(GATE.read_text()) if GATE.is_file() else {}
    return gate if (gate.get("model"), gate.get("judge")) == (model, judge) else {}


def gate_notes(gate: Mapping[str, Any], tasks: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each check that the world model did not pass on these tasks."""
    for check in gate.get("checks", []):
        if not check["passed"] and check["task"] in tasks:
            yield (
                f"{check['task']}: this world model did not pass its validation gate. The gate "
                f"requires that {check['asked']}, and found {check['found']}. Do not rely on the "
                "ranking of this task."
            )


def accuracy_on_generated(gate: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return how accurate the judge was on frames that the world model imagined, by task."""
    return {
        result["task"]: {k: v for k, v in result.items() if k not in NOT_OF_THE_JUDGE}
        for result in gate.get("open_loop", [])
    }

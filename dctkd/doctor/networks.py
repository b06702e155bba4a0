"""What a process of its own finds out about networks with torch and timm."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from dctkd.errors import InputError


def describe(model: dict[str, Any]) -> dict[str, Any]:
    """Return what there is to say about one network.

    Args:
        model: `architecture`, `options`, `num_classes`, `pretrained`, `weights` (path or None); `frozen_stages` (number
            or None) of images of side `crop`.

    Returns:
        `parameters`; `pretrained`: cached, reachable or unreachable, None if not asked for; or `error`, one line.
    """
    from dctkd.freezing import require_freezable
    from dctkd.models import describe_stages, num_parameters
    from dctkd.weights import read_weights, where_pretrained

    try:
        describe_stages(model["architecture"], model["options"])
        parameters = num_parameters(model["architecture"], model["num_classes"], model["options"])
        if model["frozen_stages"] is not None:
            require_freezable(model["architecture"], model["options"], model["frozen_stages"], input_size=model["crop"])
        if model["weights"] is not None:
            read_weights(Path(model["weights"]))
        pretrained = None
        if model["pretrained"]:
            cached, is_to_be_had = where_pretrained(model["architecture"])
            pretrained = "cached" if cached else "reachable" if is_to_be_had else "unreachable"
    except InputError as error:
        return {"error": str(error)}
    return {"parameters": parameters, "pretrained": pretrained}


def main() -> None:
    """Read a JSON list of networks from the first argument; print one JSON object: name to description."""
    models = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps({model["name"]: describe(model) for model in models}) + "\n")

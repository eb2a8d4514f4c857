"""A dataset's own state as JSON values, the material of resume states.

Datasets for torchdata have tensors and tuples in their states.

    JSON values      as they are
    anything else    the bytes of ``torch.save``, as a text; read with ``weights_only=True``: a state runs no code
"""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import torch

from enqueuer.errors import StateError

_SAVED = "torch.save"


def state_to_json(state: Any) -> Any:
    """The state as JSON values. Raises StateError for a state without a way back."""
    if _is_json(state) and not _is_saved(state):
        return state
    stream = io.BytesIO()
    try:
        torch.save(state, stream)
        stream.seek(0)
        torch.load(stream, weights_only=True)
    except Exception as error:
        raise StateError(
            "state_dict() of the dataset has values that torch.load(weights_only=True) cannot read: let it return "
            "numbers, texts, tensors (torch.from_numpy(array) of an array), and lists, tuples and dicts of them"
        ) from error
    return {_SAVED: base64.b64encode(stream.getvalue()).decode("ascii")}


def state_from_json(state: Any) -> Any:
    """The reverse of `state_to_json`. Raises StateError for a text from elsewhere."""
    if not _is_saved(state):
        return state
    try:
        data = base64.b64decode(state[_SAVED], validate=True)
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise StateError(f"the dataset's own state cannot be read: {error}") from error


def _is_saved(state: Any) -> bool:
    return isinstance(state, dict) and list(state) == [_SAVED]


def _is_json(state: Any) -> bool:
    """Whether JSON returns the state unchanged: it makes lists of tuples, and texts of keys."""
    try:
        return bool(json.loads(json.dumps(state)) == state)
    except (TypeError, ValueError):
        return False

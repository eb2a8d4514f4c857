"""Arrays and tensors of a class of their own, on mapped or shared memory: a plain array travels, and is viewed again.

Their classes pickle a copy of the content. Where trainer and workers share the memory, a copy would be silently wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# An attribute of memmaps, which cannot be pickled; the plain array has the mapping.
_MAPPING = "_mmap"


def reduce_array(array: Any, plain: np.ndarray[Any, Any]) -> Any:
    """Reduce an array of a subclass to ``plain``, a view of its content; None if the class pickles itself."""
    cls = type(array)
    if cls is np.ma.MaskedArray:
        return _restore_masked, (plain, array._mask, array._fill_value, array._hardmask)
    if any(getattr(cls, name) is not getattr(np.ndarray, name) for name in ("__reduce__", "__reduce_ex__")):
        return None
    own = {name: value for name, value in getattr(array, "__dict__", {}).items() if name != _MAPPING}
    return _restore_array, (plain, cls, own)


def reduce_tensor(tensor: Any, tensor_class: Any) -> Any:
    """Reduce a tensor of a subclass to a plain one on its memory; None if the class pickles itself."""
    if type(tensor).__reduce_ex__ is not tensor_class.__reduce_ex__ or tensor.requires_grad:
        return None
    return _restore_tensor, (tensor.as_subclass(tensor_class), type(tensor), dict(tensor.__dict__))


def _restore_array(plain: np.ndarray[Any, Any], cls: type[np.ndarray[Any, Any]], own: dict[str, Any]) -> Any:
    array = plain.view(cls)
    if own:
        vars(array).update(own)
    return array


def _restore_masked(plain: np.ndarray[Any, Any], mask: Any, fill_value: Any, hard_mask: bool) -> Any:
    return np.ma.MaskedArray(plain, mask=mask, fill_value=fill_value, hard_mask=hard_mask, copy=False)


def _restore_tensor(plain: Any, cls: type, own: dict[str, Any]) -> Any:
    tensor = plain.as_subclass(cls)
    vars(tensor).update(own)
    return tensor

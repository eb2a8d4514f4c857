"""Conversion of batches: tensors to NumPy arrays and back, on the same memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch.utils.data._utils.collate import collate, collate_tensor_fn, default_collate_fn_map

# Types unknown to NumPy: the integer type of the same width, and the name of the type in ml_dtypes.
_EXTENSIONS = {
    torch.bfloat16: (torch.uint16, "bfloat16"),
    torch.float8_e4m3fn: (torch.uint8, "float8_e4m3fn"),
    torch.float8_e4m3fnuz: (torch.uint8, "float8_e4m3fnuz"),
    torch.float8_e5m2: (torch.uint8, "float8_e5m2"),
    torch.float8_e5m2fnuz: (torch.uint8, "float8_e5m2fnuz"),
}
_EXTENSION_OF_NAME = {name: (dtype, bits) for dtype, (bits, name) in _EXTENSIONS.items()}


def on_cpu() -> AbstractContextManager[Any]:
    """Makes new tensors lie in the CPU's memory, also where the script has set another default device."""
    return nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """Replace each leaf in a structure of dicts, lists, tuples and named tuples. Mappings become dicts."""
    if isinstance(value, Mapping):
        return {key: map_leaves(function, child) for key, child in value.items()}
    if type(value) is list or type(value) is tuple:
        return type(value)([map_leaves(function, child) for child in value])
    if isinstance(value, tuple) and hasattr(value, "_fields") and not type(value).__module__.startswith("torch."):
        return type(value)(*(map_leaves(function, child) for child in value))
    return function(value)


# ---------------------------------------------------------------- to NumPy


def to_arrays(batch: Any) -> Any:
    """The batch with each tensor as an array, which is how it is sent, from a thread as from a process."""
    return map_leaves(_to_array, batch)


def _to_array(leaf: Any) -> Any:
    if not isinstance(leaf, torch.Tensor) or not _is_plain(leaf):
        return leaf
    if leaf.dtype not in _EXTENSIONS:
        return leaf.numpy(force=True)
    bits, name = _EXTENSIONS[leaf.dtype]
    try:
        dtype = getattr(import_module("ml_dtypes"), name)
    except ImportError:
        raise TypeError(f"a tensor of {leaf.dtype} becomes a NumPy array only where ml_dtypes is installed") from None
    return leaf.detach().cpu().contiguous().view(bits).numpy().view(dtype)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether an array holds all of the tensor. Others (sparse, nested, quantized, of a type that NumPy lacks, of a
    subclass, with attributes) stay tensors: they are sent as pickles, as any object that is no array.
    """
    if type(tensor) is not torch.Tensor or tensor.__dict__:
        return False
    is_strided = tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_quantized
    return is_strided and (tensor.dtype in _EXTENSIONS or _numpy_type(tensor.dtype) is not None)


def collate_into_arrays(samples: Any) -> Any:
    """The batch of ``default_collate``, with arrays in place of tensors.

    Large batches are stacked right into memory owned by NumPy: a worker sends that as it lies, and would copy a
    tensor's.
    """
    with on_cpu():
        return to_arrays(collate(samples, collate_fn_map=_COLLATORS))


def _stack(samples: Any, *, collate_fn_map: Any = None) -> Any:
    first = samples[0]
    if (
        type(first) is not torch.Tensor
        or first.layout != torch.strided
        or first.is_nested
        or first.is_quantized
        or first.device.type != "cpu"
        or _numpy_type(first.dtype) is None
        or any(one.requires_grad or one.dtype != first.dtype or one.shape != first.shape for one in samples)
    ):
        return collate_tensor_fn(samples, collate_fn_map=collate_fn_map)
    stacked = np.empty((len(samples), *first.shape), _numpy_type(first.dtype))
    torch.stack(tuple(samples), out=torch.from_numpy(stacked))
    return stacked


@cache
def _numpy_type(dtype: torch.dtype) -> np.dtype[Any] | None:
    """NumPy's own type for the same values; None if there is none, as for half-precision complex numbers."""
    try:
        found: np.dtype[Any] = torch.empty(0, dtype=dtype, device="cpu").numpy().dtype
    except (TypeError, RuntimeError):
        return None
    return found


_COLLATORS = {**default_collate_fn_map, torch.Tensor: _stack}


# ---------------------------------------------------------------- to tensors


def to_tensors(batch: Any, *, pin_memory: bool = False) -> Any:
    """The batch with each array as a tensor on the same memory, kept alive by it; on request a pinned copy.

    Read-only arrays are copied, and so are those that torch cannot describe (negative strides, another byte order).
    Values that no tensor can hold (text, objects, dates, masked arrays) and plain Python values stay as they are.
    """
    return map_leaves(_to_pinned_tensor if pin_memory else _to_tensor, batch)


def _to_tensor(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        return _tensor_of(leaf)
    return torch.as_tensor(leaf, device="cpu") if isinstance(leaf, np.bool_ | np.number) else leaf


def _tensor_of(array: np.ndarray[Any, Any]) -> Any:
    dtype = array.dtype
    if dtype.isbuiltin == 2 and dtype.name in _EXTENSION_OF_NAME:
        extension, bits = _EXTENSION_OF_NAME[dtype.name]
        return _tensor_of(array.view(_numpy_type(bits))).view(extension)
    if dtype.kind not in "biufc" or isinstance(array, np.ma.MaskedArray):
        return array
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
    elif not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()
    try:
        return torch.from_numpy(array)
    except TypeError:
        return array  # such as long double


def _to_pinned_tensor(leaf: Any) -> Any:
    leaf = _to_tensor(leaf)
    return leaf.pin_memory() if hasattr(leaf, "pin_memory") else leaf

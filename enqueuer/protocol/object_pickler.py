"""The pickler of live objects: cloudpickle's, and reductions of what that cannot send, or sends at too high a price.

classes, functions, code   by value, with their file names and lines, and their names in ``__main__`` (`script_code`)
classes, functions of modules that a fresh interpreter does not find: by value, too (`made_modules`)
globals of a script that a function looks up by other means than their names in its code (`script_globals`)
classes with slots, enumerations, registered subclasses, types of ctypes (`classes_by_value`)
cached_property, lru_cache and singledispatch of a script's functions (`decorators`)
instances with a ``__getattr__``, which is not asked (`plain_reduction`)
exceptions and others whose constructors do not take what pickling keeps (`constructors`)
arrays in mapped files (`mapped_arrays`) and in shared memory (`shared_arrays`), of subclasses too (`array_subclasses`)
arrays and tensors that share memory with one another (`array_views`)
proxies of a `multiprocessing.Manager`, with the key that its server asks for; for processes of this host only
libraries that ctypes has loaded, by their path (`c_libraries`)
files opened for reading, by their path (`open_files`); for processes of this host only
plain CPU tensors of torch, as NumPy arrays
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import io
import pickle
import sys
import types
from collections.abc import Callable
from importlib import import_module
from typing import Any

import cloudpickle
import numpy as np

from enqueuer.protocol import array_subclasses, constructors, open_files
from enqueuer.protocol.array_views import ArrayViews
from enqueuer.protocol.c_libraries import reduce_library
from enqueuer.protocol.classes_by_value import PROTOCOL, made_whole, note_known
from enqueuer.protocol.decorators import (
    MemoisedFunction,
    is_dispatcher,
    reduce_cached_property,
    reduce_dispatcher,
    reduce_memoised,
)
from enqueuer.protocol.made_modules import send_made_modules_by_value
from enqueuer.protocol.mapped_arrays import MappedFiles
from enqueuer.protocol.plain_reduction import is_plain_with_getattr, reduce_plainly
from enqueuer.protocol.script_code import SourceFiles, with_name, with_source
from enqueuer.protocol.script_globals import LIMIT_BYTES, ScriptGlobals
from enqueuer.protocol.shared_arrays import SharedMappings, not_shared
from enqueuer.protocol.subclasses import with_subclasses

# A smaller buffer stays in the stream: as a view it costs more (opcode, table entry, alignment) than a copy a worker.
_OUT_OF_BAND_BYTES = 4096
Reduce = Callable[[Any], Any]


class LargeBuffers:
    """Views of the large buffers that a pickler meets; they are no part of its stream."""

    def __init__(self) -> None:
        self.views: list[memoryview] = []

    def keep_in_stream(self, buffer: pickle.PickleBuffer) -> bool:
        """A pickler's ``buffer_callback``."""
        raw = buffer.raw()
        if raw.nbytes < _OUT_OF_BAND_BYTES:
            return True
        self.views.append(raw)
        return False


class ObjectPickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles one object. ``maps_files``: arrays in mapped files are mapped again by the reader, on this host.

    `pickle_whole` drives it: with ``views`` of a first pickling, arrays that share memory do so in the reader, too.
    """

    def __init__(
        self,
        stream: io.BytesIO,
        buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None,
        views: ArrayViews | None = None,
        *,
        maps_files: bool = True,
    ) -> None:
        super().__init__(stream, protocol=PROTOCOL, buffer_callback=buffer_callback)
        self._views = ArrayViews() if views is None else views
        self._is_local = maps_files
        self._files = SourceFiles()
        self._globals = ScriptGlobals(pickle_small)
        self._mapped = MappedFiles(copies=not maps_files)
        self._shared = SharedMappings(copies=not maps_files)
        self._has_proxies = False
        # By class: choosing costs more than most reductions, and a Sequence may hold a million objects of one class.
        self._reductions: dict[type, Reduce] = {}
        # The ids of the classes that were met.
        self._begun: set[int] = set()

    @property
    def shares_memory(self) -> bool:
        """Whether a part of the pickled value lives outside of it: in shared memory, or in a manager's process."""
        return self._shared.is_used or self._has_proxies

    def reducer_override(self, value: Any) -> Any:
        cls = type(value)
        reduction = self._reductions.get(cls)
        if reduction is None:
            reduction = self._reductions[cls] = self._choose(cls)
        return reduction(value)

    def _choose(self, cls: type) -> Reduce:
        if issubclass(cls, (type, types.FunctionType)):
            return self._reduce_definition
        if cls is types.CodeType:
            return self._reduce_code
        # cloudpickle knows plain modules.
        if issubclass(cls, types.ModuleType) and cls is not types.ModuleType and cls.__reduce__ is object.__reduce__:
            return _reduce_module
        if issubclass(cls, functools.cached_property):
            return reduce_cached_property
        if cls is MemoisedFunction:
            return reduce_memoised
        if cls is type(dataclasses.MISSING):
            return _reduce_missing
        if cls in (np.ndarray, np.memmap):
            return self._reduce_array
        if issubclass(cls, np.ndarray):
            return self._reduce_array_of_subclass
        tensor_class = getattr(sys.modules.get("torch"), "Tensor", None)
        if cls is tensor_class:
            return self._reduce_tensor
        if tensor_class is not None and issubclass(cls, tensor_class):
            return self._reduce_tensor_of_subclass
        proxy_class = getattr(sys.modules.get("multiprocessing.managers"), "BaseProxy", None)
        if self._is_local and proxy_class is not None and issubclass(cls, proxy_class):
            self._has_proxies = True
            return _reduce_proxy
        connection_class = getattr(sys.modules.get("multiprocessing.connection"), "_ConnectionBase", None)
        if connection_class is not None and issubclass(cls, connection_class):
            return _refuse_connection
        reduce_handle = open_files.choose(cls) if self._is_local else None
        if reduce_handle is not None:
            return reduce_handle
        if issubclass(cls, ctypes.CDLL):
            return reduce_library
        if is_plain_with_getattr(cls):
            return reduce_plainly
        return (None if cls in self.dispatch_table else constructors.choose(cls)) or _reduce_as_usual

    def _reduce_definition(self, value: Any) -> Any:
        reduced = super().reducer_override(value)
        if not isinstance(reduced, tuple):
            return reduced
        if isinstance(value, type):
            note_known(value)
            self._begun.add(id(value))
            reduced = self._globals.complete_class(made_whole(reduced, value), value)
        elif is_dispatcher(value):
            reduced = reduce_dispatcher(value)
        else:
            reduced = with_subclasses(self._globals.complete(reduced, value), value, self._begun)
        return with_name(reduced, value)

    def _reduce_code(self, value: types.CodeType) -> Any:
        return with_source(self.dispatch_table[types.CodeType](value), value.co_filename, self._files)

    def _reduce_array(self, array: Any) -> Any:
        for kind in (self._mapped, self._shared, self._views):
            reduced = kind.reduce(array)
            if reduced is not NotImplemented:
                return reduced
        return NotImplemented

    def _reduce_array_of_subclass(self, array: Any) -> Any:
        plain = array.view(np.ndarray)
        if self._reduce_array(plain) is NotImplemented:
            return NotImplemented
        reduced = array_subclasses.reduce_array(array, plain)
        if reduced is None and self._shared.holds(plain):
            raise not_shared(f"the class {type(array).__qualname__} has a __reduce__ of its own, which copies")
        return NotImplemented if reduced is None else reduced

    def _reduce_tensor_of_subclass(self, tensor: Any) -> Any:
        torch = sys.modules["torch"]
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or not tensor.is_shared():
            return NotImplemented
        reduced = array_subclasses.reduce_tensor(tensor, torch.Tensor)
        return NotImplemented if reduced is None else reduced

    def _reduce_tensor(self, tensor: Any) -> Any:
        reduced = _reduce_tensor(tensor)
        if tensor.layout == sys.modules["torch"].strided and tensor.device.type == "cpu" and tensor.is_shared():
            array = None if reduced is None else reduced[1][0]
            is_whole = array is not None and array.__array_interface__["data"][0] == tensor.data_ptr()
            self._shared.check(array if is_whole else None)
        return NotImplemented if reduced is None else reduced


def pickle_whole(
    value: Any, make: Callable[[io.BytesIO, Callable[[pickle.PickleBuffer], Any], ArrayViews], ObjectPickler]
) -> tuple[io.BytesIO, list[memoryview]]:
    """Pickle a value with picklers from ``make``: the stream, and the large buffers beside it.

    A value whose arrays share memory is pickled twice; the first time shows which.
    """
    send_made_modules_by_value()
    views: ArrayViews | None = ArrayViews()
    while views is not None:
        stream, large = io.BytesIO(), LargeBuffers()
        make(stream, large.keep_in_stream, views).dump(value)
        views = views.with_blocks()
    return stream, large.views


def pickle_alone(value: Any) -> bytes:
    """Pickle a value for any host as one stream, with its arrays in it."""
    send_made_modules_by_value()
    stream = io.BytesIO()
    ObjectPickler(stream, maps_files=False).dump(value)
    return stream.getvalue()


class _SmallPickler(ObjectPickler):
    """Pickles a definition of a script alone, without the text of its file. Raises _TooLargeError for a large one."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, self._refuse, maps_files=False)
        self._globals = ScriptGlobals(None)

    def _reduce_code(self, value: types.CodeType) -> Any:
        return self.dispatch_table[types.CodeType](value)

    def _refuse(self, buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes > LIMIT_BYTES:
            raise _TooLargeError
        return True


class _TooLargeError(Exception):
    pass


class _SmallStream(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() + len(data) > LIMIT_BYTES:
            raise _TooLargeError
        return super().write(data)


def pickle_small(value: Any) -> bytes | None:
    """The pickle of a definition of a script alone; None if it cannot be pickled, or is large."""
    stream = _SmallStream()
    try:
        _SmallPickler(stream).dump(value)
    except Exception:
        return None
    return stream.getvalue()


def _reduce_as_usual(_: object) -> Any:
    return NotImplemented


def _reduce_proxy(proxy: Any) -> Any:
    rebuild, (kind, token, serializer, options) = proxy.__reduce__()
    return rebuild, (kind, token, serializer, {**options, "authkey": bytes(proxy._authkey)})


def _refuse_connection(connection: Any) -> Any:
    # A connection's pickle has the number of a descriptor; in a worker that is another descriptor, or none.
    name = type(connection).__qualname__
    raise TypeError(f"{name} objects should only be shared between processes through inheritance")


def _reduce_module(module: types.ModuleType) -> Any:
    # One that the import of its file has given another class.
    is_imported = sys.modules.get(module.__name__) is module
    return (import_module, (module.__name__,)) if is_imported else NotImplemented


def _reduce_missing(_: object) -> str:
    # By its name in `dataclasses`, which compares by identity.
    return "MISSING"


def _reduce_tensor(tensor: Any) -> tuple[Any, ...] | None:
    """A plain CPU tensor as a NumPy array; None for others.

    torch's own pickling copies a tensor's whole storage into the stream, and so into each worker, and cannot restore
    float8.
    """
    torch = sys.modules["torch"]
    is_strided = tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_quantized
    if not is_strided or tensor.device.type != "cpu" or tensor.requires_grad:
        return None
    if tensor.is_conj() or tensor.is_neg() or tensor.__dict__:
        return None
    name = str(tensor.dtype).removeprefix("torch.")
    try:
        return _restore_tensor, (tensor.numpy(), name)
    except TypeError:  # NumPy lacks the type: send the bytes
        return _restore_tensor, (tensor.contiguous().reshape(-1).view(torch.uint8).numpy(), name, tuple(tensor.shape))


def _restore_tensor(array: Any, dtype: str, shape: tuple[int, ...] | None = None) -> Any:
    torch: Any = import_module("torch")
    tensor = torch.from_numpy(array)
    return tensor if shape is None else tensor.view(getattr(torch, dtype)).reshape(shape)

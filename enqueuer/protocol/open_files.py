"""Files opened for reading travel to processes of this host as their path, and are opened again there.

    open(path, "rb")                 the path and the position
    zipfile.ZipFile, np.load(.npz)   the path and the options
    h5py.File, Group, Dataset        the path and the name in the file

Each process has a handle of its own, so no read moves the position of another one. A file is sent only while its path
still leads to it. Files open for writing, without a name, or in another way are left to pickle, which refuses them.
"""

from __future__ import annotations

import io
import os
import stat
import sys
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile

Reduce = Callable[[Any], Any]


def choose(cls: type) -> Reduce | None:
    """The reduction for handles of this class; None if it is no class of handles."""
    if cls in (io.BufferedReader, io.FileIO):
        return _reduce_binary
    if cls is zipfile.ZipFile:
        return _reduce_zip
    if cls is NpzFile:
        return _reduce_npz
    h5py = sys.modules.get("h5py")
    if h5py is not None and cls in (h5py.File, h5py.Group, h5py.Dataset):
        return _reduce_h5
    return None


# ---------------------------------------------------------------- in the trainer


def _reduce_binary(file: Any) -> Any:
    path = _path_of(file)
    if path is None or file.writable():
        return NotImplemented
    return _open_binary, (path, file.tell(), isinstance(file, io.FileIO))


def _reduce_zip(archive: zipfile.ZipFile) -> Any:
    path = _path_of(archive.fp) if archive.mode == "r" else None
    return NotImplemented if path is None else (_open_zip, (path, archive.pwd))


def _reduce_npz(archive: Any) -> Any:
    path = None if archive.zip is None else _path_of(archive.zip.fp)
    if path is None:
        return NotImplemented
    return _open_npz, (path, archive.allow_pickle, archive.max_header_size, archive.pickle_kwargs)


def _reduce_h5(node: Any) -> Any:
    if not node or node.file.mode != "r" or node.file.driver != "sec2" or node.name is None:
        return NotImplemented
    path = Path(node.file.filename).absolute()
    name = None if type(node) is sys.modules["h5py"].File else node.name
    return (_open_h5, (str(path), node.file.swmr_mode, name)) if path.is_file() else NotImplemented


def _path_of(file: Any) -> str | None:
    """The absolute path of a regular file, if it still leads to it."""
    name = getattr(file, "name", None)
    if not isinstance(name, str | bytes) or file.closed:
        return None
    path = Path(os.fsdecode(name)).absolute()
    try:
        opened, named = os.fstat(file.fileno()), path.stat()
    except OSError:
        return None
    return str(path) if stat.S_ISREG(opened.st_mode) and os.path.samestat(opened, named) else None


# ---------------------------------------------------------------- in the worker


def _open_binary(path: str, position: int, is_raw: bool) -> Any:
    file = Path(path).open("rb", buffering=0 if is_raw else -1)  # noqa: SIM115 - its owner closes it
    file.seek(position)
    return file


def _open_zip(path: str, password: bytes | None) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(path)
    archive.pwd = password
    return archive


def _open_npz(path: str, allow_pickle: bool, max_header_size: int, options: dict[str, Any]) -> Any:
    return np.load(path, allow_pickle=allow_pickle, max_header_size=max_header_size, **options)


def _open_h5(path: str, swmr: bool, name: str | None) -> Any:
    file = import_module("h5py").File(path, "r", swmr=swmr)
    return file if name is None else file[name]

"""Library settings with an effect on batches: a script sets them once, and a fresh process has the defaults.

Only imported libraries are asked, through their own functions. Left out are settings without an effect on batches, and
settings for the training alone: threads, print options, the precision of products, devices.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable
from typing import Any

Read = Callable[[Any], object]


def _reads_texts_as_str(pandas: Any) -> bool:
    """pandas' ``future.infer_string``: pandas 3 always infers it, and warns of each reading of the old option."""
    return int(pandas.__version__.partition(".")[0]) >= 3 or bool(pandas.get_option("future.infer_string"))


# Each thread has values of its own.
_OF_A_THREAD: dict[str, Read] = {
    "decimal:getcontext().prec": lambda module: module.getcontext().prec,
    "decimal:getcontext().rounding": lambda module: module.getcontext().rounding,
    "decimal:getcontext().traps": lambda module: sorted(
        signal.__name__ for signal, is_trapped in module.getcontext().traps.items() if is_trapped
    ),
    "numpy:geterr()": lambda module: sorted(module.geterr().items()),
    "sklearn:get_config()['transform_output']": lambda module: module.get_config()["transform_output"],
}
_OF_THE_PROCESS: dict[str, Read] = {
    "csv:field_size_limit()": lambda module: module.field_size_limit(),
    "locale:setlocale(LC_COLLATE)": lambda module: module.setlocale(module.LC_COLLATE),
    "locale:setlocale(LC_NUMERIC)": lambda module: module.setlocale(module.LC_NUMERIC),
    "locale:setlocale(LC_TIME)": lambda module: module.setlocale(module.LC_TIME),
    "torch:get_default_dtype()": lambda module: module.get_default_dtype(),
    "torchvision:get_image_backend()": lambda module: module.get_image_backend(),
    "jax:config.jax_enable_x64": lambda module: module.config.jax_enable_x64,
    "keras:backend.floatx()": lambda module: module.backend.floatx(),
    "keras:backend.image_data_format()": lambda module: module.backend.image_data_format(),
    "tf_keras:backend.floatx()": lambda module: module.backend.floatx(),
    "tf_keras:backend.image_data_format()": lambda module: module.backend.image_data_format(),
    "pandas:options.future.infer_string": _reads_texts_as_str,
    "pandas:options.mode.string_storage": lambda module: module.get_option("mode.string_storage"),
    "PIL.Image:MAX_IMAGE_PIXELS": lambda module: module.MAX_IMAGE_PIXELS,
    "PIL.ImageFile:LOAD_TRUNCATED_IMAGES": lambda module: module.LOAD_TRUNCATED_IMAGES,
}
NAMES = frozenset({*_OF_A_THREAD, *_OF_THE_PROCESS})


def read_thread_settings() -> dict[str, str]:
    """The settings of the calling thread, as texts by their names."""
    return _read(_OF_A_THREAD.items())


def read_process_settings() -> dict[str, str]:
    """The settings of the whole process, as texts by their names."""
    return _read(_OF_THE_PROCESS.items())


def _read(settings: Iterable[tuple[str, Read]]) -> dict[str, str]:
    found = {}
    for name, read in settings:
        module = sys.modules.get(name.partition(":")[0])
        if module is not None:
            # Another version may lack it, and so may a library in the middle of its import.
            with contextlib.suppress(Exception):
                found[name] = str(read(module))
    return found

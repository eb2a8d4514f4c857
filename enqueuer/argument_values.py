"""Reads the values of arguments: numbers, truth values and addresses. Each error names the argument and the value.

Callers may pass anything, also an array: it compares element by element, and so has no truth value.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Sequence
from typing import Any, Final

from enqueuer.errors import ConfigurationError
from enqueuer.transport.addresses import is_tcp_address

AUTO: Final = "auto"
# A century, and infinity with it: the clocks of the operating system take no more than some centuries.
LONGEST_SECONDS: Final = 3_153_600_000.0
# Counts travel as 64-bit integers, and the next epoch's number as well.
COUNT_BITS: Final = 62

# A host without a pattern and without a colon, or an IPv6 address in brackets.
_ADDRESS = re.compile(r"tcp://(\*|\[[^\s\[\]]+\]|[^\s:/\[\]*]+):(\*|\d{1,5})", re.ASCII)


def read_number_of_seconds(name: str, value: Any, *, optional: bool = False) -> float:
    """A time in seconds. Raises ConfigurationError with the argument's name."""
    seconds = as_float(value)
    if seconds is None:
        raise ConfigurationError(f"{name} must be a number of seconds{' or None' if optional else ''}, not {value!r}")
    return seconds


def as_float(value: Any) -> float | None:
    """A number; None for anything else, such as an array of two."""
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def as_integer(value: Any) -> int | None:
    """An integer; None for anything else, such as an array of two."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def is_address(address: object) -> bool:
    """Whether this is tcp://HOST:PORT, for a trainer to listen at: also of all interfaces, and of any free port."""
    return isinstance(address, str) and _ADDRESS.fullmatch(address) is not None and is_tcp_address(address)


def address_hint(address: object) -> str:
    """The likely mistake in the address; '' if there is none to see."""
    if not isinstance(address, str):
        return ""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if is_address(f"tcp://{address}"):
        return f"; did you mean 'tcp://{address}'?"
    if port.isdecimal() and int(port) >= 65536:
        return "; ports end at 65535"
    if host.count(":") > 1 and is_address(f"tcp://[{host}]:{port}"):
        return f"; an IPv6 address needs brackets: 'tcp://[{host}]:{port}'"
    return ""


def read_flag(name: str, value: Any, *, optional: bool = False) -> bool:
    """A true or false value of an argument. Raises ConfigurationError with the argument's name."""
    if not _is_flag(value):
        choices = "True, False or None" if optional else "True or False"
        raise ConfigurationError(f"{name} must be {choices}, not {value!r}")
    return bool(value)


def _is_flag(value: Any) -> bool:
    """Whether this is a truth value: NumPy's booleans, and 0 and 1, count as well."""
    try:
        return hasattr(value, "__bool__") and value in (0, 1)
    except Exception:  # an array compares element by element
        return False


def read_count(name: str, value: Any, *, none: str = "") -> int:
    """A number of at least 0. Raises TypeError or ValueError with the argument's name.

    ``none`` is the meaning of None for this argument, if the caller takes None.
    """
    also = f", or None for {none}" if none else ""
    count = as_integer(value)
    if count is None:
        raise TypeError(f"{name} must be an integer{also}, not {value!r}")
    if count < 0:
        raise ValueError(f"{name} must be 0 or more{also}, not {value!r}")
    if count >= 2**COUNT_BITS:
        raise ValueError(f"{name} must be below 2**{COUNT_BITS}, not {value!r}")
    return count


def read_seconds(name: str, value: Any) -> float:
    """A time in seconds, of an argument with None as another choice. Raises TypeError with the argument's name."""
    try:
        return min(read_number_of_seconds(name, value, optional=True), LONGEST_SECONDS)
    except ConfigurationError as error:
        raise TypeError(str(error)) from None


def read_queue_size(max_queue_size: object) -> int | None:
    """The ``max_queue_size`` of ``start()`` as a number; None for 'auto'. Raises TypeError or ValueError."""
    if isinstance(max_queue_size, str) and max_queue_size == AUTO:
        return None
    problem = f"max_queue_size must be an integer or {AUTO!r}, not {max_queue_size!r}"
    if isinstance(max_queue_size, str):
        raise ValueError(problem)
    size = as_integer(max_queue_size)
    if size is None:
        raise TypeError(problem)
    return size


def nearest_name(name: str, known: Sequence[str]) -> str:
    """The end of an error about an unknown keyword: the nearest known one, or a list of all."""
    near = difflib.get_close_matches(name, known, 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else f". There are: {', '.join(known)}"

"""Times, sizes and names in few characters, for tables."""

from __future__ import annotations

UNKNOWN = "–"
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def cut(text: str, width: int) -> str:
    """The text in at most ``width`` characters; … stands for the rest."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"[:width]


def short_seconds(seconds: float) -> str:
    """A time in at most seven characters, such as "20.3 ms"."""
    if seconds < 0.0009995:
        return f"{1e6 * seconds:.0f} µs"
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 999.5 else f"{seconds / 3600:.1f} h" if seconds < 3.6e6 else "days"


def known_seconds(seconds: float) -> str:
    """A time as `short_seconds` has it; a dash for 0: nothing was measured yet."""
    return short_seconds(seconds) if seconds > 0 else UNKNOWN


def short_bytes(nbytes: int) -> str:
    """A size in at most seven characters, such as "12.3 GB"; a thousand bytes are a kB."""
    size = float(nbytes)
    for unit in _UNITS:
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return "huge"


def short_rate(per_second: float) -> str:
    """A number a second in at most five characters, such as "45.2"."""
    if per_second < 9_999.5:
        return f"{per_second:.1f}" if per_second < 99.95 else f"{per_second:.0f}"
    return f"{per_second / 1000:.0f}k" if per_second < 9_999_500 else "huge"


def duration(seconds: float) -> str:
    """A time in its two largest units, such as "2 min 5 s"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def counted(number: int, plural: str) -> str:
    """The number with its noun, such as "1 retry" and "2 retries"; words without a plural stay as they are."""
    singular = plural.removesuffix("ies") + "y" if plural.endswith("ies") else plural.removesuffix("s")
    return f"{number} {singular if number == 1 else plural}"

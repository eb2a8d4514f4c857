"""The library's errors in a command's words: ``key_file='FILE'`` is ``--key-file FILE`` there."""

from __future__ import annotations

import re

import click

# A value as Python writes it, or the … of an example.
_VALUE = r"(?:=(?:'(?P<one>[^']*)'|\"(?P<two>[^\"]*)\"|(?P<bare>True|…|[\w./:*-]*\w)))?"


def in_option_names(text: str, command: click.Command) -> str:
    """Replace the arguments named in an error by the command's options, in one pass."""
    flags = {option.name: option for option in command.params if isinstance(option, click.Option) and option.name}
    # A plain word, such as "bind", names an argument only with its value behind it, or at the head of the text.
    words = "|".join(sorted(flags, key=len, reverse=True))
    underscored = "|".join(name for name in flags if "_" in name) or "(?!)"
    found = re.compile(rf"(?<![\w./\-'])(?:(?:{words})(?==)|\A(?:{words})(?= )|(?:{underscored})(?![\w./])){_VALUE}")
    return found.sub(lambda match: _spell(match, flags), text)


def _spell(match: re.Match[str], flags: dict[str, click.Option]) -> str:
    option = flags[match[0].partition("=")[0]]
    values = [value for value in (match["one"], match["two"], match["bare"]) if value is not None]
    return " ".join([option.opts[-1], *([] if option.is_flag else values)])

"""Changing a value inside a message: coverage-guided mutation of raw bytes seldom gets past a length."""

from __future__ import annotations

import json
import random
from typing import Any

import msgpack

_INTEGERS = (
    0,
    1,
    -1,
    2,
    7,
    16,
    255,
    4096,
    65_536,
    2**31 - 1,
    2**31,
    2**32,
    2**53,
    2**62,
    2**63 - 1,
    2**64 - 1,
    -(2**63),
)
_FLOATS = (0.0, -1.0, 1e300, -1e300, float("inf"), float("nan"), 5e-324)
_TEXTS = (
    "",
    "a",
    "\x00",
    "é",
    "builtins",
    "UnicodeDecodeError",
    "tuple",
    "scalar",
    "int",
    "<f4",
    "O",
    "|V0",
    "a.b" * 99,
)
_BYTES = (b"", b"\x00", b"i" * 16, b"s" * 16, b"\xff" * 9, b"x" * 300)
# Headers of arrays, maps, bytes and extensions that announce more than there is, and nests of them.
_BOMBS = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\x91" * 2000,
    b"\x81" * 2000,
    b"\xdc\x0f\xff" * 600,
    b"\xdd\x00\x00\xff\xff" * 600,
    b"[" * 3000,
    b'{"":' * 3000,
)
_DEEPEST = 12


def mutate(data: bytes, rng: random.Random, *, packed: bool, depth: int = 0) -> bytes:
    """``data`` with one or a few values changed; its bytes, where it cannot be read as values."""
    if rng.random() < 0.02:
        place = rng.randrange(len(data) + 1)
        return data[:place] + rng.choice(_BOMBS) + data[place:]
    if rng.random() < 0.15:
        return _mutate_bytes(data, rng)
    try:
        values = _read(data, packed)
    except Exception:
        return _mutate_bytes(data, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        values = [_mutate_value(value, rng, packed, depth) if rng.random() < 0.6 else value for value in values]
        if rng.random() < 0.05:
            values = values[: rng.randrange(len(values) + 1)] + rng.choices(values, k=min(len(values), 2))
    try:
        return _write(values, packed)
    except Exception:
        return _mutate_bytes(data, rng)


def _read(data: bytes, packed: bool) -> list[Any]:
    if not packed:
        return [json.loads(data)]
    unpacker = msgpack.Unpacker(strict_map_key=False, unicode_errors="surrogatepass", max_buffer_size=max(len(data), 1))
    unpacker.feed(data)
    values = list(unpacker)
    if not values:
        raise ValueError("nothing to change")
    return values


def _write(values: list[Any], packed: bool) -> bytes:
    if not packed:
        return json.dumps(values[0]).encode() + b"\n"
    packer = msgpack.Packer(unicode_errors="surrogatepass")
    return b"".join(map(packer.pack, values))


def _mutate_value(value: Any, rng: random.Random, packed: bool, depth: int) -> Any:
    if depth < _DEEPEST and value and isinstance(value, list | dict) and rng.random() < 0.9:
        return _mutate_inside(value, rng, packed, depth)
    if packed and isinstance(value, bytes) and len(value) > 1 and depth < _DEEPEST and rng.random() < 0.7:
        # A batch header or a frame: messages within messages.
        return mutate(value, rng, packed=packed, depth=depth + 4)
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.4:
        return value + rng.choice((1, -1, 1000, -value))
    return _any_value(rng, packed)


def _mutate_inside(value: Any, rng: random.Random, packed: bool, depth: int) -> Any:
    if isinstance(value, dict):
        changed = dict(value)
        key = rng.choice(list(changed))
        old = changed[key]
        if rng.random() < 0.2:
            del changed[key]
            key = rng.choice(_TEXTS)
        changed[key] = _mutate_value(old, rng, packed, depth + 1)
        return changed
    changed_list = list(value)
    place = rng.randrange(len(changed_list))
    action = rng.random()
    if action < 0.8:
        changed_list[place] = _mutate_value(changed_list[place], rng, packed, depth + 1)
    elif action < 0.9:
        del changed_list[place]
    else:
        changed_list.insert(place, rng.choice((changed_list[place], _any_value(rng, packed))))
    return changed_list


def _any_value(rng: random.Random, packed: bool) -> Any:
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice(_FLOATS)
    if kind <= 2:
        return rng.choice(_INTEGERS) if packed or rng.random() < 0.9 else 10**30
    if kind == 3:
        return rng.choice(_TEXTS)
    if kind == 4:
        return rng.choice(_BYTES) if packed else rng.choice(_TEXTS)
    if kind == 5:
        return rng.choice((None, True, False, [], {}))
    if kind == 6:
        return [rng.choice(_INTEGERS) for _ in range(rng.choice((1, 2, 6, 64)))]
    tag = rng.choice(("tuple", "set", "dict", "complex", "int", "scalar", "str_", "path"))
    return {tag: rng.choice(([1, 2], ["<f4", "abcd"], "0x" + "f" * 40, [[1, 2]], [], None))}


def _mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(len(changed) + 1)
        action = rng.randrange(4)
        if action == 0 or place == len(changed):
            changed[place:place] = rng.randbytes(rng.choice((1, 1, 2, 8)))
        elif action == 1:
            changed[place] ^= 1 << rng.randrange(8)
        elif action == 2:
            changed[place] = rng.choice((0, 0x7F, 0x80, 0x90, 0x91, 0xC0, 0xC4, 0xDC, 0xDD, 0xFF))
        else:
            del changed[place : place + rng.choice((1, 1, 4, 64))]
    return bytes(changed)

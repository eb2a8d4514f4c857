"""The part of an object that keeps it from being pickled."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from typing import Any

import pytest

from enqueuer import ConfigurationError
from enqueuer.protocol.live_object import pack_bundle
from enqueuer.protocol.unpicklable import find_unpicklable


class Holder:
    def __init__(self, **parts: Any) -> None:
        vars(self).update(parts)


class Slotted:
    __slots__ = ("lock", "name")

    def __init__(self) -> None:
        self.name, self.lock = "slots", threading.Lock()


class Stateful(Holder):
    def __getstate__(self) -> dict[str, Any]:
        return {"kept": vars(self)["kept"]}


class Refusing:
    def __reduce__(self) -> Any:
        raise TypeError("no")


@pytest.mark.parametrize(
    ("whole", "path"),
    [
        (Holder(rows=[1, 2], lock=threading.Lock()), ".lock"),
        (Holder(store=Holder(tables={"a": [1, threading.Lock()]})), ".store.tables['a'][1]"),
        (Holder(slots=Slotted()), ".slots.lock"),
        (Stateful(dropped=threading.Lock(), kept=(1, threading.Lock())), ".kept[1]"),
        (Holder(part=Refusing()), ".part"),
        (Holder(rows=iter([]), made=(number for number in ())), ".made"),
    ],
)
def test_the_path_leads_to_the_innermost_part(whole: Any, path: str) -> None:
    found = find_unpicklable(whole)
    assert found is not None
    assert found[0] == path


def test_a_whole_that_refuses_has_no_path() -> None:
    assert find_unpicklable(Refusing()) is None


def test_an_object_that_holds_itself_has_an_end() -> None:
    whole = Holder(lock=threading.Lock())
    whole.itself = Holder(back=whole)
    found = find_unpicklable(whole)
    assert found is not None and found[0] == ".lock"


def test_what_is_nested_too_deep_for_pickle_has_cures_of_its_own() -> None:
    first = last = Holder()
    for _ in range(10_000):
        last.next = Holder()  # type: ignore[attr-defined]
        last = last.next
    with pytest.raises(ConfigurationError, match=r"Holder\.first\.next.*in one list, and links as numbers"):
        pack_bundle(Holder(first=first))


class Owner:
    def __init__(self) -> None:
        self.child = Holder(parent=self)
        self.on_change = self.change
        self.children = [Holder(parent=self)]
        self.lock = threading.Lock()

    def change(self) -> None: ...


def test_a_child_that_holds_its_parent_is_not_in_the_way() -> None:
    found = find_unpicklable(Holder(owner=Owner()))
    assert found is not None
    assert found[0] == ".owner.lock"


def test_the_error_names_the_attribute_and_the_cures() -> None:
    with sqlite3.connect(":memory:") as table:
        sequence = Holder(source=Holder(table=table))
        with pytest.raises(ConfigurationError) as caught:
            pack_bundle(sequence)
    for words in ("Holder cannot be sent", "Holder.source.table, a Connection", "SequenceSpec", "__getstate__"):
        assert words in str(caught.value)


SCRIPT = """
import contextvars, functools, threading
scale, guard = contextvars.ContextVar("scale"), threading.Lock()

class Plain:
    def __getitem__(self, index):
        return [scale.get() for _ in range(index)]

class Derived(Plain):
    pass

class Held:
    @property
    def size(self):
        return Held, guard

def count(step, lock=threading.Lock()):
    return step

def counter(lock):
    return lambda: lock

class Holder:
    def __init__(self, part):
        self.part = part
"""


@pytest.mark.parametrize(
    ("whole", "path", "kind"),
    [
        ("Plain()", ".__getitem__, which uses the global scale", "ContextVar"),
        ("Derived()", ".__getitem__, which uses the global scale", "ContextVar"),
        ("Holder(Held())", ".part.size, which uses the global guard", "lock"),
        ("Holder(count)", ".part's defaults[0]", "lock"),
        ("Holder(counter(guard))", ".part, which uses lock of the function around it", "lock"),
    ],
)
def test_the_path_goes_on_in_the_code_of_a_script(whole: str, path: str, kind: str) -> None:
    script: dict[str, Any] = {"__name__": "__main__"}
    exec(SCRIPT, script)
    found = find_unpicklable(eval(whole, script))
    assert found is not None
    assert (found[0], type(found[1]).__qualname__) == (path, kind)


def test_a_global_in_the_way_has_cures_of_its_own() -> None:
    script: dict[str, Any] = {"__name__": "__main__"}
    exec(SCRIPT, script)
    with pytest.raises(ConfigurationError) as caught:
        pack_bundle(script["Plain"]())
    for words in ("Plain.__getitem__, which uses the global scale, a ContextVar.", "to a module", "SequenceSpec"):
        assert words in str(caught.value)
    assert "__getstate__" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (multiprocessing.Value("i", 1), "Synchronized"),
        (multiprocessing.RawValue("i", 1), "c_int"),
        (multiprocessing.RawArray("d", 3), "c_double_Array_3"),
        (multiprocessing.Lock(), "Lock"),
        (multiprocessing.Event(), "Condition"),
        (multiprocessing.SimpleQueue(), "SimpleQueue"),
        (multiprocessing.Pipe()[0], "Connection"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_processes_share_is_refused_with_cures_that_keep_it_shared(part: Any, name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        pack_bundle(Holder(part=part))
    for words in (f"In the way is Holder.part{'._cond' if name == 'Condition' else ''}, a {name}.", "Manager()"):
        assert words in str(caught.value)
    assert "SequenceSpec" not in str(caught.value)

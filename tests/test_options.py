"""Every option is checked when it is given, and what is wrong is said with its name."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enqueuer import ConfigurationError, OrderedEnqueuer, SequenceEnqueuer
from enqueuer.argument_values import LONGEST_SECONDS
from enqueuer.options import Options, Timing
from enqueuer.security.key_directory import KeyDirectory
from enqueuer.transport.addresses import is_loopback, is_tcp_address
from tests.support.sequences import Bare


def make(**options: Any) -> Options:
    """Options of any type, as a caller without a type checker gives them."""
    return Options(**options)


def test_the_defaults_are_valid_and_frozen() -> None:
    options = make()
    assert (options.shard, options.ordered, options.timing) == ((0, 1), True, Timing())
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("retries", 0),
        ("max_skipped", 0),
        ("max_bytes", 1),
        ("max_worker_deaths", 1),
        ("min_workers", 1),
        ("worker_threads", 1),
        ("max_batches_per_worker", 1),
        ("seed", 0),
    ],
)
def test_a_count_is_an_integer_from_its_least_value_up(name: str, least: int) -> None:
    for good in (least, least + 5, np.int64(least + 1)):
        assert getattr(make(**{name: good}), name) == good
    for bad in (least - 1, -(10**9)):
        with pytest.raises(ConfigurationError, match=f"{name} must be at least {least}, not {bad}"):
            make(**{name: bad})
    for odd in (1.5, "3", True, [1], np.array([1, 2])):
        with pytest.raises(ConfigurationError, match=f"{name} must be an integer"):
            make(**{name: odd})
    with pytest.raises(ConfigurationError, match=rf"{name} must be below 2\*\*6\d"):
        make(**{name: 2**80})


@pytest.mark.parametrize("name", ["max_bytes", "max_worker_deaths", "max_batches_per_worker", "seed"])
def test_none_is_allowed_where_it_means_something(name: str) -> None:
    assert getattr(make(**{name: None}), name) is None
    with pytest.raises(ConfigurationError, match=f"{name} must be an integer or None, not 'x'"):
        make(**{name: "x"})


@pytest.mark.parametrize("name", ["retries", "max_skipped", "min_workers", "worker_threads"])
def test_none_is_refused_where_it_means_nothing(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be an integer, not None"):
        make(**{name: None})


def test_a_seed_has_64_bits() -> None:
    assert make(seed=2**64 - 1).seed == 2**64 - 1
    with pytest.raises(ConfigurationError, match=r"seed must be below 2\*\*64"):
        make(seed=2**64)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("on_error", ("raise", "skip"), ("ignore", None, "")),
        ("shard_remainder", ("drop", "repeat"), ("keep", None, 0)),
        ("compression", (None, "lz4", "zstd"), ("gzip", True, np.array(["lz4", "zstd"]))),
    ],
)
def test_a_choice_is_one_of_the_listed_values(name: str, good: tuple[Any, ...], bad: tuple[Any, ...]) -> None:
    for value in good:
        make(**{name: value})
    for value in bad:
        with pytest.raises(
            ConfigurationError, match=f"{name} must be one of .*{good[1]}.*, not {re.escape(repr(value))}"
        ):
            make(**{name: value})


def test_worker_init_is_something_to_call_or_the_name_of_it() -> None:
    for good in (None, print, "package.module:callable"):
        assert make(worker_init=good).worker_init == good
    for bad in ("package.module", 3, "a:b:c", "1a:b", "a:", ":b"):
        with pytest.raises(ConfigurationError, match=r"worker_init must be a callable or 'package.module:callable'"):
            make(worker_init=bad)


@pytest.mark.parametrize("shard", [(0, 1), (2, 3), [1, 2], (np.int64(0), np.int64(4))])
def test_a_shard_is_a_rank_and_how_many_there_are(shard: Any) -> None:
    assert tuple(make(shard=shard).shard) == tuple(shard)


@pytest.mark.parametrize("shard", [(0,), (0, 1, 2), 3, None, ("a", "b"), (0.5, 2)])
def test_a_shard_that_is_no_pair_of_integers_is_refused(shard: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"shard must be two integers \(rank, world_size\)"):
        make(shard=shard)


@pytest.mark.parametrize("shard", [(1, 1), (-1, 2), (0, 0), (5, 3), (0, -1)])
def test_a_rank_outside_of_its_world_is_refused(shard: Any) -> None:
    with pytest.raises(ConfigurationError, match="shard needs 0 <= rank < world_size"):
        make(shard=shard)


def test_shuffled_shards_need_a_seed_or_they_would_overlap() -> None:
    with pytest.raises(ConfigurationError, match=r"needs the same seed=… on every rank"):
        make(shard=(0, 2), shuffle=True)
    make(shard=(0, 2), shuffle=True, seed=1)
    make(shard=(0, 1), shuffle=True)


@pytest.mark.parametrize("name", ["bind", "data_bind", "advertise"])
@pytest.mark.parametrize(
    "address",
    [
        *("localhost:80", "ipc:///tmp/x", "tcp://", "tcp://host", "tcp://:80", "tcp://h:70000", "tcp://h:x", 80),
        *("tcp://127.0.0.1:0:1", "tcp://h:²", "tcp://::1:80", " tcp://h:80", "tcp://h:80/", "tcp://h :80"),
    ],
)
def test_an_address_is_a_tcp_host_and_port(name: str, address: Any) -> None:
    options: dict[str, Any] = {"bind": "tcp://127.0.0.1:*", "insecure": True, name: address}
    with pytest.raises(ConfigurationError, match=rf"{name} must look like 'tcp://host:port'"):
        make(**options)


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("0.0.0.0:5555", "; did you mean 'tcp://0.0.0.0:5555'?"),
        ("tcp://*:99999", "; ports end at 65535"),
        ("tcp://::1:5555", "; an IPv6 address needs brackets: 'tcp://[::1]:5555'"),
        ("tcp://trainer", ""),
    ],
)
def test_a_wrong_address_comes_with_what_is_wrong(address: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"not {address!r}{hint}") + "$"):
        make(bind=address, insecure=True)


@pytest.mark.parametrize("name", ["data_bind", "advertise"])
def test_addresses_beside_bind_need_bind(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is for remote workers and needs bind"):
        make(**{name: "tcp://127.0.0.1:5556"})


def test_a_key_file_needs_bind_and_contradicts_insecure(tmp_path: Path) -> None:
    keys = tmp_path / "coordinator.key"
    with pytest.raises(ConfigurationError, match="needs bind"):
        make(key_file=keys)
    with pytest.raises(ConfigurationError, match="contradict"):
        make(bind="tcp://*:5555", key_file=keys, insecure=True)


def test_an_advertised_address_may_be_on_any_host() -> None:
    make(bind="tcp://127.0.0.1:*", advertise="tcp://gateway.example:4000")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:5555", "tcp://127.8.9.1:*", "tcp://localhost:0", "tcp://[::1]:*"])
def test_loopback_needs_no_permission(address: str) -> None:
    assert is_tcp_address(address) and is_loopback(address)
    make(bind=address)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Timing)])
@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_an_interval_is_above_zero(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=rf"timing\.{name} must be above 0 seconds"):
        Timing(**{name: value})


def test_a_worker_may_miss_a_heartbeat() -> None:
    with pytest.raises(ConfigurationError, match="at least two heartbeat intervals"):
        Timing(heartbeat_interval=1.0, worker_timeout=1.9)
    Timing(heartbeat_interval=1.0, worker_timeout=2.0)


@pytest.mark.parametrize("name", ["shuffle", "ordered", "allow_pickle", "insecure", "persistent_workers"])
def test_a_flag_is_a_truth_value(name: str) -> None:
    more = {"bind": "tcp://127.0.0.1:*"}
    for good in (True, False, 1, 0, np.True_):
        assert getattr(make(**more, **{name: good}), name) is bool(good)
    for bad in ("no", None, 2, [1], np.array([1, 0])):
        with pytest.raises(ConfigurationError, match=f"{name} must be True or False, not "):
            make(**more, **{name: bad})


def test_prefetch_epochs_may_also_be_none() -> None:
    assert make(prefetch_epochs=None).prefetch_epochs is None
    with pytest.raises(ConfigurationError, match="prefetch_epochs must be True, False or None, not 'yes'"):
        make(prefetch_epochs="yes")


@pytest.mark.parametrize(("name", "value"), [("timing", 3.0), ("key_file", 7)])
def test_a_wrong_type_names_the_option(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be "):
        make(bind="tcp://127.0.0.1:*", **{name: value})


@pytest.mark.parametrize("public", [SequenceEnqueuer, OrderedEnqueuer])
def test_the_constructors_list_every_option_with_its_default_and_sentence(public: type) -> None:
    parameters = list(inspect.signature(public).parameters.values())
    assert [parameter.name for parameter in parameters[:2]] == ["sequence", "use_multiprocessing"]
    listed = [(parameter.name, parameter.default) for parameter in parameters[2:]]
    options = [(field.name, getattr(Options(), field.name)) for field in dataclasses.fields(Options)]
    assert listed == options
    types = {parameter.name: parameter.annotation for parameter in parameters[2:]}
    assert types == {field.name: field.type for field in dataclasses.fields(Options)}
    keyword_only = parameters[2:] if public is SequenceEnqueuer else parameters[3:]
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in keyword_only)
    shown = inspect.getdoc(public.__init__) or ""
    for field in dataclasses.fields(Options):
        assert f"    {field.name}: {field.metadata['doc'].split()[0]}" in shown


def test_timing_lists_every_part_with_its_default_and_sentence() -> None:
    parts = dataclasses.fields(Timing)
    listed = [(parameter.name, parameter.default) for parameter in inspect.signature(Timing).parameters.values()]
    assert listed == [(part.name, part.default) for part in parts]
    shown = inspect.getdoc(Timing) or ""
    for part in parts:
        assert f"    {part.name}: {part.metadata['doc'].split()[0]}" in shown


@pytest.mark.parametrize("public", [SequenceEnqueuer, OrderedEnqueuer])
def test_every_option_that_a_constructor_takes_reaches_the_table(public: type, tmp_path: Path) -> None:
    KeyDirectory(tmp_path).create()
    given: dict[str, Any] = {
        "shuffle": True,
        "seed": 5,
        "ordered": False,
        "shard": (1, 3),
        "shard_remainder": "repeat",
        "prefetch_epochs": True,
        "retries": 7,
        "on_error": "skip",
        "max_skipped": 8,
        "max_worker_deaths": 9,
        "hedge": 2.5,
        "batch_timeout": 10.5,
        "no_worker_timeout": 11.5,
        "bind": "tcp://127.0.0.1:*",
        "data_bind": "tcp://127.0.0.1:0",
        "advertise": "tcp://gateway.example:4000",
        "key_file": str(tmp_path / "coordinator.key"),
        "allow_pickle": True,
        "insecure": False,  # it contradicts a key; its own test is below
        "compression": "lz4",
        "max_bytes": 12,
        "min_workers": 13,
        "worker_threads": 14,
        "worker_init": "package.module:callable",
        "max_batches_per_worker": 15,
        "persistent_workers": True,
        "shared_memory": False,
        "metrics_port": 9464,
        "report": "run.html",
        "timing": Timing(stop=16.0),
    }
    assert set(given) == {field.name for field in dataclasses.fields(Options)}
    assert public(Bare(), **given)._options == Options(**given)
    assert public(Bare(), bind="tcp://*:0", insecure=True)._options.insecure


def test_the_public_class_checks_at_once_and_knows_no_other_options() -> None:
    with pytest.raises(ValueError, match="retries"):
        SequenceEnqueuer(Bare(), retries=-1)
    nearest = "SequenceEnqueuer has no option 'max_retries'; did you mean 'retries'?"
    with pytest.raises(TypeError, match=re.escape(nearest)):
        SequenceEnqueuer(Bare(), max_retries=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"OrderedEnqueuer has no option 'colour'. There are: sequence, "):
        OrderedEnqueuer(Bare(), colour=1)  # type: ignore[call-arg]


def test_a_keyword_in_the_wrong_place_names_the_right_one() -> None:
    enqueuer = SequenceEnqueuer(Bare())
    make_wrong: Any = SequenceEnqueuer
    start: Any = enqueuer.start
    time: Any = Timing
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: make_wrong(Bare(), workers=4), "it is an argument of start(), start(workers=4)"),
        (lambda: make_wrong(Bare(), max_queue_size=4), "it is an argument of start(), start(max_queue_size=4)"),
        (lambda: make_wrong(Bare(), worker_timeout=4), "it is a part of timing, timing=Timing(worker_timeout=4)"),
        (lambda: make_wrong(Bare(), False, True), "takes options by keyword, such as shuffle=True"),
        (lambda: make_wrong(Bare(), num_workers=4), "is an argument of start(), start(workers=…)"),
        (lambda: make_wrong(Bare(), batch_size=4), "an argument of its own constructor"),
        (lambda: make_wrong(Bare(), token_file="t"), "it belongs to the command `enqueuer worker`"),
        (lambda: start(shuffle=True), "it is an option, SequenceEnqueuer(sequence, shuffle=True)"),
        (lambda: start(use_multiprocessing=True), "(sequence, use_multiprocessing=True)"),
        (lambda: start(worker=4), "start() has no argument 'worker'; did you mean 'workers'?"),
        (lambda: start(colour=1), "There are: workers, max_queue_size, epoch"),
        (lambda: time(worker_time=3), "Timing has no option 'worker_time'; did you mean 'worker_timeout'?"),
    ]
    for make_it, text in wrong:
        with pytest.raises(TypeError, match=re.escape(text)):
            make_it()
    assert OrderedEnqueuer(Bare(), False, True)._options.shuffle
    assert not enqueuer.is_running()


def test_times_beyond_a_century_are_a_century() -> None:
    """The clocks of the operating system take no infinite time-out: `stop()` failed with an OverflowError."""
    timing = Timing(stop=float("inf"), worker_timeout=1e300)
    assert timing.stop == timing.worker_timeout == LONGEST_SECONDS
    enqueuer = SequenceEnqueuer(Bare(), timing=timing)
    enqueuer.start()
    enqueuer.stop()
    enqueuer.start()
    enqueuer.stop(float("inf"))


@pytest.mark.parametrize(("name", "value"), [("epoch", 2**63), ("workers", 2**70), ("max_queue_size", True)])
def test_an_argument_of_start_is_a_number_that_a_worker_can_be_told(name: str, value: Any) -> None:
    """An epoch of 2**63 sent every batch back as malformed, for ever."""
    with pytest.raises((TypeError, ValueError), match=rf"{name} must be .*not {value}"):
        SequenceEnqueuer(Bare()).start(**{name: value})


@pytest.mark.parametrize("hedge", [0, 0.5, "always", True, float("inf"), float("nan"), [3], np.array([1, 2])])
def test_a_hedge_that_is_no_factor_is_refused(hedge: Any) -> None:
    with pytest.raises(ConfigurationError, match="hedge must be 'auto', 'off' or a factor of at least 1"):
        Options(hedge=hedge)


@pytest.mark.parametrize(("hedge", "factor"), [("auto", 3.0), ("off", None), (None, None), (2, 2.0), (1.5, 1.5)])
def test_hedging_is_a_factor_or_off(hedge: Any, factor: float | None) -> None:
    assert Options(hedge=hedge).hedge_factor == factor


@pytest.mark.parametrize("name", ["batch_timeout", "no_worker_timeout"])
@pytest.mark.parametrize("seconds", [0, -1.0, "10", True, float("inf"), float("nan")])
def test_a_time_out_is_a_number_of_seconds_or_none(name: str, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be"):
        Options(**{name: seconds})
    assert getattr(Options(**{name: None}), name) is None
    assert type(getattr(Options(**{name: np.float32(2.5)}), name)) is float


def test_an_option_may_be_set_to_what_it_is() -> None:
    """A subclass may keep the arguments of its own constructor, also by the names of options."""

    class Own(SequenceEnqueuer):
        def __init__(self, seed: int) -> None:
            self.seed = seed
            super().__init__(Bare(), seed=seed)
            self.seed = seed

    assert (Own(3).seed, SequenceEnqueuer(Bare(), shuffle=True).shuffle) == (3, True)


def test_use_multiprocessing_may_be_changed_and_is_checked_again() -> None:
    enqueuer = SequenceEnqueuer(Bare())
    enqueuer.use_multiprocessing = True
    assert enqueuer.use_multiprocessing is True
    with pytest.raises(ConfigurationError, match="use_multiprocessing must be True or False, not 8"):
        enqueuer.use_multiprocessing = 8  # type: ignore[assignment]

"""A little fuzzing of every decoder in each test run, all limits measured; `python -m tests.fuzz.run` does more."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import corpus
from tests.fuzz.decoders import DECODERS, Decoder
from tests.fuzz.limits import TooDear, feed_measured
from tests.fuzz.mutation import mutate
from tests.fuzz.run import fuzz

# All decoders together take some 20 s.
EXAMPLES = 100
a_little = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
each_decoder = pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)


@each_decoder
def test_the_corpus_and_valid_messages_are_accepted_or_refused_within_the_limits(decoder: Decoder) -> None:
    for data in [*decoder.samples(), *corpus.load(decoder.name)]:
        feed_measured(decoder.feed, data)


@each_decoder
def test_changed_messages_are_accepted_or_refused_within_the_limits(decoder: Decoder) -> None:
    valid = [*decoder.samples(), *corpus.load(decoder.name)]

    @a_little
    @given(st.sampled_from(valid), st.integers(0, 2**32))
    def check(data: bytes, seed: int) -> None:
        feed_measured(decoder.feed, mutate(data, random.Random(seed), packed=decoder.packed))

    check()


@each_decoder
def test_any_bytes_are_accepted_or_refused_within_the_limits(decoder: Decoder) -> None:
    pieces = st.sampled_from([data[:64] for data in decoder.samples()]) | st.binary(max_size=64)

    @a_little
    @given(st.lists(pieces, max_size=5).map(b"".join))
    def check(data: bytes) -> None:
        feed_measured(decoder.feed, data)

    check()


@each_decoder
def test_a_change_of_values_can_be_repeated_from_its_seed(decoder: Decoder) -> None:
    for data in decoder.samples()[:2]:
        once, again = (mutate(data, random.Random(3), packed=decoder.packed) for _ in range(2))
        assert once == again


def test_a_decoder_that_allocates_too_much_is_reported() -> None:
    with pytest.raises(TooDear, match="bytes of memory"):
        feed_measured(lambda data: bytearray(50_000_000), b"short")


def test_a_decoder_that_raises_another_error_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """Through the command's own way: a child process, whose failure is a defect."""
    broken = Decoder("target", lambda data: None, lambda: [b"m:f"])
    assert fuzz(broken, "no such engine", 1, 0, keep=False) > 0
    lost = Decoder("no such decoder", lambda data: None, lambda: [b"m:f"])
    assert fuzz(lost, "mutation", 1, 0, keep=False) == 0
    assert "DEFECT" in capsys.readouterr().out


def test_a_corpus_is_small_and_holds_each_input_once(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "DIRECTORY", tmp_path)
    monkeypatch.setattr(corpus, "MOST_INPUTS", 3)
    corpus.store("x", [b"b", b"a", b"a", b"x" * (corpus.MOST_BYTES + 1), b"cc", b"dddd"])
    assert sorted(corpus.load("x")) == [b"a", b"b", b"cc"]

"""The names in code: of globals alone, or of attributes as well."""

from __future__ import annotations

from enqueuer.protocol.code_names import globals_in, names_in


def evaluate(model):
    def inner():
        return eval("model")

    return model.train().exec(inner, len)


def test_all_names_are_found_in_their_order_each_once_and_those_of_inner_functions():
    assert list(names_in(evaluate.__code__)) == ["train", "exec", "len", "eval"]


def test_a_method_is_no_global_of_its_name():
    assert globals_in(evaluate.__code__) == {"len", "eval"}

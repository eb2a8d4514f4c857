import sys

import pytest

from enqueuer.errors import AuthenticationError, ConfigurationError
from enqueuer_worker.sequence.allowance import Allowance

SOURCE = """
from subprocess import getoutput
from collections import OrderedDict as Renamed
import os

class Train:
    pass

def make():
    pass

number = 3
"""


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """Two packages with the same beginning of their names."""
    for package in ("allowproj", "allowproj_evil"):
        folder = tmp_path / package / "sub"
        folder.mkdir(parents=True)
        for name in (folder.parent / "__init__.py", folder / "__init__.py"):
            name.write_text("")
        (folder.parent / "data.py").write_text(SOURCE)
        (folder / "deep.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("allowproj")]:
        del sys.modules[name]


@pytest.mark.parametrize("target", ["allowproj.data:Train", "allowproj.sub.deep:make"])
def test_a_package_allows_what_its_own_modules_define(target):
    assert Allowance(packages=("allowproj",)).resolve(target).__name__ == target.partition(":")[2]


@pytest.mark.parametrize(
    "target",
    ["allowproj_evil.data:Train", "subprocess:getoutput", "allowproj2:x", "os:system", "allow:x", "builtins:exec"],
)
def test_other_modules_are_refused_before_they_are_imported(target):
    with pytest.raises(AuthenticationError, match="may not run"):
        Allowance(packages=("allowproj",)).resolve(target)
    assert "allowproj_evil" not in sys.modules


@pytest.mark.parametrize(
    "target",
    [
        "enqueuer.protocol.live_object:unpack_object",
        "enqueuer.compute.spec:import_target",
        "enqueuer_worker.run:run_worker",
    ],
)
def test_this_librarys_own_packages_are_never_allowed(target):
    allowed = Allowance(packages=("enqueuer", "enqueuer_worker"))
    with pytest.raises(AuthenticationError, match="may not run"):
        allowed.resolve(target)
    assert allowed.resolve("enqueuer.demo.augment:make_sequence")
    assert Allowance(sequences=(target,)).resolve(target)


def test_a_sub_package_does_not_allow_what_is_above_or_beside_it():
    allowed = Allowance(packages=("allowproj.sub",))
    assert allowed.resolve("allowproj.sub.deep:make")
    with pytest.raises(AuthenticationError):
        allowed.resolve("allowproj.data:make")


@pytest.mark.parametrize("name", ["getoutput", "Renamed"])
def test_a_callable_that_a_module_only_imports_is_refused(name):
    with pytest.raises(AuthenticationError, match=r"not defined in allowproj\.data but in (subprocess|collections)"):
        Allowance(packages=("allowproj",)).resolve(f"allowproj.data:{name}")


@pytest.mark.parametrize(
    "target", ["allowproj.data:subprocess.getoutput", "allowproj.data:os.system", "allowproj.data"]
)
def test_a_target_with_a_dotted_callable_is_refused(target):
    for allowed in (Allowance(packages=("allowproj",)), Allowance(local=True), Allowance(sequences=(target,))):
        with pytest.raises(ConfigurationError):
            allowed.resolve(target)


@pytest.mark.parametrize("target", ["myproject_evil.data:Train", "myproj.data:subprocess.getoutput"])
def test_a_package_covers_neither_a_longer_name_nor_a_path_through_its_modules(target):
    with pytest.raises((AuthenticationError, ConfigurationError)):
        Allowance(packages=("myproject", "myproj")).resolve(target)


def test_a_sequence_is_allowed_exactly_as_written():
    allowed = Allowance(sequences=("allowproj.data:Renamed",))
    assert allowed.resolve("allowproj.data:Renamed").__name__ == "OrderedDict"
    for other in ("allowproj.data:Train", "allowproj.sub.deep:Renamed"):
        with pytest.raises(AuthenticationError):
            allowed.resolve(other)


def test_a_local_worker_may_run_anything():
    assert Allowance(local=True).resolve("os.path:join")
    Allowance(local=True).check_live_object()


def test_the_refusal_says_what_is_allowed_and_which_flag_would_allow_it():
    allowed = Allowance(sequences=("a.b:C",), packages=("p", "q"))
    with pytest.raises(AuthenticationError) as caught:
        allowed.resolve("mine.data:Train")
    text = str(caught.value)
    assert "'mine.data:Train'" in text
    assert "--sequence a.b:C and --allow p and --allow q" in text
    assert "--sequence mine.data:Train or --allow mine" in text
    for target, advice in (
        (
            "enqueuer.demo.augment:make_sequence",
            "--sequence enqueuer.demo.augment:make_sequence or --allow enqueuer.demo",
        ),
        ("enqueuer.compute.spec:import_target", "--sequence enqueuer.compute.spec:import_target"),
    ):
        with pytest.raises(AuthenticationError) as caught:
            allowed.resolve(target)
        assert str(caught.value).endswith(advice)
    with pytest.raises(AuthenticationError, match="allows nothing"):
        Allowance().resolve("mine.data:Train")


def test_a_remote_worker_refuses_a_live_object_and_names_the_spec():
    with pytest.raises(AuthenticationError, match="SequenceSpec"):
        Allowance(packages=("allowproj",)).check_live_object()


def test_allow_pickle_allows_live_objects_but_no_files():
    allowed = Allowance(pickle=True)
    allowed.check_live_object()
    with pytest.raises(AuthenticationError, match="may not name this worker's files"):
        allowed.check_segment()
    with pytest.raises(AuthenticationError, match="allows --allow-pickle"):
        allowed.resolve("mine.data:Train")


def test_a_module_without_that_callable_is_named():
    with pytest.raises(ConfigurationError, match="has nothing under the name 'Tarin'"):
        Allowance(packages=("allowproj",)).resolve("allowproj.data:Tarin")

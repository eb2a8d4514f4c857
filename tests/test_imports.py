"""The imports that each package may have, read from the import statements, and the packages that are not loaded."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import enqueuer
import enqueuer_worker
from tests.support.scripts import run_command

LIBRARY = Path(enqueuer.__file__).parent
WORKER = Path(enqueuer_worker.__file__).parent
OURS = ("enqueuer", "enqueuer_worker")
KEYS = "enqueuer.security.keys"
FRAMEWORKS = ("keras", "tf_keras", "tensorflow", "torch", "jax", "datasets", "torchdata")

# For each package: what of ours it may import, besides itself.
ALLOWED = {
    "enqueuer.core": {"enqueuer.protocol.messages", "enqueuer.options", "enqueuer.errors", "enqueuer.rate_limit"},
    "enqueuer.stream": {"enqueuer.errors"},
    "enqueuer.protocol": {"enqueuer.memory", "enqueuer.errors"},
    "enqueuer.memory": {"enqueuer.host", "enqueuer.errors"},
    "enqueuer.transport": {"enqueuer.security", "enqueuer.host", "enqueuer.errors", "enqueuer.rate_limit"},
    "enqueuer.security": {"enqueuer.errors", "enqueuer.rate_limit"},
    "enqueuer.host": {"enqueuer.errors"},
    "enqueuer.fresh_interpreter": {"enqueuer.errors"},
    "enqueuer.started_programs": set(),
    "enqueuer.compute": {"enqueuer.stream", "enqueuer.protocol", "enqueuer.errors"},
    "enqueuer.monitoring": {
        "enqueuer.core.verdict",
        "enqueuer.core.window",
        "enqueuer.core.fleet_history",
        "enqueuer.core.item_times",
        "enqueuer.protocol.observation",
        "enqueuer.transport.unix_listener",
        "enqueuer.host",
        "enqueuer.errors",
    },
    "enqueuer.top": {
        "enqueuer.monitoring",
        "enqueuer.observer",
        "enqueuer.core.verdict",
        "enqueuer.protocol.messages",
        "enqueuer.protocol.observation",
    },
    "enqueuer.observer": {
        "enqueuer.monitoring.trainer_sockets",
        "enqueuer.protocol",
        "enqueuer.security",
        "enqueuer.transport",
        "enqueuer.errors",
    },
    "enqueuer.runtime": {
        "enqueuer",  # its version
        "enqueuer.core",
        "enqueuer.stream",
        "enqueuer.transport",
        "enqueuer.security",
        "enqueuer.memory",
        "enqueuer.host",
        "enqueuer.fresh_interpreter",
        "enqueuer.started_programs",
        "enqueuer.protocol",
        "enqueuer.compute",
        "enqueuer.monitoring",
        "enqueuer.options",
        "enqueuer.errors",
    },
    "enqueuer.options": {"enqueuer.argument_values", "enqueuer.errors"},
    "enqueuer.argument_values": {"enqueuer.transport.addresses", "enqueuer.errors"},
    "enqueuer.errors": set(),
    "enqueuer.rate_limit": set(),
    "enqueuer.sequence": {"enqueuer.compute"},
    "enqueuer_worker": {
        "enqueuer",  # its version
        "enqueuer.protocol",
        "enqueuer.memory",
        "enqueuer.transport",
        "enqueuer.security",
        "enqueuer.monitoring.health",
        "enqueuer.host",
        "enqueuer.fresh_interpreter",
        "enqueuer.started_programs",
        "enqueuer.compute",
        "enqueuer.cli.caller_error",
        "enqueuer.cli.option_names",
        "enqueuer.errors",
        "enqueuer.rate_limit",
    },
}


def files_of(package: str) -> Iterator[Path]:
    top, *rest = package.split(".")
    root = (LIBRARY if top == "enqueuer" else WORKER).joinpath(*rest)
    return iter(root.rglob("*.py")) if root.is_dir() else iter([root.with_suffix(".py")])


def imports_of(path: Path) -> set[str]:
    """Modules of ours that a file imports, also inside functions; ``from package import name`` counts as package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found.add(node.module or "")
    return {name for name in found if name.split(".")[0] in OURS}


def may_import(module: str, package: str) -> bool:
    """The library's root re-exports everything: where it is allowed, that is its very name and not all under it."""
    return is_within(module, package) or any(
        module == allowed if allowed == "enqueuer" else is_within(module, allowed) for allowed in ALLOWED[package]
    )


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_is_below_it(package: str) -> None:
    files = list(files_of(package))
    assert files
    wrong = [
        f"{path.name} imports {module}"
        for path in files
        for module in sorted(imports_of(path))
        if not may_import(module, package)
    ]
    assert wrong == []


def test_every_package_of_the_library_has_its_rule() -> None:
    packages = {f"enqueuer.{path.parent.name}" for path in LIBRARY.glob("*/__init__.py")}
    users = {"enqueuer.adapters", "enqueuer.cli", "enqueuer.demo", "enqueuer.engines"}
    assert packages - set(ALLOWED) == users, "users of all of it"


def test_the_library_never_imports_the_worker_program_but_for_its_command() -> None:
    importing = {
        path.relative_to(LIBRARY).as_posix()
        for path in LIBRARY.rglob("*.py")
        if any(is_within(module, "enqueuer_worker") for module in imports_of(path))
    }
    assert importing <= {"cli/main.py"}


@pytest.mark.parametrize("package", ["enqueuer.core", "enqueuer.stream"])
def test_a_pure_package_uses_no_clock_thread_socket_or_third_party(package: str) -> None:
    outside = set()
    for path in files_of(package):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                outside |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                outside.add((node.module or "").split(".")[0])
    assert outside.isdisjoint({"time", "threading", "socket", "select", "asyncio", "queue", "os", "zmq", "numpy"})
    assert "msgpack" not in outside


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("enqueuer.protocol.messages", ("numpy", "zmq", "msgpack")),
        ("enqueuer.errors", ("numpy", "zmq", "msgpack")),
        ("enqueuer_worker.supervisor.supervisor", ("numpy", KEYS)),
        ("enqueuer_worker.local", ("numpy", "click", KEYS)),
        ("enqueuer_worker.process.io_loop", ("click", KEYS)),
        ("enqueuer_worker.process.compute_loop", ("argparse", "click", KEYS, "enqueuer.stream.state")),
        ("enqueuer.cli.top", ("asyncio",)),
        ("enqueuer.sequence_enqueuer", (KEYS, "enqueuer.security.gatekeeper")),
        ("enqueuer", ("sklearn", "PIL", "tqdm", "click", "prometheus_client", *FRAMEWORKS)),
        ("enqueuer.adapters", FRAMEWORKS),
        ("enqueuer.adapters.keras", FRAMEWORKS),
        ("enqueuer.adapters.tensorflow", FRAMEWORKS),
        ("enqueuer.engines.ray", ("ray",)),
    ],
)
def test_a_module_loads_no_package_that_it_does_not_need(tmp_path: Path, module: str, absent: tuple[str, ...]) -> None:
    source = f"import sys, {module}\nprint([name for name in {absent} if name in sys.modules])"
    assert run_command(source, tmp_path) == "[]\n"

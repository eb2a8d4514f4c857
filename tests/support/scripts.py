"""Whole programs that use the library, each in an interpreter of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.remote import environment


def run_script(source: str, directory: Path, arguments: Sequence[str] = (), timeout: float = 30.0) -> str:
    """Run a program as a file, without a main guard; returns its output. Fails if it fails or does not end."""
    path = directory / "script.py"
    path.write_text(source)
    return run_python([str(path), *arguments], directory, timeout)


def run_command(source: str, directory: Path, timeout: float = 30.0) -> str:
    """Run a program with ``python -c``, without any file; returns its output. Fails if it fails or does not end."""
    return run_python(["-c", source], directory, timeout)


def start_script(source: str, directory: Path, arguments: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start a program in a process group of its own and leave it running; the caller ends it."""
    path = directory / "script.py"
    path.write_text(source)
    return subprocess.Popen(
        [sys.executable, str(path), *arguments],
        cwd=directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell's background job ignores Ctrl-C, and so would all programs that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def write_broken_module(directory: Path, name: str) -> str:
    """A module of this name that cannot be imported, in the directory; returns the directory's path."""
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.py").write_text(f"raise ImportError('{name} is not the real one')")
    return str(directory)


def run_python(arguments: list[str], directory: Path, timeout: float = 30.0, **variables: str) -> str:
    """Run the interpreter with these arguments in that directory; returns what it printed. Fails if it fails."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env={**environment(), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout

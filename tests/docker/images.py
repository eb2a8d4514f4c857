"""The images of the tests: built from deploy/Dockerfile, on a stand-in for its base where that cannot be pulled.

The stand-in is Debian's bookworm with its own Python 3.11, which is what the Dockerfile's base is made of as well; it
trusts the certificates that this machine trusts.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.docker.engine import run, succeeds, unmount_below
from tests.support.remote import REPOSITORY

BASE = "python:3.11-slim-bookworm"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
# Of the environment: how a build reaches the packages.
_PASSED_ON = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_PULL_SECONDS = 120
# Not needed to run anything, a third of a minimal Debian.
_LEFT_OUT = ("./dev/*", "./proc/*", "./sys/*", "./usr/share/doc/*", "./usr/share/locale/*", "./usr/share/man/*")


@contextlib.contextmanager
def image(name: str, extras: str = "demo") -> Iterator[str]:
    """Built under this name, and removed afterwards with all that was made for it; yields its size, in words."""
    with _base():
        before = _dangling()
        try:
            passed_on = [f"--build-arg={variable}" for variable in _PASSED_ON if variable in os.environ]
            dockerfile = f"--file={REPOSITORY}/deploy/Dockerfile"
            # Both builders must manage; the old one is all that some engines have.
            run(
                "docker",
                "build",
                *passed_on,
                f"--build-arg=EXTRAS={extras}",
                dockerfile,
                f"--tag={name}",
                str(REPOSITORY),
                env={"DOCKER_BUILDKIT": "0"},
            )
            yield run("docker", "image", "ls", "--format={{.Size}}", name)
        finally:
            left = {name, *(_dangling() - before)}
            subprocess.run(["docker", "image", "rm", "--force", *left], capture_output=True, check=False)


def _dangling() -> set[str]:
    return set(run("docker", "image", "ls", "--quiet", "--filter=dangling=true").split())


@contextlib.contextmanager
def _base() -> Iterator[None]:
    if succeeds("docker", "image", "inspect", BASE):
        yield
        return
    if not _pulled():
        with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
            try:
                _import_debian(Path(directory))
            finally:
                # A debootstrap that was cut short leaves its /proc, which must not be deleted with the directory.
                unmount_below(Path(directory))
    try:
        yield
    finally:
        subprocess.run(["docker", "image", "rm", "--force", BASE], capture_output=True, check=False)


def _pulled() -> bool:
    try:
        return subprocess.run(["docker", "pull", BASE], capture_output=True, timeout=_PULL_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _import_debian(directory: Path) -> None:
    root = directory / "root"
    packages = "--include=ca-certificates,python3,python3-venv"
    run("debootstrap", "--variant=minbase", packages, "bookworm", str(root))
    (root / CERTIFICATES.lstrip("/")).write_bytes(Path(CERTIFICATES).read_bytes())
    left_out = [f"--exclude={pattern}" for pattern in (*_LEFT_OUT, "./var/cache/apt/*", "./var/lib/apt/lists/*")]
    archive = directory / "root.tar"
    run("tar", f"--directory={root}", *left_out, f"--file={archive}", "--create", ".")
    run("docker", "import", f"--change=ENV PIP_CERT={CERTIFICATES}", str(archive), BASE)

"""A Docker engine for the tests: the one that runs, else one of our own, of which nothing is left afterwards.

Our own has its socket and its data in a temporary directory, so that it meets nobody else's containers. It needs root
and Debian's packages, which are installed where they are missing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.waiting import wait_until

PACKAGES = {
    "dockerd": "docker.io",
    "docker-compose": "docker-compose",
    "debootstrap": "debootstrap",
    "iptables": "iptables",
    "ip": "iproute2",
}
_DEBIAN, _NEXT_DEBIAN = "bookworm", "trixie"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_TABLES = {"filter": ("INPUT", "FORWARD", "OUTPUT"), "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")}


class NoEngineError(Exception):
    """What keeps a Docker engine from running here."""


def run(*command: str, env: dict[str, str] | None = None, input: str = "", timeout: float = 600) -> str:
    """What the command prints; an AssertionError with all of it where it fails."""
    done = subprocess.run(
        command,
        env={**os.environ, **(env or {})},
        input=input,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def succeeds(*command: str) -> bool:
    return shutil.which(command[0]) is not None and subprocess.run(command, capture_output=True).returncode == 0


def compose_command() -> list[str]:
    """Version 2 where it is there, else docker-compose 1.29."""
    return ["docker", "compose"] if succeeds("docker", "compose", "version") else ["docker-compose"]


def install_packages() -> None:
    """Raises NoEngineError where that cannot be."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NoEngineError(f"needs {', '.join(missing)}, or root and apt-get to install them")
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    for command in (["apt-get", "update", "-qq"], install):
        done = subprocess.run(command, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, capture_output=True)
        if done.returncode != 0:
            raise NoEngineError(f"{' '.join(command)} failed: {done.stderr.decode(errors='replace')[-500:]}")


@contextlib.contextmanager
def compose_2() -> Iterator[None]:
    """Inside the block there is a `docker compose`. Debian 12 has none; the next Debian's package is a program that
    needs nothing else, and is unpacked beside the system. Raises NoEngineError where it cannot be had.
    """
    if succeeds("docker", "compose", "version"):
        yield
        return
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        _unpack_compose_2(Path(directory))
        before = os.environ.get("DOCKER_CONFIG")
        os.environ["DOCKER_CONFIG"] = directory
        try:
            print(run("docker", "compose", "version"), flush=True)
            yield
        finally:
            os.environ.pop("DOCKER_CONFIG")
            if before is not None:
                os.environ["DOCKER_CONFIG"] = before


def _unpack_compose_2(directory: Path) -> None:
    """As a plugin of the `docker` whose configuration is in ``directory``."""
    if shutil.which("apt-get") is None:
        raise NoEngineError("needs `docker compose`, or apt-get to fetch it")
    # From where this machine has its packages, whatever that is.
    repositories = run("apt-get", "indextargets", "--format=$(REPO_URI) $(RELEASE)", "Created-By: Packages")
    mirror = next((line.split()[0] for line in repositories.splitlines() if line.endswith(f" {_DEBIAN}")), None)
    if mirror is None:
        raise NoEngineError(f"needs `docker compose`, or {_DEBIAN}'s packages to find the mirror of the next")
    (directory / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {mirror} {_NEXT_DEBIAN} main\n")
    settings = {
        "Etc::sourcelist": directory / "sources.list",
        "Etc::sourceparts": "-",
        "State": directory / "state",
        "Cache": directory / "cache",
    }
    for part in ("state/lists/partial", "cache/archives/partial"):
        (directory / part).mkdir(parents=True)
    apt = ["apt-get", "-qq", *(f"-oDir::{name}={value}" for name, value in settings.items())]
    for command in ([*apt, "update"], [*apt, "-oAPT::Sandbox::User=root", "download", "docker-compose"]):
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NoEngineError(f"`docker compose` cannot be fetched: {done.stderr[-500:]}")
    (package,) = directory.glob("docker-compose_*.deb")
    run("dpkg-deb", "--extract", str(package), str(directory / "unpacked"))
    (plugin,) = directory.glob("unpacked/usr/libexec/**/docker-compose")
    (directory / "cli-plugins").mkdir()
    plugin.rename(directory / "cli-plugins" / "docker-compose")


@contextlib.contextmanager
def engine() -> Iterator[None]:
    """One that `docker` finds inside the block. Raises NoEngineError."""
    if succeeds("docker", "info") and (succeeds("docker", "compose", "version") or shutil.which("docker-compose")):
        yield
        return
    install_packages()
    if os.geteuid() != 0:
        raise NoEngineError("needs root, or an engine that runs")
    with tempfile.TemporaryDirectory(prefix="engine-", dir="/var/tmp") as directory:
        with _networking_restored(), _own_engine(Path(directory)) as host:
            before = os.environ.get("DOCKER_HOST")
            os.environ["DOCKER_HOST"] = host
            try:
                yield
            finally:
                os.environ.pop("DOCKER_HOST")
                if before is not None:
                    os.environ["DOCKER_HOST"] = before
        unmount_below(Path(directory))


@contextlib.contextmanager
def _own_engine(directory: Path) -> Iterator[str]:
    host = f"unix://{directory}/docker.sock"
    log = directory / "log"
    with log.open("wb") as sink:
        daemon = subprocess.Popen(
            [
                "dockerd",
                f"--host={host}",
                f"--data-root={directory}/data",
                f"--exec-root={directory}/exec",
                f"--pidfile={directory}/pid",
            ],
            stdout=sink,
            stderr=sink,
            stdin=subprocess.DEVNULL,
        )
    try:
        try:
            wait_until(
                lambda: daemon.poll() is not None or succeeds("docker", "--host", host, "info"),
                _START_SECONDS,
                "dockerd",
            )
        except AssertionError:
            raise NoEngineError(f"dockerd did not start:\n{log.read_text()[-2000:]}") from None
        if daemon.poll() is not None:
            raise NoEngineError(f"dockerd ended:\n{log.read_text()[-2000:]}")
        yield host
    finally:
        daemon.terminate()
        try:
            daemon.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


@contextlib.contextmanager
def _networking_restored() -> Iterator[None]:
    """The host's rules, bridges and forwarding as they were before an engine was at them."""
    rules, links, forwarding = run("iptables-save"), _bridges(), _FORWARDING.read_text()
    try:
        yield
    finally:
        emptied = [
            f"*{table}\n" + "".join(f":{chain} ACCEPT [0:0]\n" for chain in chains) + "COMMIT\n"
            for table, chains in _TABLES.items()
            if f"*{table}\n" not in rules
        ]
        subprocess.run(["iptables-restore"], input=f"{rules}\n{''.join(emptied)}", text=True, check=True)
        for link in _bridges() - links:
            run("ip", "link", "delete", link)
        _FORWARDING.write_text(forwarding)


def _bridges() -> set[str]:
    return {line.split(":")[1].strip() for line in run("ip", "-o", "link", "show", "type", "bridge").splitlines()}


def unmount_below(directory: Path) -> None:
    """What a daemon that was killed has left mounted."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted(mounts, reverse=True):
        if mount.startswith(f"{directory}/"):
            subprocess.run(["umount", "--lazy", mount], check=False)

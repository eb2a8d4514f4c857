"""Kubernetes 1.20 from Debian's source package, which has all of it: built once, and kept in the user's cache.

No engine of today can be had as a package; this one is old, and real. It needs Go, half an hour on two slow cores, and
4 GB while it builds. What is kept is 0.4 GB.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
PAUSE = "pause"
_VERSION = "v1.20.2"
_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
_PACKAGES = {"go": "golang-go", "dpkg-source": "dpkg-dev", "gcc": "gcc"}
_PACKAGE = "k8s.io/kubernetes"
# The one generated file that is not in the sources.
_OPENAPI = Path("pkg/generated/openapi/zz_generated.openapi.go")
_TAG = "+k8s:openapi-gen="
_LEFT_OUT = re.compile(r"code-generator|sample-apiserver|/generated/|_test\.go$")


def programs() -> Path:
    """The directory with the programs, which are built if they are not there. Raises RuntimeError if they cannot be."""
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "enqueuer-tests" / f"kubernetes-{_VERSION}"
    )
    if not all((cache / name).exists() for name in (*PROGRAMS, PAUSE)):
        with tempfile.TemporaryDirectory(prefix="kubernetes-", dir="/var/tmp") as directory:
            _build(Path(directory), cache)
    return cache


def install(packages: dict[str, str]) -> None:
    """Debian's packages of these programs, where a program is missing. Raises RuntimeError if that cannot be."""
    missing = [package for program, package in packages.items() if shutil.which(program) is None]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise RuntimeError(f"needs {', '.join(missing)}, or root and apt-get to install them")
    _run("apt-get", "update", "-qq")
    _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing)


def _build(directory: Path, cache: Path) -> None:
    install(_PACKAGES)
    source = _fetch(directory)
    # A tree of before Go's modules, as Debian builds it.
    place = directory / "go" / "src" / _PACKAGE
    place.parent.mkdir(parents=True)
    source.rename(place)
    go = {
        "GOPATH": str(directory / "go"),
        "GOCACHE": str(directory / "objects"),
        "GO111MODULE": "off",
        "GOFLAGS": "-p=2",
        "CGO_ENABLED": "0",
    }
    _generate_openapi(place, go)
    built = directory / "built"
    built.mkdir()
    version = f"{_PACKAGE}/vendor/k8s.io/component-base/version"
    flags = f"-s -w -X {version}.gitVersion={_VERSION} -X {version}.gitMajor=1 -X {version}.gitMinor=20"
    for name in PROGRAMS:
        print(f"building {name}", flush=True)
        _run("go", "build", f"-ldflags={flags}", "-o", str(built / name), f"./cmd/{name}", cwd=place, env=go)
    _run("gcc", "-Os", "-static", "-o", str(built / PAUSE), "build/pause/linux/pause.c", cwd=place)
    cache.mkdir(parents=True, exist_ok=True)
    for path in built.iterdir():
        # Whole or not at all, since another may wait for it.
        shutil.copy2(path, cache / f".{path.name}")
        (cache / f".{path.name}").replace(cache / path.name)


def _fetch(directory: Path) -> Path:
    """The unpacked sources, from where this machine has its packages."""
    if not _SOURCES.exists():
        raise RuntimeError(f"needs {_SOURCES}, to find Debian's sources")
    sources = directory / "sources"
    (directory / "lists" / "partial").mkdir(parents=True)
    sources.mkdir()
    text = re.sub(r"^Types: .*$", "Types: deb-src", _SOURCES.read_text(), flags=re.MULTILINE)
    (sources / _SOURCES.name).write_text(text)
    settings = {"Etc::sourcelist": "/dev/null", "Etc::sourceparts": sources, "State::lists": directory / "lists"}
    apt = ["apt-get", "-qq", *(f"-oDir::{name}={value}" for name, value in settings.items())]
    _run(*apt, "update")
    _run(*apt, "-oAPT::Sandbox::User=root", "source", "kubernetes", cwd=directory)
    return next(path for path in directory.glob("kubernetes-*") if path.is_dir())


def _generate_openapi(place: Path, go: dict[str, str]) -> None:
    """The API's description, from the packages that ask for it by a comment."""
    print("generating the API's description", flush=True)
    generator = place.parents[2] / "openapi-gen"
    _run("go", "build", "-o", str(generator), "./vendor/k8s.io/kube-openapi/cmd/openapi-gen", cwd=place, env=go)
    found = _run("grep", "-rl", "--include=*.go", _TAG, "staging/src/k8s.io", "pkg", cwd=place).split()
    directories = sorted({str(Path(path).parent) for path in found if not _LEFT_OUT.search(path)})
    packages = [f"{_PACKAGE}/{path.replace('staging/src/', 'vendor/', 1)}" for path in directories]
    _run(
        str(generator),
        f"--input-dirs={','.join(packages)}",
        f"--output-package={_PACKAGE}/{_OPENAPI.parent}",
        f"--output-file-base={_OPENAPI.stem}",
        f"--output-base={place.parents[1]}",
        f"--report-filename={place.parents[2] / 'violations'}",
        "--go-header-file=hack/boilerplate/boilerplate.generatego.txt",
        cwd=place,
        env=go,
    )


def _run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """What the command prints, at the lowest priority. Raises RuntimeError with the end of it where it fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", **(env or {})}
    done = subprocess.run(
        ["nice", "-n", "19", *command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)[:200]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout

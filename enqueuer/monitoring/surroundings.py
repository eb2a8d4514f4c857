"""Checks of the surroundings of a trainer or worker: each is fine, or names the command to mend it.

The checks change nothing and need no running trainer. `enqueuer doctor` prints their findings.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from enqueuer.errors import ConfigurationError
from enqueuer.host import available_bytes, total_bytes, usable_cpus
from enqueuer.monitoring.health import check_private
from enqueuer.monitoring.trainer_sockets import user_directory

# Each remote worker takes two descriptors of its trainer, besides the user's own files.
_ENOUGH_FILES = 4_096
# A container gets half of this without --shm-size, which is little for batches.
_SMALL_SHARED_MEMORY = 128 * 1024**2
# Below this share of the memory, the kernel is near to killing processes.
_LITTLE_MEMORY = 0.1
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - looked at, not written to
# This library did not exist before: a machine without a clock begins in 1970.
_EARLIEST_YEAR = 2025
# `adjtimex` returns this for a clock without a time service.
_TIME_ERROR = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. ``cure`` is '' if all is well, or else the thing to do."""

    name: str
    text: str
    cure: str = ""


def check_machine() -> Iterator[Finding]:
    """All checks of this machine and this installation."""
    yield check_versions()
    yield check_processors()
    yield check_memory(available_bytes(), total_bytes())
    yield check_files(*resource.getrlimit(resource.RLIMIT_NOFILE))
    yield check_shared_memory(_SHARED_MEMORY)
    yield check_directory()
    yield check_clock(time.gmtime().tm_year, is_clock_set())


def check_versions() -> Finding:
    """Python, and the libraries for both sides of a connection."""
    import msgpack
    import numpy
    import zmq

    text = (
        f"Python {platform.python_version()}, NumPy {numpy.__version__}, pyzmq {zmq.__version__} (libzmq "
        f"{zmq.zmq_version()}), msgpack {'.'.join(map(str, msgpack.version))}"
    )
    cure = "" if zmq.has("curve") else "no encryption: pip install --force-reinstall pyzmq"
    return Finding("versions", text, cure)


def check_processors() -> Finding:
    """The processors, and the environment's limits on threads."""
    text = f"{usable_cpus()} processors for this process"
    limits = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ}
    if limits:
        text += ", " + ", ".join(f"{name}={value}" for name, value in limits.items())
    return Finding("processors", f"{text}; workers get worker_threads= (1) threads each")


def check_threads(workers: int, worker_threads: int, cpus: int) -> Finding:
    """Whether libraries in so many workers would start more threads than the machine has processors."""
    total = workers * worker_threads
    text = f"{workers} workers of {worker_threads} BLAS threads are {total} threads on {cpus} processors"
    if worker_threads == 1 or total <= cpus:
        return Finding("threads", text)
    return Finding("threads", text, f"worker_threads={max(1, cpus // workers)} (--worker-threads of `enqueuer worker`)")


def check_memory(available: int | None, total: int) -> Finding:
    """The free memory of the machine and the control group."""
    if available is None:
        return Finding("memory", f"{_size(total)}; what is left is not known here")
    text = f"{_size(available)} of {_size(total)} left, control groups included"
    little = available < _LITTLE_MEMORY * total
    return Finding("memory", text, "fewer workers, or a smaller max_queue_size or max_bytes" if little else "")


def check_files(soft: int, hard: int) -> Finding:
    """The limit of open files. ``start()`` raises the soft one as far as the hard one allows."""
    if hard == resource.RLIM_INFINITY or hard >= _ENOUGH_FILES:
        shown = "any number of" if hard == resource.RLIM_INFINITY else str(hard)
        return Finding("files", f"{shown} open files allowed")
    cure = "ulimit -n 65536 (LimitNOFILE= in a service file, --ulimit nofile=65536 of docker run)"
    return Finding("files", f"at most {hard} open files, now {soft}: two for each remote worker", cure)


def check_shared_memory(directory: Path) -> Finding:
    """Whether large batches of workers on this host can come through shared memory."""
    if not hasattr(os, "memfd_create"):
        return Finding("shared memory", "not on this system: batches come through sockets")
    if not os.access(directory, os.W_OK):
        return Finding("shared memory", f"{directory} is not writable", f"mount -o remount,mode=1777 {directory}")
    free = shutil.disk_usage(directory).free
    small = free < _SMALL_SHARED_MEMORY
    return Finding(
        "shared memory",
        f"{_size(free)} free in {directory}",
        "docker run --shm-size=1g (shm_size: of Compose, an emptyDir with medium: Memory of Kubernetes)"
        if small
        else "",
    )


def check_directory() -> Finding:
    """Whether `enqueuer status` can find the trainers of this user."""
    directory = user_directory()
    try:
        check_private(directory)
    except FileNotFoundError:
        return Finding("trainers", f"no trainer of yours has run here ({directory})")
    except OSError as error:
        return Finding("trainers", str(error), f"chmod 700 {directory}")
    return Finding("trainers", f"found by their sockets in {directory}")


def check_clock(year: int, is_set: bool | None) -> Finding:
    """The clock: no batch depends on it, but times in logs and dashboards of several machines do."""
    if year < _EARLIEST_YEAR:
        return Finding("clock", f"it is {year} here", "timedatectl set-ntp true")
    known = {True: "set by the network's time", None: "by whom it is set is not known here"}
    unset = "not set by the network's time, so logs of several machines may not fit: timedatectl set-ntp true"
    return Finding("clock", known.get(is_set, unset))


def is_clock_set() -> bool | None:
    """Whether a time service keeps the kernel's clock; None if unknown (not Linux)."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # all 0: it is only asked
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def check_key_file(name: str, path: Path, read: Callable[[Path], object]) -> Finding:
    """Whether a key file or token can be used."""
    try:
        read(path)
    except ConfigurationError as error:
        return Finding(name, f"{path} cannot be used", str(error))
    return Finding(name, f"{path} is private and whole")


def _size(nbytes: int) -> str:
    return f"{nbytes / 1024**3:.1f} GiB"

"""The compose files on a real engine: containers come, are killed, cut off, frozen and restarted, and no batch is lost.

`python -m tests.docker.cluster` runs all of it, `… --smoke` what a merge has to pass. Both print the longest gap
between two batches that each fault made, and leave nothing behind: containers, volumes, networks, images, mounts. Where
no engine can run it says so and passes, unless REQUIRE_DOCKER is set.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.docker.compose_project import ComposeProject, environment_of
from tests.docker.engine import NoEngineError, compose_2, engine, run, succeeds
from tests.docker.images import image
from tests.support.remote import REPOSITORY
from tests.support.snippets import write_modules
from tests.support.training_log import wait_for

PROJECT = str(REPOSITORY / "tests" / "docker" / "project")
SEQUENCE = "data:Batches"
OWN_CODE = ("docker-compose.yml", "deploy/compose.project.yml")


def kill(container: str) -> None:
    """As a crash or the kernel would: `docker kill` counts as the user's wish, and nothing is restarted after it."""
    os.kill(int(run("docker", "inspect", "--format={{.State.Pid}}", container)), signal.SIGKILL)


def smoke(name: str) -> None:
    """Up with 3 workers, scaled to 5, one killed; exact to the end. Then the README's files, as it says."""
    with ComposeProject(OWN_CODE, environment_of(name, PROJECT, SEQUENCE)) as cluster:
        _up_and_scaled(cluster)
        _containers_may_next_to_nothing(cluster)
        _docker_calls_them_healthy(cluster)
        _a_worker_is_killed(cluster)
        print(cluster.finish())
    own_code(name)


def whole(name: str) -> None:
    """Every recipe and every fault, one after the other."""
    for part in PARTS:
        begun = time.monotonic()
        print(f"--- {part.__name__}", flush=True)
        part(name)
        print(f"--- {part.__name__}: {time.monotonic() - begun:.0f} s", flush=True)


def faults(name: str) -> None:
    with ComposeProject(OWN_CODE, environment_of(name, PROJECT, SEQUENCE)) as cluster:
        _up_and_scaled(cluster)
        _containers_may_next_to_nothing(cluster)
        _docker_calls_them_healthy(cluster)
        _a_worker_is_killed(cluster)
        _a_network_is_cut(cluster)
        _a_worker_is_paused(cluster)
        _all_workers_are_restarted(cluster)
        _all_workers_are_killed(cluster)
        _all_workers_are_upgraded(cluster, name)
        _the_trainer_is_killed(cluster)
        _the_trainer_is_restarted(cluster)
        print(cluster.finish())


def _up_and_scaled(cluster: ComposeProject) -> None:
    begun = time.monotonic()
    cluster.up(workers=3)
    cluster.wait_for_workers(3)
    print(f"3 workers serve after {time.monotonic() - begun:.0f} s", flush=True)
    with cluster.fault("scaled from 3 workers to 5"):
        cluster.up(workers=5)
        cluster.wait_for_workers(5)
    for number in range(1, 6):
        assert f" worker worker-{number}-0 on " in cluster.log(), "service and number name a worker"


def _containers_may_next_to_nothing(cluster: ComposeProject) -> None:
    """Not root, no capability, no place to write to but volumes and memory; workers cannot see the trainer's key."""
    format_ = "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}"
    for container in (cluster.trainer, *cluster.containers("worker")):
        found = run("docker", "inspect", f"--format={format_}", container)
        assert found == "1000:1000 true [ALL] [no-new-privileges:true]", f"{container}: {found}"
        assert not succeeds("docker", "exec", container, "touch", "/opt/enqueuer/written"), container
    assert succeeds("docker", "exec", cluster.trainer, "test", "-r", "/keys/trainer/coordinator.key")
    for container in cluster.containers("worker"):
        assert succeeds("docker", "exec", container, "test", "-r", "/keys/worker/worker.token"), container
        assert not succeeds("docker", "exec", container, "test", "-e", "/keys/trainer/coordinator.key"), container


def _docker_calls_them_healthy(cluster: ComposeProject) -> None:
    containers = (cluster.trainer, *cluster.containers("worker"))
    states = ("docker", "inspect", "--format={{.State.Health.Status}}", *containers)
    wait_for(lambda: set(run(*states).split()) == {"healthy"}, "the image's health checks")


def _a_worker_is_killed(cluster: ComposeProject) -> None:
    with cluster.fault("kill -9 of a worker's container"):
        joins = cluster.joins()
        kill(cluster.containers("worker")[0])
        wait_for(lambda: cluster.joins() > joins, "its successor")
        cluster.wait_for_workers(5)


def _a_network_is_cut(cluster: ComposeProject) -> None:
    container = cluster.containers("worker")[1]
    with cluster.fault("a worker's network is disconnected and connected again"):
        run("docker", "network", "disconnect", cluster.network, container)
        cluster.wait_for_workers(4)
        run("docker", "network", "connect", cluster.network, container)
        cluster.wait_for_workers(5)


def _a_worker_is_paused(cluster: ComposeProject) -> None:
    container = cluster.containers("worker")[2]
    with cluster.fault("a worker is paused until it counts as lost, and goes on"):
        run("docker", "pause", container)
        cluster.wait_for_workers(4)
        run("docker", "unpause", container)
        cluster.wait_for_workers(5)


def _all_workers_are_restarted(cluster: ComposeProject) -> None:
    with cluster.fault("rolling restart of all workers"):
        for container in cluster.containers("worker"):
            run("docker", "restart", "--time=45", container)
            cluster.wait_for_workers(5)
            log = cluster.log("--tail=40", container=container)
            assert "draining" in log and "all workers have left" in log, log


def _all_workers_are_killed(cluster: ComposeProject) -> None:
    with cluster.fault("all workers are killed by the user, and started again"):
        cluster.compose("kill", "worker")
        cluster.wait_for_workers(0)
        cluster.up(workers=5)
        cluster.wait_for_workers(5)


def _all_workers_are_upgraded(cluster: ComposeProject, image: str) -> None:
    with cluster.fault("all workers are replaced, with a new image"):
        dockerfile = f"FROM {image}\nLABEL release=2\n"
        run("docker", "build", f"--tag={image}", "-", input=dockerfile, env={"DOCKER_BUILDKIT": "0"})
        release = run("docker", "image", "inspect", "--format={{.Id}}", image)
        cluster.compose("up", "--detach", "--no-deps", "--scale=worker=5", "worker")
        cluster.wait_for_workers(5)
        for container in cluster.containers("worker"):
            assert run("docker", "inspect", "--format={{.Image}}", container) == release, container


def _the_trainer_is_killed(cluster: ComposeProject) -> None:
    with cluster.fault("kill -9 of the trainer's container, which resumes"):
        before = cluster.batches()
        kill(cluster.trainer)
        wait_for(lambda: cluster.log().count("resuming after batch") == 1, "the trainer to resume")
        cluster.wait_for_workers(5)
        assert cluster.batches() >= before


def _the_trainer_is_restarted(cluster: ComposeProject) -> None:
    with cluster.fault("the trainer is restarted, and resumes"):
        run("docker", "restart", cluster.trainer)
        wait_for(lambda: cluster.log().count("resuming after batch") == 2, "the trainer to resume")
        cluster.wait_for_workers(5)


def first_up(_: str) -> None:
    """As a newcomer has it: no image is there, and one command makes it and trains the demo to its end."""
    fresh = "enqueuer-first-up"
    try:
        with ComposeProject(("docker-compose.yml",), {"ENQUEUER_IMAGE": fresh, "EPOCHS": "2"}) as cluster:
            cluster.up(workers=2)
            wait_for(lambda: "accuracy: " in cluster.log(), "the demo's end", 300.0)
    finally:
        subprocess.run(["docker", "image", "rm", "--force", fresh], capture_output=True, check=False)


def bare_image(_: str) -> None:
    """Without what only the demo needs, as deploy/README.md has it."""
    small = "enqueuer-bare"
    try:
        with ComposeProject(("docker-compose.yml",), {"ENQUEUER_IMAGE": small, "EXTRAS": ""}) as cluster:
            cluster.compose("build", "worker")
        program = "import enqueuer, importlib.util; assert importlib.util.find_spec('sklearn') is None"
        run("docker", "run", "--rm", small, "python", "-c", program)
        run("docker", "run", "--rm", small, "enqueuer", "worker", "--help")
        print("without the demo's packages:", run("docker", "image", "ls", "--format={{.Size}}", small), flush=True)
    finally:
        subprocess.run(["docker", "image", "rm", "--force", small], capture_output=True, check=False)


def demo_resumes(name: str) -> None:
    """The file as it is, without an override: the demo is killed in the middle and ends all the same."""
    with ComposeProject(("docker-compose.yml",), {"ENQUEUER_IMAGE": name, "EPOCHS": "60"}) as cluster:
        cluster.up(workers=4)
        wait_for(lambda: "%|" in cluster.log() and _percent(cluster.log()) >= 5, "the demo to get going")
        assert " joined\n" in cluster.log(), "the trainer's log names its workers"
        assert "enqueuer worker --connect" not in cluster.log(), "a container's own address is of no use elsewhere"
        told = cluster.log(container=cluster.containers("worker")[0])
        assert "joined a session" in told and "the Sequence is ready" in told, told
        kill(cluster.trainer)
        wait_for(lambda: "resuming after batch" in cluster.log(), "the demo to resume")
        wait_for(lambda: "accuracy: " in cluster.log(), "the demo's end", 300.0)
        print(next(line for line in cluster.log().splitlines() if line.startswith("accuracy: ")))


def _percent(log: str) -> int:
    return max(int(line.split("%|")[0].split()[-1]) for line in log.splitlines() if "%|" in line)


def two_networks(name: str) -> None:
    """Trainer and workers as on two hosts: networks that Docker keeps apart, joined by published ports, through NAT."""
    host = _address_of_this_machine(name)
    environment = environment_of(name, PROJECT, SEQUENCE, PUBLISH=host, ADVERTISE=f"tcp://{host}:5556")
    files = (*OWN_CODE, "deploy/compose.published.yml")
    with ComposeProject(files, environment) as trainers:
        trainers.up("trainer")
        token = trainers.compose("exec", "-T", "trainer", "cat", "/keys/trainer/worker.token")
        joining = {"ENQUEUER_CONNECT": f"tcp://{host}:5555", "ENQUEUER_TOKEN": token}
        with ComposeProject(("deploy/compose.workers.yml",), {**environment, **joining}) as workers:
            workers.up(workers=2)
            trainers.wait_for_workers(2)
            with trainers.fault("kill -9 of a worker's container on the other host"):
                joins = trainers.joins()
                kill(workers.containers("worker")[0])
                wait_for(lambda: trainers.joins() > joins, "its successor")
                trainers.wait_for_workers(2)
            print(trainers.finish())


def _address_of_this_machine(image: str) -> str:
    """In the engine's default network, which no compose project is in. (An engine that is new does not tell it.)"""
    program = "for line in open('/proc/net/route'): print(*line.split()[1:3])"
    routes = dict(line.split() for line in run("docker", "run", "--rm", image, "python", "-c", program).splitlines())
    return str(ipaddress.IPv4Address(bytes.fromhex(routes["00000000"])[::-1]))


def shared_memory(name: str) -> None:
    """Large batches come through memory that containers share, where the override says so, else through sockets."""
    for files, is_shared in ((OWN_CODE, False), ((*OWN_CODE, "deploy/compose.shared-memory.yml"), True)):
        with ComposeProject(files, environment_of(name, PROJECT, SEQUENCE)) as cluster:
            cluster.up(workers=2)
            cluster.wait_for_workers(2)
            cluster.wait_for_batches(100)
            mapped = _mapped_slabs(cluster.trainer)
            print(f"with {files[-1]}: {mapped} pieces of workers' memory in the trainer", flush=True)
            assert (mapped > 0) is is_shared
            print(cluster.finish())


def own_code(name: str) -> None:
    """The files that deploy/README.md shows, in a directory of their own, as its reader would run them."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)  # the containers' user is another
        write_modules(REPOSITORY / "deploy" / "README.md", Path(directory))
        with ComposeProject(OWN_CODE, environment_of(name, directory, "mydata:Batches")) as cluster:
            cluster.up(workers=4)
            wait_for(lambda: not cluster.containers("trainer"), "its end")
            lines = [line for line in cluster.log().splitlines() if line.endswith("(32, 4)")]
            assert lines == [f"{index}.0 (32, 4)" for index in range(100)], lines
            print(f"{len(lines)} batches, in order", flush=True)


PARTS: tuple[Callable[[str], None], ...] = (
    faults,
    first_up,
    bare_image,
    demo_resumes,
    own_code,
    two_networks,
    shared_memory,
)


def _mapped_slabs(container: str) -> int:
    processes = run("docker", "top", container, "-o", "pid").split()[1:]
    maps = [Path(f"/proc/{pid}/maps").read_text() for pid in processes]
    return sum(text.count("memfd:") for text in maps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="only up, scale, kill, exact")
    parser.add_argument("--compose-2", action="store_true", help="with `docker compose`, fetched where it is missing")
    parser.add_argument(
        "--part", choices=[part.__name__ for part in PARTS], help="only this; without it, one after the other"
    )
    arguments = parser.parse_args()
    # So that what was begun is also removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    part = {part.__name__: part for part in PARTS}.get(arguments.part, whole)
    try:
        on_engine(smoke if arguments.smoke else part, compose_2() if arguments.compose_2 else contextlib.nullcontext())
    except NoEngineError as error:
        print(f"skipped, since no engine can run here: {error}")
        sys.exit(1 if os.environ.get("REQUIRE_DOCKER") else 0)


def on_engine(part: Callable[[str], None], compose: contextlib.AbstractContextManager[None]) -> None:
    """Run it with a fresh image; says how long each step took. Raises NoEngineError."""
    begun = time.monotonic()
    with engine(), compose:
        print(f"the engine runs after {time.monotonic() - begun:.0f} s", flush=True)
        with image("enqueuer-test") as size:
            print(f"the image is built after {time.monotonic() - begun:.0f} s: {size}", flush=True)
            part("enqueuer-test")
            print(f"all passed after {time.monotonic() - begun:.0f} s", flush=True)
    print(f"everything is removed after {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()

"""The manifests of deploy/kubernetes on a real Kubernetes, of one node on this machine: a fleet is scaled, drained,
killed and replaced, its trainer restarted, and no batch is lost or repeated.

`python -m tests.engines.kubernetes_cluster` prints the longest gap between two batches that each event made. It builds
Kubernetes 1.20 from Debian's sources the first time (tests/engines/kubernetes_build.py), needs root, Docker 20.10 or
older with the first version of control groups, and `pip install -e . --group kubernetes`; it leaves nothing behind.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.docker.engine import NoEngineError, engine, install_packages, run
from tests.docker.images import image
from tests.engines.container_runtime import runtime_for_pods
from tests.engines.kubernetes_node import Cluster, cluster
from tests.engines.kubernetes_training import KubernetesTraining, build_image
from tests.support.training_log import wait_for

BASE, IMAGE = "enqueuer-kubernetes-base", "enqueuer-kubernetes-project"


def fleet(made: Cluster) -> None:
    """The life of one training, from the first pod to the last."""
    training = KubernetesTraining(made, IMAGE)
    begun = time.monotonic()
    try:
        training.apply()
        training.wait_for_workers(1)
        print(f"1 worker serves after {time.monotonic() - begun:.0f} s", flush=True)
        _pods_may_next_to_nothing(training)
        _the_training_is_seen(training)
        _the_fleet_is_scaled(training)
        _pods_go(training)
        _the_deployment_is_rolled(training)
        _the_trainer_goes(training)
        print(training.finish())
    except BaseException:
        print(training.describe(), flush=True)
        raise
    training.delete()
    _nothing_is_left()


def _pods_may_next_to_nothing(training: KubernetesTraining) -> None:
    """The key is root's, and the pod's group can read it; nothing but the volumes is writable."""
    script = "stat -L -c '%u:%g %a' /keys/*; id -u; touch /opt/enqueuer/written 2>/dev/null && echo written; true"
    for component in ("trainer", "worker"):
        [pod] = training.names(component)
        assert training.execute(pod, "sh", "-c", script).stdout.split() == ["0:1000", "440", "1000"], component
    wait_for(lambda: training.ready("worker") == 1, "the worker to be ready, as Kubernetes sees it")


def _the_training_is_seen(training: KubernetesTraining) -> None:
    """By a command beside the trainer, and by the metrics pod, with a token that can only observe."""
    assert " serving" in training.execute(training.trainer, "enqueuer", "status").stdout
    wait_for(lambda: training.ready("metrics") == 1, "the metrics pod to be ready")
    [metrics] = training.names("metrics")
    # In the pod itself: without kube-proxy, the address of its Service leads nowhere.
    program = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
    served = training.execute(metrics, "python", "-c", program).stdout
    assert "enqueuer_up 1.0" in served and 'enqueuer_workers{state="serving"} 1.0' in served, served


def _the_fleet_is_scaled(training: KubernetesTraining) -> None:
    for count in (4, 2):
        with training.fault(f"scaled to {count} workers"):
            training.scale(count)
            _wait_for_pods(training, count)


def _wait_for_pods(training: KubernetesTraining, count: int) -> None:
    wait_for(lambda: len(training.names("worker")) == count, f"{count} pods")


def _pods_go(training: KubernetesTraining) -> None:
    with training.fault("a worker's pod is deleted"):
        _replaced(training, lambda pod: training.kubectl("delete", "pod", pod, "--wait=false"))
    wait_for(lambda: training.ready("worker") == 2, "2 ready workers, or the budget lets none go")
    with training.fault("a worker's pod is evicted"):
        _replaced(training, lambda pod: wait_for(lambda: training.evict(pod), "the leave to evict"))
    with training.fault("kill -9 of a worker"):
        [pod, *_] = training.names("worker")
        training.kill(pod, signal.SIGKILL)
        wait_for(lambda: _restarts(training, pod) == 1, "its container to start again")
        training.wait_for_workers(2)
    with training.fault("a worker's pod is deleted without grace"):
        _replaced(training, lambda pod: training.kubectl("delete", "pod", pod, "--force", "--grace-period=0"))
    training.scale(4)
    wait_for(lambda: training.ready("worker") == 4, "4 ready workers")
    with training.fault("a node is emptied: the budget lets half of the workers go at a time"):
        allowed = [training.evict(pod) for pod in training.names("worker")]
        assert allowed == [True, True, False, False], allowed
        wait_for(lambda: training.ready("worker") == 4, "the other half's successors")
        training.wait_for_workers(4)


def _the_deployment_is_rolled(training: KubernetesTraining) -> None:
    with training.fault("the Deployment of 4 workers is rolled"):
        before = set(training.names("worker"))
        training.kubectl("rollout", "restart", "deployment/enqueuer-worker")
        training.kubectl("rollout", "status", "deployment/enqueuer-worker", "--timeout=240s")
        training.wait_for_workers(4)
        assert not before & set(training.names("worker"))


def _the_trainer_goes(training: KubernetesTraining) -> None:
    with training.fault("the trainer's pod is deleted, and another resumes"):
        _resumed(training, lambda pod: training.kubectl("delete", "pod", pod, "--wait=false"))
    with training.fault("kill -9 of the trainer, and another pod resumes"):
        _resumed(training, lambda pod: training.kill(pod, signal.SIGKILL))


def _resumed(training: KubernetesTraining, act: Callable[[str], object]) -> None:
    pod = training.trainer
    act(pod)
    wait_for(lambda: training.trainer not in ("", pod), "another pod")
    wait_for(lambda: "resuming after batch" in training.tail(-1), "the trainer to resume")
    training.wait_for_workers(4)


def _replaced(training: KubernetesTraining, act: Callable[[str], object]) -> None:
    [pod, *others] = training.names("worker")
    act(pod)
    wait_for(lambda: pod not in training.names("worker"), f"the end of {pod}")
    training.wait_for_workers(len(others) + 1)


def _restarts(training: KubernetesTraining, pod: str) -> int:
    statuses = training.get_pod(pod)["status"]["containerStatuses"]
    return sum(int(status["restartCount"]) for status in statuses)


def _nothing_is_left() -> None:
    def containers() -> list[str]:
        return run("docker", "ps", "--all", "--quiet", "--filter=name=k8s_").split()

    wait_for(lambda: not containers(), "the end of all containers")
    processes = [path for path in Path("/proc").glob("[0-9]*") if b"enqueuer-trainer:5555" in _environment(path)]
    assert processes == [], processes
    print("nothing is left: no pod, no container, no process", flush=True)


def _environment(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    # So that what was begun is also removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with contextlib.ExitStack() as stack:
            install_packages()  # runc comes with them
            stack.enter_context(runtime_for_pods())
            stack.enter_context(engine())
            stack.enter_context(image(BASE, extras="metrics"))
            stack.callback(subprocess.run, ["docker", "image", "rm", "--force", f"{IMAGE}:1"], capture_output=True)
            build_image(BASE, f"{IMAGE}:1")
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="kubernetes-", dir="/var/tmp"))
            fleet(stack.enter_context(cluster(Path(directory))))
    except (NoEngineError, RuntimeError) as error:
        sys.exit(f"no cluster can run here: {error}")


if __name__ == "__main__":
    main()

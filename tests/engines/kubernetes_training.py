"""The tests' training (tests/docker/project) on a cluster, made of deploy/kubernetes by a kustomization of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from enqueuer.security.key_directory import KeyDirectory
from tests.docker.engine import run
from tests.engines.kubernetes_manifests import beside_manifests
from tests.engines.kubernetes_node import Cluster
from tests.support.training_log import TrainingLog, wait_for

NAMESPACE = "training"
PROJECT = Path(__file__).parents[1] / "docker" / "project"
_SECRETS = {
    "enqueuer-trainer-key": "coordinator.key",
    "enqueuer-worker-token": "worker.token",
    "enqueuer-observer-token": "observer.token",
}
# What Kubernetes 1.20 does not know is taken out; the PodDisruptionBudget was a beta then. One small node is the rest.
_KUSTOMIZATION = """
namespace: {namespace}
resources: [../deploy/kubernetes/base]
components: [../deploy/kubernetes/components/metrics, ../deploy/kubernetes/components/before-1.26]
images: [{{name: enqueuer, newName: {image}, newTag: "1"}}]
configMapGenerator: [{{name: enqueuer-worker, behavior: merge, literals: [ENQUEUER_ALLOW=data]}}]
replicas: [{{name: enqueuer-worker, count: 1}}]
patches:
  - target: {{kind: Job}}
    patch: |
      - op: remove
        path: /spec/podFailurePolicy
  - target: {{kind: PodDisruptionBudget}}
    patch: |
      - op: replace
        path: /apiVersion
        value: policy/v1beta1
  - target: {{kind: Deployment|Job}}
    patch: |
      - op: replace
        path: /spec/template/spec/containers/0/resources/requests
        value: {{cpu: 50m, memory: 128Mi}}
"""


def build_image(base: str, name: str) -> None:
    """The project's image, as the guide has its reader build one."""
    dockerfile = f"FROM {base}\nCOPY data.py train.py /project/\nWORKDIR /project\n"
    run("docker", "build", "--file=-", f"--tag={name}", str(PROJECT), input=dockerfile, env={"DOCKER_BUILDKIT": "0"})


class KubernetesTraining(TrainingLog):
    """A trainer and its workers in a namespace of their own. Logs and health are those of the trainer's latest pod."""

    def __init__(self, cluster: Cluster, image: str) -> None:
        self.cluster = cluster
        self._image = image

    def kubectl(self, *arguments: str, input: str = "", timeout: float = 300) -> str:
        return self.cluster.kubectl(f"--namespace={NAMESPACE}", *arguments, input=input, timeout=timeout)

    def apply(self) -> None:
        volume = self.cluster.directory / "training"
        volume.mkdir()
        volume.chmod(0o777)  # a directory of the node is given to no group
        self.kubectl("create", "namespace", NAMESPACE)
        self.kubectl("apply", "--filename=-", input=_volume(volume))
        self._create_secrets()
        text = _KUSTOMIZATION.format(namespace=NAMESPACE, image=self._image)
        with beside_manifests(text) as directory:
            self.kubectl("apply", f"--kustomize={directory}")

    def _create_secrets(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            keys = KeyDirectory(directory)
            keys.create()
            keys.add_observer()
            for name, file in _SECRETS.items():
                self.kubectl("create", "secret", "generic", name, f"--from-file={keys.path / file}")

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Those that are not on their way out, the oldest first."""
        label = f"--selector=app.kubernetes.io/component={component}"
        found = self.cluster.items("pods", f"--namespace={NAMESPACE}", label)
        kept = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        return sorted(kept, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def names(self, component: str) -> list[str]:
        return [str(pod["metadata"]["name"]) for pod in self.pods(component)]

    @property
    def trainer(self) -> str:
        """The latest pod's name; empty while there is none."""
        return next(reversed(self.names("trainer")), "")

    def ready(self, component: str) -> int:
        conditions = [one for pod in self.pods(component) for one in pod["status"].get("conditions", ())]
        return sum(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def scale(self, count: int) -> None:
        self.kubectl("scale", "deployment", "enqueuer-worker", f"--replicas={count}")
        self.wait_for_workers(count)

    def evict(self, pod: str) -> bool:
        """As emptying a node does; False if the PodDisruptionBudget forbids it for now."""
        eviction = f'{{"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {{"name": "{pod}"}}}}'
        try:
            self.kubectl(
                "create", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction", "--filename=-", input=eviction
            )
        except AssertionError as error:
            assert "violate the pod's disruption budget" in str(error), error
            return False
        return True

    def execute(self, pod: str, *command: str) -> subprocess.CompletedProcess[str]:
        arguments = [f"--namespace={NAMESPACE}", "exec", pod, "--", *command]
        return self.cluster.run(*arguments)

    def kill(self, pod: str, number: int) -> None:
        """A signal to the first process of this pod's container, from the node, as a crash or the kernel would."""
        found = self.get_pod(pod)["status"]["containerStatuses"][0]["containerID"].partition("://")[2]
        os.kill(int(run("docker", "inspect", "--format={{.State.Pid}}", found)), number)

    def get_pod(self, name: str) -> Any:
        return self.cluster.get("pod", name, f"--namespace={NAMESPACE}")

    # ------------------------------------------------------------ the trainer's log

    def tail(self, lines: int) -> str:
        return self._log(f"--tail={lines}")

    def log_since(self, when: float) -> str:
        return self._log(f"--since-time={datetime.fromtimestamp(when, timezone.utc).isoformat(timespec='seconds')}")

    def health(self) -> str:
        return self.execute(self.trainer, "enqueuer", "health").stdout

    def _log(self, option: str) -> str:
        """Empty while the pod's container is being made."""
        return self.cluster.run(f"--namespace={NAMESPACE}", "logs", self.trainer, option).stdout

    def finish(self) -> str:
        self.kill(self.trainer, signal.SIGUSR1)
        verdict = self.wait_for_verdict()
        assert verdict.startswith("exact"), verdict
        self.kubectl("wait", "--for=condition=complete", "job/enqueuer-trainer", "--timeout=120s")
        return verdict

    def delete(self) -> None:
        """All of it; returns when the last pod has drained."""
        self.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
        wait_for(lambda: not self.cluster.items("pods", f"--namespace={NAMESPACE}"), "the end of all pods")

    def describe(self) -> str:
        """The pods, the events, and the ends of the logs, after a failure."""
        commands = [("get", "pods,jobs,persistentvolumeclaims"), ("get", "events")]
        commands += [
            ("logs", pod, "--tail=40") for kind in ("trainer", "worker", "metrics") for pod in self.names(kind)
        ]
        done = [self.cluster.run(f"--namespace={NAMESPACE}", *command) for command in commands]
        return "\n".join(one.stdout + one.stderr for one in done)


def _volume(directory: Path) -> str:
    return f"""
apiVersion: v1
kind: PersistentVolume
metadata: {{name: training}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  hostPath: {{path: {directory}}}
"""

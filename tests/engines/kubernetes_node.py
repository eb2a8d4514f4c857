"""A Kubernetes of one node on this machine: etcd, the API server, its controllers, the scheduler, kubelet on Docker.

All of it listens on loopback, has its data in a temporary directory, and is gone when the block ends. Pods are on
Docker's own bridge. The cluster's DNS is dnsmasq on the bridge's address; it is told the addresses of services without
a cluster address, which is all that the manifests need, so there is no kube-proxy. Network policies are stored, and
enforced by nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.docker.engine import run
from tests.engines.kubernetes_build import PAUSE, install, programs
from tests.engines.kubernetes_manifests import kubectl
from tests.support.waiting import wait_until

PACKAGES = {"etcd": "etcd-server", "dnsmasq": "dnsmasq-base", "conntrack": "conntrack", "openssl": "openssl"}
DOMAIN = "cluster.local"
PAUSE_IMAGE = "enqueuer-kubernetes-pause:1"
_START_SECONDS = 180.0
_STOP_SECONDS = 60.0
_LOOK_SECONDS = 0.3


class Cluster:
    """`kubectl` on the cluster, and what its node still holds."""

    def __init__(self, directory: Path, command: list[str]) -> None:
        self.directory = directory
        self._command = command

    def kubectl(self, *arguments: str, input: str = "", timeout: float = 300) -> str:
        return run(*self._command, *arguments, input=input, timeout=timeout)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`kubectl`, where it may fail."""
        return subprocess.run([*self._command, *arguments], capture_output=True, text=True, check=False, timeout=300)

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def items(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(kind, *arguments)["items"]
        return found


@contextlib.contextmanager
def cluster(directory: Path) -> Iterator[Cluster]:
    """One that runs, with its node ready. Docker has to be there. Raises RuntimeError if it cannot be built here."""
    install(PACKAGES)
    built = programs()
    program = kubectl()
    if program is None:
        raise RuntimeError("needs kubectl: pip install -e . --group kubernetes")
    server, token = free_address(), secrets.token_hex()
    _write_credentials(directory, server, token)
    with contextlib.ExitStack() as stack:

        def start(name: str, *command: str) -> None:
            stack.enter_context(_running(directory / f"{name}.log", list(command)))

        with _pause_image(built):
            etcd = free_address()
            start("etcd", "etcd", *_etcd_options(directory, etcd))
            start("kube-apiserver", str(built / "kube-apiserver"), *_api_options(directory, server, etcd))
            config = directory / "kubeconfig"
            made = Cluster(directory, [program, f"--kubeconfig={config}", "--cache-dir", str(directory / "discovery")])
            _wait_for(lambda: _is_ready(made), directory / "kube-apiserver.log")
            manager = ("--leader-elect=false", "--port=0", "--secure-port=0", f"--kubeconfig={config}")
            key = f"--service-account-private-key-file={directory / 'account.key'}"
            start("kube-controller-manager", str(built / "kube-controller-manager"), *manager, key)
            start("kube-scheduler", str(built / "kube-scheduler"), *manager)
            bridge = _bridge_address()
            _write_kubelet_config(directory, bridge)
            start("kubelet", str(built / "kubelet"), *_kubelet_options(directory))
            stack.callback(_remove_mounts, directory)
            _wait_for(lambda: _nodes_ready(made), directory / "kubelet.log")
            stack.enter_context(_dns(made, directory, bridge))
            try:
                yield made
            finally:
                _delete_all(made)


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _port(address: str) -> str:
    return address.rpartition(":")[2]


# ---------------------------------------------------------------- programs


@contextlib.contextmanager
def _running(log: Path, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(condition: Any, log: Path) -> None:
    try:
        wait_until(condition, _START_SECONDS, log.stem)
    except AssertionError:
        raise RuntimeError(f"{log.stem} did not start:\n{log.read_text(errors='replace')[-3000:]}") from None


def _is_ready(made: Cluster) -> bool:
    with contextlib.suppress(AssertionError):
        return made.kubectl("get", "--raw=/readyz") == "ok"
    return False


def _nodes_ready(made: Cluster) -> bool:
    conditions = [one for node in made.items("nodes") for one in node["status"].get("conditions", ())]
    accounts = made.kubectl("get", "serviceaccounts", "--output=name")
    return {"Ready": "True"}.items() <= {one["type"]: one["status"] for one in conditions}.items() and bool(accounts)


def _etcd_options(directory: Path, address: str) -> list[str]:
    peer = free_address()
    return [
        f"--data-dir={directory / 'etcd'}",
        f"--listen-client-urls=http://{address}",
        f"--advertise-client-urls=http://{address}",
        f"--listen-peer-urls=http://{peer}",
        f"--initial-advertise-peer-urls=http://{peer}",
        f"--initial-cluster=default=http://{peer}",
        "--unsafe-no-fsync",
    ]


def _api_options(directory: Path, server: str, etcd: str) -> list[str]:
    return [
        f"--etcd-servers=http://{etcd}",
        "--bind-address=127.0.0.1",
        f"--secure-port={_port(server)}",
        f"--cert-dir={directory / 'certificates'}",
        f"--token-auth-file={directory / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--kubelet-preferred-address-types=Hostname",
        "--service-cluster-ip-range=10.254.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={directory / 'account.key'}",
        f"--service-account-signing-key-file={directory / 'account.key'}",
    ]


def _kubelet_options(directory: Path) -> list[str]:
    return [
        f"--kubeconfig={directory / 'kubeconfig'}",
        f"--config={directory / 'kubelet.json'}",
        f"--root-dir={directory / 'kubelet'}",
        f"--cert-dir={directory / 'kubelet-certificates'}",
        f"--docker-endpoint={os.environ.get('DOCKER_HOST', 'unix:///var/run/docker.sock')}",
        f"--pod-infra-container-image={PAUSE_IMAGE}",
        # Where the API server asks for logs, and runs commands in pods.
        "--hostname-override=localhost",
    ]


# ---------------------------------------------------------------- files


def _write_credentials(directory: Path, server: str, token: str) -> None:
    """One administrator, who all programs are. The server's certificate is its own, so nothing checks it."""
    (directory / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "admin"}}],
        "clusters": [{"name": "it", "cluster": {"server": f"https://{server}", "insecure-skip-tls-verify": True}}],
        "users": [{"name": "admin", "user": {"token": token}}],
    }
    (directory / "kubeconfig").touch(mode=0o600)
    (directory / "kubeconfig").write_text(json.dumps(config))
    run("openssl", "genrsa", "-out", str(directory / "account.key"), "2048")


def _write_kubelet_config(directory: Path, dns: str) -> None:
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": int(_port(free_address())),
        "readOnlyPort": 0,
        "healthzPort": 0,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "clusterDNS": [dns],
        "clusterDomain": DOMAIN,
        "cgroupDriver": run("docker", "info", "--format={{.CgroupDriver}}"),
        # The machine is not the cluster's: its memory and disks are not managed.
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1Mi", "imagefs.available": "1Mi"},
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": False,
    }
    (directory / "kubelet.json").write_text(json.dumps(config))


# ---------------------------------------------------------------- Docker


@contextlib.contextmanager
def _pause_image(built: Path) -> Iterator[None]:
    """The image of the process that holds a pod's namespaces."""
    archive = subprocess.run(["tar", f"--directory={built}", "--create", PAUSE], capture_output=True, check=True).stdout
    command = ["docker", "import", f'--change=ENTRYPOINT ["/{PAUSE}"]', "-", PAUSE_IMAGE]
    subprocess.run(command, input=archive, capture_output=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["docker", "image", "rm", "--force", PAUSE_IMAGE], capture_output=True, check=False)


def _bridge_address() -> str:
    """The machine's address on Docker's bridge."""
    text = run("ip", "-json", "address", "show", "docker0")
    return str(next(one["local"] for one in json.loads(text)[0]["addr_info"] if one["family"] == "inet"))


def _remove_mounts(directory: Path) -> None:
    """Volumes of pods that were not taken down."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted(mounts, reverse=True):
        if mount.startswith(f"{directory}/"):
            subprocess.run(["umount", "--lazy", mount], check=False)


def _delete_all(made: Cluster) -> None:
    """While kubelet still runs, so that it takes down the pods with their volumes and containers."""
    with contextlib.suppress(AssertionError):
        for namespace in made.items("namespaces"):
            name = namespace["metadata"]["name"]
            if name == "default" or not name.startswith("kube-"):
                made.kubectl("-n", name, "delete", "deployments,jobs,pods", "--all", "--force", "--grace-period=0")
    containers = run("docker", "ps", "--all", "--quiet", "--filter=name=k8s_").split()
    if containers:
        subprocess.run(["docker", "rm", "--force", *containers], capture_output=True, check=False)


# ---------------------------------------------------------------- names


@contextlib.contextmanager
def _dns(made: Cluster, directory: Path, address: str) -> Iterator[None]:
    """Names of headless services, from their endpoints. The address is inside the machine: no other host reaches it."""
    hosts = directory / "hosts"
    hosts.touch()
    command = ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", f"--addn-hosts={hosts}", "--user=root"]
    command += [f"--listen-address={address}", "--bind-interfaces", f"--local=/{DOMAIN}/", "--pid-file="]
    done = threading.Event()
    with _running(directory / "dnsmasq.log", command) as server:

        def follow() -> None:
            while not done.wait(_LOOK_SECONDS):
                with contextlib.suppress(AssertionError):
                    text = _hosts(made)
                    if text != hosts.read_text():
                        hosts.write_text(text)
                        server.send_signal(signal.SIGHUP)

        thread = threading.Thread(target=follow, name="dns", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _hosts(made: Cluster) -> str:
    headless = {
        (one["metadata"]["namespace"], one["metadata"]["name"])
        for one in made.items("services", "--all-namespaces")
        if one["spec"].get("clusterIP") == "None"
    }
    lines = []
    for one in made.items("endpoints", "--all-namespaces"):
        namespace, name = one["metadata"]["namespace"], one["metadata"]["name"]
        if (namespace, name) in headless:
            found = [address["ip"] for subset in one.get("subsets", ()) for address in subset.get("addresses", ())]
            lines += [f"{address} {name}.{namespace}.svc.{DOMAIN}\n" for address in found]
    return "".join(lines)

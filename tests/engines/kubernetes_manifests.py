"""The manifests of deploy/kubernetes as `kubectl kustomize` makes them, as they are and from a user's kustomization."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.snippets import PAGES, REPOSITORY, snippets

MANIFESTS = REPOSITORY / "deploy" / "kubernetes"
PAGE = PAGES / "how-to" / "kubernetes.md"
Object = dict[str, Any]


def kubectl() -> str | None:
    """The program beside this interpreter, from the dependency group `kubernetes`; else one of the system."""
    beside = Path(sys.executable).parent / "kubectl"
    return str(beside) if beside.exists() else shutil.which("kubectl")


def render(directory: Path) -> list[Object]:
    """All objects of a kustomization. An AssertionError has what `kubectl kustomize` says, warnings included."""
    import yaml

    program = kubectl()
    assert program is not None
    done = subprocess.run([program, "kustomize", str(directory)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def render_from(text: str) -> list[Object]:
    """All objects of this kustomization."""
    with beside_manifests(text) as directory:
        return render(directory)


@contextlib.contextmanager
def beside_manifests(text: str) -> Iterator[Path]:
    """A directory with this kustomization, at the root of a copy of the manifests, as the guide has it at a clone's.

    A kustomization can name the manifests by a relative path only.
    """
    with tempfile.TemporaryDirectory() as root:
        shutil.copytree(MANIFESTS, Path(root) / "deploy" / "kubernetes")
        own = Path(root) / "my-training"
        own.mkdir()
        (own / "kustomization.yaml").write_text(text)
        yield own


def with_components(base: str, components: Sequence[str]) -> list[Object]:
    """Manifests of the directory ``base``, with these components."""
    listed = "".join(f"  - ../deploy/kubernetes/components/{name}\n" for name in components)
    return render_from(f"resources: [../deploy/kubernetes/{base}]\ncomponents:\n{listed}")


def guide_kustomization() -> str:
    """The kustomization that the guide has its reader write."""
    [text] = [one.source for one in snippets(PAGE) if one.file == "kustomization.yaml"]
    return text


def guide_kustomization_with_keda() -> str:
    """The same after the guide's steps to KEDA: ``replicas``, which is last, is taken out, and a block is added."""
    [block] = [one.source for one in snippets(PAGE) if "components/keda]" in one.source]
    kept, found, _ = guide_kustomization().partition("replicas:")
    assert found
    return kept + block


def of_kind(objects: Sequence[Object], kind: str) -> list[Object]:
    return [one for one in objects if one["kind"] == kind]


def pods(objects: Sequence[Object]) -> dict[str, Object]:
    """The pod templates, by the component that the pods' labels name."""
    return {template["metadata"]["labels"]["app.kubernetes.io/component"]: template for template in _templates(objects)}


def jobs_of_jobset(jobset: Object) -> Iterator[Object]:
    """The Jobs that a JobSet makes."""
    for one in jobset["spec"]["replicatedJobs"]:
        metadata = {"name": f"{jobset['metadata']['name']}-{one['name']}-0"}
        yield {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": one["template"]["spec"]}


def _templates(objects: Sequence[Object]) -> Iterator[Object]:
    for one in objects:
        if one["kind"] in ("Deployment", "Job"):
            yield one["spec"]["template"]
        elif one["kind"] == "JobSet":
            yield from (job["spec"]["template"] for job in jobs_of_jobset(one))


def is_required() -> bool:
    return bool(os.environ.get("REQUIRE_KUBERNETES"))

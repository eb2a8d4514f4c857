"""Who a Hello can be of."""

from __future__ import annotations

from enqueuer.core.events import Route
from enqueuer.core.fleet import Fleet
from enqueuer.protocol.messages import Hello, Role


def pretence_of(fleet: Fleet, route: Route, hello: Hello, key: str) -> str:
    """Whom this Hello claims to be, and cannot; '' for nobody.

    An incarnation and a supervisor's id are random and known to their owners alone: who says them is believed to be who
    said them first, if everything else about it is the same, the key above all.
    """
    worker = fleet.find(hello.incarnation)
    if worker is not None and not worker.is_described_by(hello, route, key):
        return f"claims to be {worker.name}"
    there = fleet.at(route)
    if there is not None and (there is not worker or hello.role is Role.SUPERVISOR):
        return f"claims to be another one than {there.name}, on the same connection"
    known = fleet.supervisors.get(route)
    if known is not None and (hello.role is Role.WORKER or hello.supervisor != known.id):
        return "claims to be another one than the supervisor it was, on the same connection"
    if hello.supervisor and key != fleet.key_of_supervisor(hello.supervisor, key):
        return "claims another one's supervisor"
    return ""

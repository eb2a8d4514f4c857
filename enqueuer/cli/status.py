"""``enqueuer status``: one look at a running trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from enqueuer.cli.observed import NOT_RUNNING, address_options, observer_at

if TYPE_CHECKING:
    from enqueuer.observer import Observer
    from enqueuer.protocol.observation import Snapshot

_INPUT_BOUND = 1


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@address_options
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON: a list with an object a trainer.")
@click.option("--all", "all_workers", is_flag=True, help="Print each worker, also of a large fleet.")
@click.pass_context
def status(
    context: click.Context,
    address: str | None,
    token_file: Path | None,
    timeout: float,
    as_json: bool,
    all_workers: bool,
) -> None:
    """Show what a training does now, and what holds it back.

    ADDRESS is the trainer's bind=…, such as tcp://trainer:5555. Without it, the trainers that you run on this machine
    are shown, with bind=… or without. Nothing has to be changed in the training script.

    Exit codes: 0 if data is not the limit, 1 if it is (the trainer waits for 5 % of its time or more, or has no
    worker), 2 if no trainer answers.

    \b
    Examples:
      enqueuer status
      enqueuer status tcp://trainer:5555 --token-file grafana.token
      enqueuer status --json | jq '.[].desired_slots'
    """
    snapshots: list[tuple[str, Snapshot]] = []
    failures: list[str] = []
    observers = _observers(address, token_file, timeout, failures)
    for observer in observers:
        with observer:
            try:
                snapshots.append((observer.address, observer.look()))
            except OSError as error:
                failures.append(str(error))
    _print(snapshots, as_json, all_workers)
    for failure in failures:
        click.echo(f"Error: {failure}", err=True)
    if not snapshots:
        if not failures:
            click.echo("Error: you run no trainer on this machine: give the address of another one's", err=True)
        context.exit(NOT_RUNNING)
    context.exit(_INPUT_BOUND if any(_is_input_bound(snapshot) for _, snapshot in snapshots) else 0)


def _observers(address: str | None, token_file: Path | None, timeout: float, failures: list[str]) -> list[Observer]:
    from enqueuer.observer import NoTrainerError, local_observers

    try:
        if address is None:
            return local_observers(timeout=timeout)
        return [observer_at(address, token_file, timeout)]
    except NoTrainerError as error:
        failures.append(str(error))
    except OSError as error:
        raise click.ClickException(str(error)) from error
    return []


def _is_input_bound(snapshot: Snapshot) -> bool:
    from enqueuer.core.verdict import Cause

    return snapshot.cause not in (Cause.NOTHING.value, Cause.TOO_EARLY.value)


def _print(snapshots: list[tuple[str, Snapshot]], as_json: bool, all_workers: bool) -> None:
    from enqueuer.monitoring.status_table import describe

    if as_json:
        click.echo(json.dumps([_to_json(address, snapshot) for address, snapshot in snapshots]))
        return
    tables = ["\n".join(describe(snapshot, most_workers=None if all_workers else 20)) for _, snapshot in snapshots]
    click.echo("\n\n".join(tables), nl=bool(tables))


def _to_json(address: str, snapshot: Snapshot) -> dict[str, Any]:
    fields = snapshot._asdict()
    for name in ("first_row", "rows_total", "seconds_to_ask"):
        del fields[name]
    fields["workers"] = [row._asdict() for row in fields.pop("rows")]
    fields["events"] = [
        dict(zip(("number", "seconds", "what", "worker"), event, strict=True)) for event in fields["events"]
    ]
    return {"address": address, **fields}

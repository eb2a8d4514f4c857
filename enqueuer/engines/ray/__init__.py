"""A fleet of workers on a Ray cluster: `RayFleet`.

    trainer's process                              a node of the cluster
    RayFleet ── thread: how many? ──► Ray ──────► actor ──► worker program ──► worker
        │                                                        │
        └─ SequenceEnqueuer ◄──────────── batches ───────────────┘

Ray places the actors, starts them again on another node when theirs dies, and tells its autoscaler of those that have
no place. No batch passes through Ray.
"""

from enqueuer.engines.ray.fleet import RayFleet

__all__ = ["RayFleet"]

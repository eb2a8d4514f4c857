"""The face of the batch codec: the package itself, and none of its modules, is imported elsewhere."""

from __future__ import annotations

from tests.test_imports import LIBRARY, WORKER, imports_of

BATCH = LIBRARY / "protocol" / "batch"


def test_other_packages_import_the_batch_codec_only_from_its_face() -> None:
    outside = [path for root in (LIBRARY, WORKER) for path in root.rglob("*.py") if BATCH not in path.parents]
    assert outside
    past_the_face = [
        f"{path.name} imports {module}"
        for path in outside
        for module in sorted(imports_of(path))
        if module.startswith("enqueuer.protocol.batch.")
    ]
    assert past_the_face == []

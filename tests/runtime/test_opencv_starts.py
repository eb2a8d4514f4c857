"""Workers start beside a module that begins with ``import cv2``: OpenCV changes `sys.path` while it is imported.

`ENQUEUER_OPENCV_STARTS=50 python -m pytest tests/runtime/test_opencv_starts.py` starts it 50 times.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.scripts import run_script

STARTS_COUNT = int(os.environ.get("ENQUEUER_OPENCV_STARTS", "3"))
SECONDS = 60

pytestmark = [
    pytest.mark.skipif(find_spec("cv2") is None, reason="needs OpenCV (opencv-python-headless)"),
    pytest.mark.timeout(SECONDS * STARTS_COUNT),
]

MODULE = """\
import cv2
import numpy as np


class Images:
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return cv2.resize(np.full((32, 32, 3), index, np.uint8), (16, 16))
"""
SPEC = """\
from enqueuer import SequenceEnqueuer, SequenceSpec

with SequenceEnqueuer(SequenceSpec("images:Images"), use_multiprocessing=True) as enq:
    enq.start(workers=2)
    print([(batch.shape, int(batch.max())) for batch in enq.epoch()])
"""
LIVE = SPEC.replace("SequenceSpec\n", "SequenceSpec\nfrom images import Images\n").replace(
    'SequenceSpec("images:Images")', "Images()"
)


@pytest.mark.parametrize("program", [SPEC, LIVE], ids=["spec", "live object"])
def test_workers_start_beside_a_module_that_imports_opencv(tmp_path: Path, program: str) -> None:
    (tmp_path / "images.py").write_text(MODULE)
    for _ in range(STARTS_COUNT):
        printed = run_script(program, tmp_path, timeout=SECONDS)
        assert printed.strip() == str([((16, 16, 3), index) for index in range(6)])

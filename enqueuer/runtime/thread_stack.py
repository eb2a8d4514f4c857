"""Where another thread of this process is, for its user to read."""

from __future__ import annotations

import sys
import threading
import traceback

from enqueuer.compute import item

_MAX_CHARACTERS = 16 * 1024


def describe_stack(thread: threading.Thread) -> str:
    """The stack of a thread that computes an item, from the user's own code on; '' if it has ended.

    At most 16 384 characters of it: of a recursion without end, the innermost calls.
    """
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return ""
    frames = list(traceback.extract_stack(frame))
    ours = [place for place, summary in enumerate(frames) if summary.filename == item.__file__]
    text = "".join(traceback.format_list(frames[ours[0] + 1 :] if ours else frames))
    return f"Stack (most recent call last):\n{text[-_MAX_CHARACTERS:]}"

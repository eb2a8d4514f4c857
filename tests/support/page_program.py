"""``python -m tests.support.page_program PAGE PORT``: runs the blocks of one page of the guide in this directory.

Two things differ from what a reader does. The pages' addresses become free ones of this machine (port 5555 is PORT,
5556 any), so that pages run side by side. And ``enqueuer worker``, which a reader starts in a terminal of its own, runs
beside the blocks after it; at the end it is asked to drain.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.snippets import Snippet, snippets
from tests.support.waiting import wait_until

_CONTROL, _DATA = (re.compile(rf"tcp://(?:trainer|0\.0\.0\.0|127\.0\.0\.1):{port}\b") for port in (5555, 5556))
# A block that begins with this goes on for as long as the page does.
_LASTING = re.compile(r"(?:\w+=\S+ )*(?=enqueuer worker )")
_SHELL = ["bash", "-euo", "pipefail", "-c"]


class Page:
    """The state that the blocks of one page share: the directory, a namespace, programs that go on."""

    def __init__(self, path: Path, port: int) -> None:
        self.path = path
        self._address = f"tcp://127.0.0.1:{port}"
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._lasting: list[subprocess.Popen[bytes]] = []

    def run(self) -> None:
        try:
            for snippet in snippets(self.path):
                # The frameworks' programs are run by tests/adapters, in environments that have them.
                is_run = snippet.reason is None and (snippet.file is not None or not snippet.word)
                if is_run and snippet.language in ("python", "sh"):
                    print(f"--- {self.path.name}:{snippet.line}", flush=True)
                    self._run(snippet)
        finally:
            self._names.clear()
            self._end_lasting()

    def _run(self, snippet: Snippet) -> None:
        source = _DATA.sub("tcp://127.0.0.1:0", _CONTROL.sub(self._address, snippet.source))
        if snippet.file is not None:
            Path(snippet.file).write_text(source)
        elif snippet.language == "python":
            exec(compile(source, f"{self.path.name}:{snippet.line}", "exec"), self._names)
        elif _LASTING.match(source):
            self._start_lasting(source)
        else:
            subprocess.run([*_SHELL, source], stdin=subprocess.DEVNULL, check=True)

    def _start_lasting(self, source: str) -> None:
        # exec: the signal that ends it goes to the worker program, not to a shell.
        source = _LASTING.sub(lambda match: f"{match[0]}exec ", source, count=1)
        log = Path(f"worker-{len(self._lasting)}.log")
        with log.open("wb") as sink:
            self._lasting.append(subprocess.Popen([*_SHELL, source], stdin=subprocess.DEVNULL, stderr=sink))
        # Its first line: from then on it heeds a signal.
        wait_until(lambda: log.stat().st_size > 0, 30)

    def _end_lasting(self) -> None:
        for program in self._lasting:
            program.send_signal(signal.SIGTERM)
        codes = [program.wait() for program in self._lasting]
        for log in sorted(Path().glob("worker-*.log")):
            print(log.read_text())
        assert not any(codes), f"exit codes of the workers: {codes}"


def main() -> None:
    Page(Path(sys.argv[1]), int(sys.argv[2])).run()


if __name__ == "__main__":
    main()

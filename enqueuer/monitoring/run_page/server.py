"""Serves the page and its server-sent events at 127.0.0.1, to browsers of this machine.

Another site may give this machine a host name of its own (DNS rebinding); its pages would count as the same origin. So
a request with a foreign ``Host`` is refused. No answer allows another origin to read it.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from enqueuer.monitoring.run_page.broadcast import Broadcast
from enqueuer.monitoring.run_page.document import build_page, content_security_policy

_HOST = "127.0.0.1"
_OWN_NAMES = frozenset((_HOST, "localhost", "[::1]"))
# Each open page holds a thread.
_MOST_PAGES = 16
# A browser is gone after so long without reading or without a request.
_PATIENCE_SECONDS = 30.0


class DashboardServer:
    """Serves until `close`. Raises OSError, with a text for people, if the port cannot be bound."""

    def __init__(self, broadcast: Broadcast, port: int) -> None:
        try:
            self._server = _Server((_HOST, port), _Handler)
        except OSError as error:
            reason = "the port is taken" if error.errno == errno.EADDRINUSE else error.strerror
            raise OSError(error.errno, f"cannot serve a page at {_HOST}:{port}: {reason}") from None
        self._server.broadcast = broadcast
        self.url = f"http://{_HOST}:{self._server.server_address[1]}/"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="enqueuer-dashboard-http", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """End the server. Open pages end with their broadcast."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    broadcast: Broadcast

    def __init__(self, *args: object) -> None:
        self.pages = threading.BoundedSemaphore(_MOST_PAGES)
        super().__init__(*args)  # type: ignore[arg-type]

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser may leave in the middle of an answer: no error."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE_SECONDS
    server_version = "enqueuer"
    sys_version = ""

    def do_GET(self) -> None:
        if not self._names_this_machine():
            self.send_error(HTTPStatus.FORBIDDEN, "this page answers to 127.0.0.1 and localhost alone")
        elif self.path == "/":
            self._send_page()
        elif self.path == "/events":
            self._send_events()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _names_this_machine(self) -> bool:
        host = self.headers.get("Host", "").lower()
        name, colon, port = host.rpartition(":")
        # Behind a tunnel, the port is the tunnel's.
        return host in _OWN_NAMES or (bool(colon) and port.isdigit() and name in _OWN_NAMES)

    def _send_page(self) -> None:
        page = build_page(None).encode()
        self.send_response(HTTPStatus.OK)
        self._send_common_headers("text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        policy = f"{content_security_policy(is_live=True)}; frame-ancestors 'none'"
        self.send_header("Content-Security-Policy", policy)
        self.end_headers()
        self.wfile.write(page)

    def _send_events(self) -> None:
        if not self.server.pages.acquire(blocking=False):
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, f"{_MOST_PAGES} pages are open already")
            return
        try:
            self.send_response(HTTPStatus.OK)
            self._send_common_headers("text/event-stream")
            self.end_headers()
            with contextlib.suppress(OSError):  # the page was closed
                for message in self.server.broadcast.messages():
                    self.wfile.write(message)
        finally:
            self.server.pages.release()

    def _send_common_headers(self, content_type: str) -> None:
        self.send_header("Content-Type", content_type)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: requests are no news."""

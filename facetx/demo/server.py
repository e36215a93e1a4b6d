"""A small web server for the page: the files of one table, with the headers that they need, to this machine alone."""

import shutil
import socket
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from facetx.demo.build import HEADERS, Site
from facetx.errors import DataError

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
LOCAL = ("127.0.0.1", "::1", "localhost")


def make_server(site: Site, host: str = "127.0.0.1", port: int = 8000) -> ThreadingHTTPServer:
    """A server of the page, bound; ``serve_forever`` runs it.

    It answers GET and HEAD for the files of ``site``, and nothing else is reachable. Bound to this machine, it answers
    requests that name this machine only, so that no other site's name can be pointed at it.

    Args:
        host: The address to listen on.
        port: 0 for any that is free.

    Raises ``DataError`` where the address cannot be had.
    """
    try:
        return _Server((host, port), site)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{host}:{port}: cannot listen there: {reason}; name another --port or --host") from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], site: Site):
        self.site = site
        self.local = address[0] in LOCAL
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the midst of an answer is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 60
    server_version, sys_version = "facetx", ""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        if self.server.local and self._asked_host() not in LOCAL:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return
        name = unquote(urlsplit(self.path).path).removeprefix("/") or "index.html"
        content = self.server.site.get(name)
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES.get(PurePosixPath(name).suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(size))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if not body:
            return
        if isinstance(content, Path):
            with content.open("rb") as file:
                shutil.copyfileobj(file, self.wfile)
        else:
            self.wfile.write(content)

    def _asked_host(self) -> str:
        """The host that the browser was asked for, without its port."""
        return urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the browser tells what it could not load."""

"""The server gives the files of the page with their headers, to this machine, and nothing else; so does a folder."""

import json
import re
import socket
import threading
from http.client import HTTPConnection
from importlib.resources import files

import pytest

from facetx.demo import build_site, make_server, read_model, write_static
from facetx.demo.packages import PACKAGES
from facetx.errors import DataError

pytest_plugins = ["small_page"]
ASSETS = files("facetx.demo").joinpath("assets")


@pytest.fixture
def site(exported, packages):
    return build_site(read_model(exported.path), packages)


@pytest.fixture
def ask(site):
    """``ask(path)`` -> status, headers and body of the running server's answer; the path is sent as it is."""
    server = make_server(site, port=0)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()

    def ask(path, method="GET", host="localhost"):
        connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        connection.request(method, path, headers={"Host": f"{host}:{server.server_port}"})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), body

    yield ask
    server.shutdown()
    server.server_close()
    thread.join()


def test_every_file_comes_whole_and_as_its_kind(site, ask, exported):
    kinds = {"html": "text/html", "js": "text/javascript", "mjs": "text/javascript", "wasm": "application/wasm"}
    for name, content in site.items():
        status, headers, body = ask(f"/{name}")
        assert status == 200
        assert body == (content if isinstance(content, bytes) else content.read_bytes())
        assert int(headers["Content-Length"]) == len(body)
        kind = kinds.get(name.rpartition(".")[2])
        assert kind is None or headers["Content-Type"].startswith(kind)
    assert ask("/")[2] == ASSETS.joinpath("index.html").read_bytes()
    assert ask("/model.onnx")[2] == exported.path.read_bytes()
    assert ask("/model.onnx", "HEAD")[2] == b""


def test_threads_are_allowed_and_scripts_of_others_are_not(ask):
    for path in ("/", "/worker.js", "/vendor/ort/ort-wasm-simd-threaded.wasm", "/nothing"):
        headers = ask(path)[1]
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert headers["X-Content-Type-Options"] == "nosniff"
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
        assert policy["connect-src"] == "'self'"


@pytest.mark.parametrize(
    "path",
    [
        "/../server.py", "/%2e%2e/server.py", "/vendor/../../server.py", "//etc/passwd", "/vendor", "/vendor/", "/.",
        "/vendor/ort/", "/package.json", "/model.onnx/", "/%00", "/..%5cserver.py",
    ],
)  # fmt: skip
def test_nothing_else_is_reachable(ask, path):
    status, _, body = ask(path)
    assert status == 404
    assert b"import" not in body


def test_only_reading_is_answered(ask):
    assert {ask("/", method)[0] for method in ("POST", "PUT", "DELETE", "OPTIONS")} == {501}


def test_another_sites_name_for_this_machine_is_refused(ask):
    assert ask("/", host="attacker.example")[0] == 421
    assert ask("/", host="127.0.0.1")[0] == 200


def test_it_listens_to_this_machine_unless_told_otherwise(site):
    with make_server(site, port=0) as server:
        assert server.server_address[0] == "127.0.0.1"
        with pytest.raises(DataError, match="cannot listen there"):
            make_server(site, port=server.server_port)
    with make_server(site, host="0.0.0.0", port=0) as server:
        assert server.socket.getsockname()[0] == "0.0.0.0"
    if socket.has_ipv6:
        with make_server(site, host="::1", port=0) as server:
            assert server.server_address[0] == "::1"


def test_the_page_holds_no_inline_script_or_style_and_asks_nobody_else():
    page = ASSETS.joinpath("index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", page) == []
    for asset in ASSETS.iterdir():
        addresses = set(re.findall(r"https?://[^\s\"'`)]+", asset.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, asset.name


def test_the_page_says_what_it_is_made_of_and_by_which_license(site):
    told = json.loads(site["model.json"])["packages"]
    assert [(p["name"], p["version"], p["license"]) for p in told] == [(p.name, p.version, "MIT") for p in PACKAGES]
    assert "vendor/face/LICENSE" in site


def test_a_folder_holds_the_same_files_and_the_headers_beside(site, tmp_path):
    write_static(site, tmp_path / "out")
    written = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert written == {*site, "_headers"}
    assert (tmp_path / "out/model.json").read_bytes() == site["model.json"]
    assert "  Cross-Origin-Embedder-Policy: require-corp\n" in (tmp_path / "out/_headers").read_text()
    with pytest.raises(DataError, match="is there already"):
        write_static(site, tmp_path / "out")

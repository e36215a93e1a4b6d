"""npm's packages: the right ones are taken, from the cache or a folder, and no others."""

import base64
import hashlib
import io
import json
import tarfile
from dataclasses import replace

import pytest

from facetx.demo import packages as module
from facetx.demo.packages import PACKAGES, find_packages, unpack
from facetx.errors import DataError

pytest_plugins = ["small_page"]


def packed(package, version=None):
    """A tarball of a package as npm packs it, and the package with its hash."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        contents = {name: name.encode() for name in package.files}
        contents |= {"package.json": json.dumps({"version": version or package.version}).encode(), "other.js": b"x"}
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    digest = base64.b64encode(hashlib.sha512(out.getvalue()).digest()).decode()
    return out.getvalue(), replace(package, integrity=f"sha512-{digest}")


def test_only_the_files_of_the_page_are_unpacked(tmp_path):
    content, package = packed(PACKAGES[1])
    (tmp_path / "p.tgz").write_bytes(content)
    unpack(tmp_path / "p.tgz", tmp_path / "cache", package)
    home = tmp_path / "cache" / package.name
    assert {str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()} == {*package.files, "package.json"}
    assert (home / package.files[0]).read_text() == package.files[0]


def test_a_tarball_of_another_hash_is_refused(tmp_path):
    content, _ = packed(PACKAGES[1])
    (tmp_path / "p.tgz").write_bytes(content)
    with pytest.raises(DataError, match="is not the package that was published"):
        unpack(tmp_path / "p.tgz", tmp_path / "cache", PACKAGES[1])
    assert not (tmp_path / "cache").exists()


def test_npm_is_asked_once_for_what_the_cache_lacks(tmp_path, monkeypatch):
    made = [packed(package) for package in PACKAGES]
    monkeypatch.setattr(module, "PACKAGES", tuple(package for _, package in made))
    npm = tmp_path / "bin/npm"
    npm.parent.mkdir()
    for content, package in made:
        (tmp_path / f"{package.name.split('/')[-1]}@{package.version}").write_bytes(content)
    # npm pack NAME@VERSION --pack-destination FOLDER
    npm.write_text(f'#!/bin/sh\ncp "{tmp_path}/$(basename "$2")" "$4/p.tgz"\necho "$2" >> {tmp_path}/asked\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = find_packages()
    assert find_packages() == found == tmp_path / "cache/facetx/page"
    assert (tmp_path / "asked").read_text().split() == [f"{p.name}@{p.version}" for p in PACKAGES]
    (found / PACKAGES[0].name / PACKAGES[0].files[0]).unlink()
    assert find_packages() == found  # what was deleted is fetched again
    assert (found / PACKAGES[0].name / PACKAGES[0].files[0]).exists()


def test_without_npm_the_error_says_how_to_get_them_by_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"npm is not there.*npm install onnxruntime-web@\S+ .*--assets"):
        find_packages()


def test_packages_given_by_hand_must_be_whole_and_of_the_version(packages):
    assert find_packages(packages) == packages
    home = packages / PACKAGES[0].name
    (home / "package.json").write_text('{"version": "0.1.0"}')
    with pytest.raises(DataError, match="is version 0.1.0, the page is built of"):
        find_packages(packages)
    (home / "package.json").write_text(json.dumps({"version": PACKAGES[0].version}))
    (home / PACKAGES[0].files[2]).unlink()
    with pytest.raises(DataError, match="threaded.wasm: is missing"):
        find_packages(packages)

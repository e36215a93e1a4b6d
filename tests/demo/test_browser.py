"""The page in headless Chromium, with a camera that shows drawn faces: its numbers are PyTorch's, and it obeys.

Set FACETX_SHOTS to a folder to look at it too.
"""

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_page import FACTS, scored, write_result_file

from facetx.data.align import similarity, warp
from facetx.data.mask_classes import LAPA
from facetx.data.synthetic.faces import render_face
from facetx.demo import build_site, find_packages, make_server, read_model
from facetx.errors import DataError

pytest_plugins = ["small_page"]
pytestmark = pytest.mark.slow
PIPES = {"capture_output": True, "text": True, "check": False, "timeout": 180}
HERE = Path(__file__).parent
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)


@pytest.fixture(scope="module")
def playwright(tmp_path_factory) -> Path:
    if not CHROMIUM or not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("needs Chromium, node and npm")
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(HERE / "package.json", folder)
    command = ["npm", "install", "--no-audit", "--no-fund", "--fetch-retries=0"]
    done = subprocess.run(command, cwd=folder, **PIPES)
    if done.returncode:
        pytest.skip("npm cannot install playwright-core here")
    return folder / "node_modules/playwright-core/index.mjs"


@pytest.fixture(scope="module")
def pages_packages(playwright) -> Path:
    try:
        return find_packages()
    except DataError as error:
        pytest.skip(f"the page's packages cannot be had: {error}")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> dict[str, object]:
    """A face of the model's own size, one in a larger picture, a file that is none, and a camera that shows a face."""
    folder = tmp_path_factory.mktemp("pictures")
    Image.fromarray(render_face(0, 3, 0, 64).image).save(folder / "crop.png")
    (folder / "broken.png").write_text("no picture")
    view = Image.new("RGB", (640, 480), (96, 100, 108))
    view.paste(Image.fromarray(render_face(0, 2, 0, 360).image), (140, 60))
    view.save(folder / "view.png")
    y, cb, cr = (np.asarray(plane) for plane in view.convert("YCbCr").split())
    planes = [y, *(np.ascontiguousarray(plane[::2, ::2]) for plane in (cb, cr))]
    header = b"YUV4MPEG2 W640 H480 F20:1 Ip A1:1 C420jpeg\n"
    (folder / "cam.y4m").write_bytes(header + 4 * (b"FRAME\n" + b"".join(plane.tobytes() for plane in planes)))
    paths = {name: str(folder / f"{name}.png") for name in ("crop", "view", "broken")}
    return {**paths, "camera": str(folder / "cam.y4m")}


@pytest.fixture(scope="module")
def told(exported, pictures, playwright, pages_packages, tmp_path_factory) -> dict[str, object]:
    """What the page showed, see drive.mjs."""
    calibration = write_result_file(tmp_path_factory.mktemp("result") / "drawn.json")
    site = build_site(read_model(exported.path, calibration), pages_packages)
    with make_server(site, port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        asked = {
            "url": f"http://localhost:{server.server_port}/",
            "camera": pictures["camera"],
            "picture": pictures["crop"],
            "pair": [pictures["crop"], pictures["view"]],
            "broken": pictures["broken"],
            "shots": os.environ.get("FACETX_SHOTS"),
        }
        command = ["node", HERE / "drive.mjs", playwright, CHROMIUM, tmp_path_factory.mktemp("profile")]
        done = subprocess.run(
            command, input=json.dumps(asked), capture_output=True, text=True, check=False, timeout=180
        )
        server.shutdown()
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def asked(exported, image):
    """The network's embedding, probabilities, and class of each pixel, of a uint8 image (H, W, 3)."""
    with torch.no_grad():
        embedding, logits, mask = exported.network(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])
    return embedding[0].numpy(), logits[0].sigmoid().numpy(), mask[0].argmax(dim=0).numpy()


def test_probabilities_of_a_picture_are_those_of_pytorch(told, exported, pictures):
    _, expected, _ = asked(exported, np.array(Image.open(pictures["crop"])))
    assert list(told["picture"]) != FACTS["attributes"]  # the page has them by region, the likely ones first
    assert np.ptp(expected) > 0.5
    assert np.allclose([told["picture"][name] for name in FACTS["attributes"]], expected, atol=1e-3)


def test_embeddings_are_those_of_pytorch_with_the_mirror_as_the_calibration_has_it(told, exported):
    image = np.array(told["read"]["pixels"], np.uint8).reshape(64, 64, 4)[..., :3]
    one, expected, _ = asked(exported, image)
    other, _, _ = asked(exported, image[:, ::-1])
    assert not np.allclose(one, other, atol=1e-2)
    unit = (one + other) / np.linalg.norm(one + other)
    assert np.allclose(told["read"]["embedding"], unit, atol=1e-5)
    assert np.allclose(told["read"]["probabilities"], expected, atol=1e-5)


def test_webgpu_gives_what_webassembly_does(told):
    if told["byGpu"] is None:
        pytest.skip("this Chromium has no WebGPU, not even in software")
    assert told["byGpu"]["on"] == "WebGPU"
    assert told["read"]["on"].startswith("WebAssembly")
    for name in ("embedding", "probabilities"):
        assert np.allclose(told["byGpu"][name], told["read"][name], atol=1e-3)
    assert told["byGpu"]["classes"] == told["read"]["classes"]


def test_masks_are_those_of_pytorch_and_lie_over_the_picture_in_their_colors(told, exported, pictures):
    image = np.array(told["read"]["pixels"], np.uint8).reshape(64, 64, 4)[..., :3]
    np.testing.assert_array_equal(np.reshape(told["read"]["classes"], (64, 64)), asked(exported, image)[2])
    classes = asked(exported, np.array(Image.open(pictures["crop"])))[2]
    share = np.bincount(classes.ravel(), minlength=len(LAPA)) / classes.size
    assert (share > 0).sum() > 2
    assert list(told["parts"]) == list(LAPA[1:])
    assert np.allclose(list(told["parts"].values()), share[1:], atol=1e-6)
    seen = np.array(told["cover"]).reshape(8, 8, 4)
    middles = classes[4::8, 4::8]
    assert (seen[middles == 0] == 0).all()
    over = middles > 0
    assert (seen[over, 3] == round(0.6 * 255)).all()
    assert np.abs(seen[over, :3] - np.array(FACTS["mask_colors"])[middles[over]]).max() <= 2
    assert told["liveCover"]


def test_the_mask_of_a_turned_face_lies_where_the_face_is(told):
    a, b, x, y = told["turned"]["matrix"]
    inverse = np.linalg.inv([[a, -b, x], [b, a, y], [0, 0, 1]])
    across, down, _ = inverse @ [20, 28, 1]
    assert told["turned"]["middle"] == pytest.approx([2 * (across - 20), 2 * (down - 10)], abs=0.3)
    assert told["turned"]["area"] == pytest.approx(64 * 4 / (a * a + b * b), rel=0.1)


def test_the_model_runs_on_threads_and_asks_nobody_else(told):
    assert told["threads"] is True
    assert told["status"].startswith("small_faces on WebAssembly")
    assert told["elsewhere"] == []


def test_a_double_click_pauses_and_resumes_and_so_does_the_space_bar(told):
    assert told["rate"] > 3  # pictures a second, on whatever machine this is
    assert told["paused"]
    assert told["still"], "the numbers went on while it was paused"
    assert told["resumed"]
    assert told["pausedBySpace"]
    assert told["resumedBySpace"]


def test_details_are_shown_while_it_is_paused(told):
    for part in (
        "Found, score",
        "pictures a second",
        "64x64 RGB, (x - 127.5) / 127.5, aligned to arcface",
        "5a5a5a5a5a5a",
    ):
        assert part in told["pausedDetails"]
    assert "Not looked for" in told["details"]


def test_two_faces_are_compared_by_the_calibration(told):
    assert told["tab"] == "tab-verify"
    assert -1 <= told["score"] <= 1
    assert told["decision"] == ("Same person" if told["score"] > scored().threshold else "Different people")
    assert told["rates"].replace("\u00a0", " ").startswith("On drawn, at this threshold, ")
    assert "of 200 pairs of different people are accepted" in told["rates"]
    assert "0.39" in told["why"]  # FAR of 1 %, of scores 0 to 0.4
    assert told["notes"][1] == ""  # a face was found in the second


def test_mistakes_and_browsers_that_lack_something_get_a_plain_message(told):
    assert told["broken"].startswith("broken.png is no picture that this browser can read")
    assert "no SIMD instructions" in told["noSimd"]
    assert told["noCamera"] == "No camera was found. Connect one, or choose a picture."


def test_everything_has_a_name_and_fits_on_a_phone(told):
    assert told["nameless"] == []
    assert told["overflow"] == 0


def test_no_script_fails_or_is_kept_out_by_the_policy(told):
    assert told["errors"] == []


def test_the_warp_is_that_of_the_training_data(told):
    warped = told["warped"]
    expected = similarity(warped["points"], warped["target"])
    a, b, x, y = warped["matrix"]
    assert np.allclose([[a, -b, x], [b, a, y]], expected, atol=1e-9)
    image = np.array(warped["image"], np.uint8).reshape(30, 40, 4)[..., :3]
    ours = np.array(warped["out"], np.int64).reshape(24, 24, 4)[..., :3]
    assert abs(ours - warp(image, expected, 24).astype(np.int64)).max() <= 1

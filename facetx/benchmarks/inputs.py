"""Are the images what the model expects? Their statistics beside its contract, and a warning with a remedy.

Another color order, range or alignment costs points of accuracy and raises no error; the images alone can tell.
Distances are in pixels of images of 112 a side, whatever the images' own size.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facetx.contract import InputContract
from facetx.data.align import ARCFACE, ARCFACE_SIZE, similarity
from facetx.data.base import FaceDataset
from facetx.data.formats.codec import decode_image
from facetx.data.lists.landmarks import read_landmarks

SAMPLE = 400
"""Images looked at, in even steps over those given."""
TOO_FAR = 2.0
"""Pixels from the template that warn: aligners differ by less, and a model feels more."""
SCALES = (0.93, 1.07)
"""Sizes of the mean face, as shares of the template's, that do not warn."""
EYE_SCALES = (0.82, 1.16)
"""Distances of the mean image's eyes that do not warn; pixels tell them less exactly than landmarks."""
EYES = ARCFACE[:2]
FACE = slice(40, 90), slice(30, 82)  # rows and columns of skin, mostly, in an aligned face
EYE_CONTRAST = 10.0  # gray levels that eyes are darker than their surroundings in a mean face


@dataclass(frozen=True)
class InputCheck:
    """What was seen, and what does not fit the model's contract.

    Attributes:
        images: How many were looked at.
        brightest: The highest value of all pixels, 0..255.
        face_rgb: Mean of each channel in the middle of the faces.
        eyes_offset: (x, y) from the template to the eyes of the mean image, None where no eyes are seen in it.
        eyes_scale: Their distance, as a share of the template's.
        landmarks_offset: (x, y) from the template to the mean of the landmarks, None without a file of landmarks.
        landmarks_scale: Size of the mean face by landmarks, as a share of the template's.
        warnings: One line each, with what to do.
    """

    images: int
    brightest: int
    face_rgb: tuple[float, float, float]
    eyes_offset: tuple[float, float] | None
    eyes_scale: float | None
    landmarks_offset: tuple[float, float] | None
    landmarks_scale: float | None
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def check_inputs(
    contract: InputContract,
    dataset: FaceDataset,
    indices: NDArray[np.int64] | None = None,
    landmarks: str | Path | None = None,
) -> InputCheck:
    """Looks at up to ``SAMPLE`` images of a data set.

    Args:
        contract: The model's.
        dataset: uint8 RGB images of one size.
        indices: Items that count; all unless given.
        landmarks: CSV file of keypoints in pixels of the image files (``facetx.data.lists.landmarks``).
    """
    items = np.arange(len(dataset)) if indices is None else indices
    chosen = items[np.linspace(0, len(items) - 1, min(SAMPLE, len(items))).astype(int)]
    total, brightest = np.zeros((ARCFACE_SIZE, ARCFACE_SIZE, 3)), 0
    for i in chosen:
        image = dataset[int(i)]["image"]
        brightest = max(brightest, int(image.max()))
        total += np.asarray(Image.fromarray(image).resize((ARCFACE_SIZE, ARCFACE_SIZE), Image.Resampling.BILINEAR))
    mean = total / len(chosen)
    red, green, blue = (float(v) for v in mean[FACE].mean(axis=(0, 1)))
    warnings = _of_range(brightest) + _of_color(red, blue, contract)
    eyes = apart = offset = scale = None
    if contract.alignment == "arcface":
        if (seen := _eyes(mean.mean(axis=2))) is not None:
            eyes, apart = seen
        if landmarks is not None:
            offset, scale = _landmarks_offset(landmarks, _file_size(dataset, int(chosen[0])))
        warnings += _of_alignment(eyes, apart, offset, scale)
    return InputCheck(len(chosen), brightest, (red, green, blue), eyes, apart, offset, scale, warnings)


def _of_range(brightest: int) -> list[str]:
    if brightest >= 64:
        return []
    return [
        f"range: no pixel is above {brightest} of 255; images that were scaled to 0..1 before they were saved look "
        "like this: save them as 0..255, facetx scales them by the model's contract itself"
    ]


def _of_color(red: float, blue: float, contract: InputContract) -> list[str]:
    if blue <= red + 2:
        return []
    order = "turns RGB into BGR itself" if contract.color == "BGR" else "takes RGB"
    return [
        f"color: the faces' middle is bluer ({blue:.0f}) than red ({red:.0f}), and skin is not; the images are stored "
        f"as BGR, it seems. This model {order}: write the files as RGB (with OpenCV, convert before imwrite)"
    ]


def _of_alignment(
    eyes: tuple[float, float] | None, apart: float | None, offset: tuple[float, float] | None, scale: float | None
) -> list[str]:
    eyes_far = eyes is not None and float(np.hypot(*eyes)) > TOO_FAR
    marks_far = offset is not None and float(np.hypot(*offset)) > TOO_FAR
    remedy = "align the images by five landmarks (scripts/prepare_data.py align) to the template of the model"
    warnings = []
    if eyes is None and offset is None:
        warnings.append(
            f"alignment: the mean image has no eyes near the ArcFace template's; look at the images; {remedy}"
        )
    if eyes_far:
        warnings.append(f"alignment: the eyes of the mean image are {_words(eyes)} the ArcFace template; {remedy}")
    if marks_far and not eyes_far:
        where = "the mean image shows no eyes to check this by" if eyes is None else "the mean image's eyes are on it"
        advice = remedy if eyes is None else "look at some landmarks before aligning by them: the detector may err"
        warnings.append(f"alignment: the landmarks are {_words(offset)} the ArcFace template, while {where}; {advice}")
    elif marks_far:
        warnings.append(f"alignment: the landmarks, too, are {_words(offset)} the template")
    if scale is None and apart is not None and not EYE_SCALES[0] <= apart <= EYE_SCALES[1]:
        warnings.append(f"alignment: the mean image's eyes are {apart:.2f} times as far apart as they should; {remedy}")
    if scale is not None and not SCALES[0] <= scale <= SCALES[1]:
        warnings.append(f"alignment: the faces are {scale:.2f} times the template's size by their landmarks; {remedy}")
    return warnings


def _words(offset: tuple[float, float] | None) -> str:
    """(0.2, 3.1) -> "3.1 px below"."""
    assert offset is not None
    x, y = offset
    parts = [(abs(y), "below" if y > 0 else "above"), (abs(x), "right of" if x > 0 else "left of")]
    return " and ".join(f"{size:.1f} px {side}" for size, side in parts if size >= 0.5)


def _eyes(gray: NDArray[np.float64]) -> tuple[tuple[float, float], float] | None:
    """From the template's eyes to the mean of the two dark spots near them, for a mean face (112, 112), and how far
    apart the spots are, as a share of the template's distance."""
    found = []
    for x, y in EYES.round().astype(int):
        rows, columns = slice(y - 14, y + 15), slice(x - 12, x + 13)
        down = gray[rows, x - 8 : x + 9].mean(axis=1)
        if down.max() - down.min() < EYE_CONTRAST:
            return None
        at = rows.start + 2 + int(np.convolve(down, np.ones(5) / 5, "valid").argmin())
        across = np.convolve(gray[at - 3 : at + 4, columns].mean(axis=0), np.ones(7) / 7, "valid")
        found.append((columns.start + 3 + int(across.argmin()), at))
    spots = np.array(found)
    x, y = (spots.mean(axis=0) - EYES.mean(axis=0)).round(1).tolist()
    apart = np.linalg.norm(spots[0] - spots[1]) / np.linalg.norm(EYES[0] - EYES[1])
    return (x, y), round(float(apart), 2)


def _landmarks_offset(path: str | Path, size: tuple[int, int]) -> tuple[tuple[float, float], float]:
    """From the template to the mean face of a file of landmarks, and its size as a share of the template's."""
    mean = np.mean(list(read_landmarks(path).values()), axis=0) * ARCFACE_SIZE / np.array(size)
    x, y = (mean - ARCFACE).mean(axis=0).round(2).tolist()
    onto = similarity(mean, ARCFACE)
    return (x, y), round(1 / float(np.hypot(onto[0, 0], onto[1, 0])), 3)


def _file_size(dataset: FaceDataset, index: int) -> tuple[int, int]:
    """Width and height of an image as its file has it; as the data set gives it where there is no file."""
    data = dataset.encoded(index)
    image = dataset[index]["image"] if data is None else decode_image(data, dataset.describe(index))
    return image.shape[1], image.shape[0]

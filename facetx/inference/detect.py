"""Five facial keypoints of photos, by MTCNN of the package facenet-pytorch (``pip install 'facetx[align]'``).

MTCNN: K. Zhang et al., Joint Face Detection and Alignment Using Multi-task Cascaded Convolutional Networks, 2016. The
package brings the weights; nothing is downloaded.
"""

from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from facetx.errors import ConfigError

MIN_FACE = 20
"""Pixels a side of the smallest face that is looked for, and of the smallest image that is looked at."""
BORDER = 0.25
"""Black margin on each side, as a share of the image's shorter side. The package cuts boxes off at the image's edge and
reckons the points as if it had not, so that in tight crops they are some pixels off: on 119 aligned faces of CelebA the
median distance to the given keypoints is 3.1 pixels of 112 without a margin, and 0.9 with this one."""


@dataclass(frozen=True, eq=False)
class Detected:
    """The face of an image.

    Attributes:
        points: (5, 2) float32, x and y in pixels, in the order of ``facetx.data.lists.landmarks``: image-left first.
        box: (4,) float32, x and y of the upper left and the lower right corner, in pixels; may lead beyond the image.
        probability: That it is a face, in 0..1, as MTCNN says.
        faces: How many the image has.
    """

    points: NDArray[np.float32]
    box: NDArray[np.float32]
    probability: float
    faces: int


class MtcnnDetector:
    """Image -> its face, on the CPU.

    Of several faces it takes the one with the largest (area of the box - 2 x squared distance of its center from the
    image's center). That is the rule of FaceNet's align_dataset_mtcnn.py, by which the field's training sets were made:
    a set's labels speak of the face in the middle, unless another is much larger.

    Args:
        min_probability: Less likely faces count as none, in 0..1.

    Attributes:
        name: What it is and with which settings, for reports.

    Raises ``ConfigError`` where the package is missing, or ``min_probability`` is not in 0..1.
    """

    def __init__(self, min_probability: float = 0.9):
        if not 0 <= min_probability <= 1:
            raise ConfigError(f"min_probability must be in 0..1, got {min_probability}")
        try:
            from facenet_pytorch import MTCNN
        except ImportError as error:
            raise ConfigError(
                f"the detector mtcnn needs the package facenet-pytorch ({error}); "
                "install it with: pip install 'facetx[align]'"
            ) from None
        self.min_probability = min_probability
        self.name = f"mtcnn of facenet-pytorch {version('facenet-pytorch')}, probability >= {min_probability:g}"
        self._mtcnn = MTCNN(min_face_size=MIN_FACE)

    def __call__(self, image: NDArray[np.uint8]) -> Detected | None:
        """The face of uint8 RGB (H, W, 3); None where no face is found."""
        height, width = image.shape[:2]
        if min(height, width) < MIN_FACE:
            return None
        border = round(BORDER * min(height, width))
        framed = np.pad(image, ((border, border), (border, border), (0, 0)))
        found = self._mtcnn.detect(framed, landmarks=True)
        if found[0] is None:
            return None
        boxes, probabilities, points = (np.asarray(values, np.float32) for values in found)
        likely = probabilities >= self.min_probability
        if not likely.any():
            return None
        boxes, points = boxes[likely] - border, points[likely] - border
        k = _subject(boxes, height, width)
        return Detected(points[k], boxes[k], float(probabilities[likely][k]), len(boxes))


def _subject(boxes: NDArray[np.float32], height: int, width: int) -> int:
    """Which of the boxes (F, 4) shows the face that the image is of; see ``MtcnnDetector``."""
    size = boxes[:, 2:] - boxes[:, :2]
    offset = (boxes[:, 2:] + boxes[:, :2]) / 2 - [width / 2, height / 2]
    return int(np.argmax(size.prod(axis=1) - 2 * (offset**2).sum(axis=1)))

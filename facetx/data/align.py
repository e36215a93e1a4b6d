"""Faces to the ArcFace template: the similarity that moves five landmarks best, and the warp by it.

Coordinates are (x, y) in pixels, and (0, 0) is the middle of the first pixel, as in InsightFace and OpenCV.
Legend: B faces, K points.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from facetx.errors import DataError

Floats = NDArray[np.float64]

ARCFACE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
"""The template for images of 112x112 (InsightFace's face_align.py): both eyes, nose, mouth's corners."""
ARCFACE_SIZE = 112


def template(size: int = ARCFACE_SIZE) -> Floats:
    """The ArcFace template (5, 2) for images of ``size`` pixels a side."""
    return ARCFACE * size / ARCFACE_SIZE


def similarity(source: ArrayLike, target: ArrayLike) -> Floats:
    """The similarity (..., 2, 3) with the least squared error from ``source`` (..., K, 2) to ``target`` (..., K, 2).

    Rotation, one scale and a shift, no reflection: Umeyama 1991, eq. 40 to 42. In the plane, with points as complex
    numbers z and w without their means, it is w = a z with a = sum(conj(z) w) / sum(|z|^2).

    Raises ``DataError`` where all points of a source are one, which fixes no similarity.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    z, w = (points[..., 0] + 1j * points[..., 1] for points in (source, target))  # (..., K)
    z_mean, w_mean = z.mean(-1, keepdims=True), w.mean(-1, keepdims=True)
    spread = (abs(z - z_mean) ** 2).sum(-1)
    if not (spread > 0).all():
        raise DataError("the landmarks are all at one point, or not finite; no alignment follows from them")
    a = ((z - z_mean).conj() * (w - w_mean)).sum(-1) / spread
    shift = w_mean[..., 0] - a * z_mean[..., 0]
    rows = np.stack([a.real, -a.imag, shift.real, a.imag, a.real, shift.imag], -1)
    return rows.reshape(*rows.shape[:-1], 2, 3)


def transform(matrix: Floats, points: ArrayLike) -> Floats:
    """Points (..., K, 2) moved by (..., 2, 3)."""
    return np.asarray(points, np.float64) @ matrix[..., :2].swapaxes(-1, -2) + matrix[..., None, :, 2]


def warp(image: NDArray[np.uint8], matrix: Floats, size: int = ARCFACE_SIZE) -> NDArray[np.uint8]:
    """uint8 RGB (H, W, 3) moved by ``matrix`` (2, 3) into (size, size, 3), bilinear; black where the image ends."""
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    # Pillow counts from the corner of the first pixel, half a pixel before its middle.
    to_corner, to_middle = np.eye(3), np.eye(3)
    to_corner[:2, 2], to_middle[:2, 2] = 0.5, -0.5
    coefficients = (to_corner @ inverse @ to_middle)[:2].ravel()
    moved = Image.fromarray(image).transform(
        (size, size), Image.Transform.AFFINE, tuple(coefficients), Image.Resampling.BILINEAR
    )
    return np.array(moved)


def align(image: NDArray[np.uint8], landmarks: ArrayLike, size: int = ARCFACE_SIZE) -> NDArray[np.uint8]:
    """The face with ``landmarks`` (5, 2), in pixels of ``image``, on the ArcFace template: uint8 (size, size, 3)."""
    return warp(image, similarity(landmarks, template(size)), size)


def alignment_statistics(landmarks: ArrayLike, size: int = ARCFACE_SIZE) -> dict[str, object]:
    """How far faces (B, 5, 2), in pixels of images of ``size`` a side, are from the ArcFace template.

    Returns plain values: the mean face, its offset from the template in pixels, the mean and largest distance of a
    face's points from it, and the mean scale and rotation (degrees) that would bring a face onto it.
    """
    points = np.asarray(landmarks, np.float64)
    goal = template(size)
    matrix = similarity(points, goal)
    a = matrix[:, 0, 0] + 1j * matrix[:, 1, 0]
    distance = np.linalg.norm(points - goal, axis=-1).mean(-1)  # (B, 5, 2) -> (B,)
    return {
        "mean_face": points.mean(0).round(2).tolist(),
        "offset": (points.mean(0) - goal).mean(0).round(2).tolist(),
        "distance_mean": float(distance.mean().round(3)),
        "distance_max": float(distance.max().round(3)),
        "scale_mean": float(abs(a).mean().round(4)),
        "rotation_mean": float(np.degrees(np.angle(a)).mean().round(3)),
        "rotation_std": float(np.degrees(np.angle(a)).std().round(3)),
    }

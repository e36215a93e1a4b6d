"""Alignments that went wrong, by their geometry: a nostril taken for an eye, a tilted quarter of a face.

A face that was found upside down, its mouth taken for the eyes, has the geometry of a face, and is not told from one.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetx.data.align import Floats, similarity, template, transform
from facetx.errors import ConfigError

GRID = 16
"""Points a side at which a picture is asked whether it lies in the photo."""
FEWEST = 20
"""Faces from which the usual scale of a set is known."""
LEAST_DEVIATION = np.log(1.1)
"""Of log scales: a set whose faces are all of one size would call every other one an outlier."""


@dataclass(frozen=True)
class Bounds:
    """What is still taken for a face; "inf" takes all.

    The defaults take each of 150 photos of LFW by MTCNN's points, where the largest residual is 0.054, rotation 10
    degrees, and scale 3.7 deviations off; in 200 of them turned by a quarter it finds 33 faces, and 28 are left out.

    Attributes:
        residual: Mean distance of the five points from the template after the alignment, as a share of the side.
        rotation: Degrees by which the face is turned.
        scale: Distance of the logarithm of the scale from the set's median, in standard deviations by the median
            deviation; asked of sets of ``FEWEST`` faces or more.
        outside: Share of the aligned picture that lies outside of the photo.

    Raises ``ConfigError`` for one that is below 0 or no number.
    """

    residual: float = 0.1
    rotation: float = 45.0
    scale: float = 5.0
    outside: float = 0.3

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value >= 0:
                raise ConfigError(f"the bound of the {name} must be 0 or more, got {value}")


USUAL = Bounds()


@dataclass(frozen=True)
class Geometry:
    """Of the alignment of B faces, known without their photos.

    Attributes:
        matrix: (B, 2, 3) photo -> picture of ``size`` pixels a side.
        residual, rotation, scale: (B,) as ``Bounds`` has them; a scale of 0 where the set is too small.
        usual_scale: The set's median.
    """

    size: int
    matrix: Floats
    residual: Floats
    rotation: Floats
    scale: Floats
    usual_scale: float

    @classmethod
    def of(cls, landmarks: NDArray[np.float32], size: int) -> "Geometry":
        """Of landmarks (B, 5, 2) in pixels of the photos."""
        goal = template(size)
        matrix = similarity(landmarks, goal)
        a = matrix[:, 0, 0] + 1j * matrix[:, 1, 0]
        residual = np.linalg.norm(transform(matrix, landmarks) - goal, axis=-1).mean(-1) / size
        logs = np.log(abs(a))
        usual = np.median(logs)
        deviation = max(1.4826 * float(np.median(abs(logs - usual))), LEAST_DEVIATION)
        scale = abs(logs - usual) / deviation if len(logs) >= FEWEST else np.zeros(len(logs))
        return cls(size, matrix, residual, abs(np.degrees(np.angle(a))), scale, float(np.exp(usual)))

    def outside(self, index: int, width: int, height: int) -> float:
        """The share of a face's picture that lies outside of its photo."""
        at = (np.arange(GRID) + 0.5) * self.size / GRID - 0.5
        picture = np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)
        back = np.linalg.inv(np.vstack([self.matrix[index], [0, 0, 1]]))[:2]
        photo = transform(back, picture)
        inside = (photo >= -0.5) & (photo <= [width - 0.5, height - 0.5])
        return float(1 - inside.all(-1).mean())

    def outlier(self, index: int, width: int, height: int, bounds: Bounds) -> str | None:
        """Why a face is left out, in words; None where it is within the bounds."""
        residual, rotation, scale = (float(x[index]) for x in (self.residual, self.rotation, self.scale))
        outside = self.outside(index, width, height)
        found = []
        if residual > bounds.residual:
            found.append(f"the points are {residual:.3f} of the side off a face's, above {bounds.residual:g}")
        if rotation > bounds.rotation:
            found.append(f"turned by {rotation:.0f} degrees, above {bounds.rotation:g}")
        if scale > bounds.scale:
            factor = float(np.hypot(*self.matrix[index, :, 0]))
            found.append(
                f"scaled by {factor:.3g} where {self.usual_scale:.3g} is usual, {scale:.1f} deviations, above "
                f"{bounds.scale:g}"
            )
        if outside > bounds.outside:
            found.append(f"{outside:.2f} of the picture lies outside of the photo, above {bounds.outside:g}")
        return f"the alignment is an outlier: {'; '.join(found)}" if found else None

    def facts(self, bounds: Bounds, outliers: dict[str, str]) -> dict[str, Any]:
        """For a report."""
        return {"bounds": asdict(bounds), "usual_scale": round(self.usual_scale, 4), "images": outliers}

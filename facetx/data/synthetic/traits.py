"""Who a synthetic face is (`Identity`) and how one picture of it was taken (`Shot`), as numbers.

Lengths are in units of the 112-pixel ArcFace frame, in a head frame whose origin lies between the eyes: x to the
image's right, y down, z towards the viewer. Angles are in radians, colors RGB in 0..1. An identity holds what stays
with a person; a shot holds the nuisance: pose, expression, light, background, age, accessories. ``Shot()`` as it
stands is the neutral picture: frontal, relaxed, evenly lit, before a gray wall.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

RGB = tuple[float, float, float]


def rgb(*color: float) -> np.ndarray:
    """A color in 0..1 as (3, 1, 1) float32, so that it meets planes (h, w) and keeps them float32."""
    return np.array(color, np.float32).reshape(3, 1, 1)


def _tones(*colors: RGB) -> list[np.ndarray]:
    return [rgb(*color) for color in colors]


# Ramps of plausible colors, from little melanin to much; a tone in 0..1 walks along them.
SKIN_TONES = _tones((1, 0.86, 0.77), (0.95, 0.76, 0.63), (0.84, 0.63, 0.48), (0.65, 0.45, 0.32), (0.41, 0.27, 0.2))
HAIR_TONES = _tones((0.9, 0.77, 0.5), (0.66, 0.47, 0.27), (0.4, 0.25, 0.15), (0.22, 0.14, 0.1), (0.08, 0.07, 0.07))
IRIS_TONES = _tones((0.45, 0.65, 0.85), (0.5, 0.58, 0.6), (0.38, 0.56, 0.36), (0.52, 0.36, 0.16), (0.24, 0.13, 0.07))
RED_HAIR, GRAY_HAIR = rgb(0.66, 0.26, 0.09), rgb(0.76, 0.76, 0.77)


def ramp(colors: list[np.ndarray], tone: float) -> np.ndarray:
    """The color at ``tone`` in 0..1 along ``colors``, linear between one and the next."""
    at = tone * (len(colors) - 1)
    low = min(int(at), len(colors) - 2)
    return colors[low] + (at - low) * (colors[low + 1] - colors[low])


@dataclass(frozen=True, eq=False)
class Identity:
    """What stays with a person: geometry, colors, and leanings (0..1) that a shot draws its accessories from."""

    # head
    face_width: float  # half width at the cheekbones
    chin: float  # y of the chin
    jaw: float  # 0 is an ellipse, 0.6 is square
    taper: float  # share of the width that is lost towards the chin
    ear_size: float
    # eyes and brows
    eye_gap: float  # half the distance of the eyes
    eye_width: float  # half width
    eye_height: float  # half height
    eye_tilt: float  # above 0 the outer corners stand higher
    iris_size: float
    iris_tone: float
    lid: float  # distance of the crease above the eye
    brow_height: float  # above the eye
    brow_thickness: float
    brow_length: float  # half length
    brow_tilt: float
    brow_arch: float
    # nose
    nose_length: float  # y of its tip
    nose_width: float  # half width at the nostrils
    bridge: float  # half width of the bridge
    nose_tip: float  # radius of the tip
    # mouth
    mouth_y: float
    mouth_width: float  # half width
    upper_lip: float
    lower_lip: float
    bow: float  # depth of the cupid's bow, a share of the upper lip
    lip_red: float
    # skin
    skin_tone: float
    undertone: float  # from pink to yellow, -1..1
    cheekbone: float  # strength of the shading below the cheekbones
    freckles: np.ndarray  # (n, 2): x, y
    freckle_depth: float
    moles: tuple[tuple[float, float, float], ...]  # x, y, radius
    # hair
    hair_tone: float
    hair_red: float
    bald: bool
    hairline: float  # y of its middle
    temples: float  # how far the hair recedes at the sides, 0..1
    part: float  # where it is parted, -1..1
    volume: float
    hair_length: float  # y of its tips at the sides
    wave: float
    bangs: bool
    # leanings
    age: float
    beard: float
    makeup: float
    glasses: float
    smile: float


def _dice(rng: np.random.Generator) -> tuple[Callable[..., float], Callable[..., float], Callable[[float], bool]]:
    """Draws of floats, one after the other: normal (cut off at two deviations), uniform, and chance(p)."""
    normals = iter(np.clip(rng.standard_normal(160), -2, 2).tolist())
    uniforms = iter(rng.random(160).tolist())

    def normal(mean: float, deviation: float) -> float:
        return mean + deviation * next(normals)

    def uniform(low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * next(uniforms)

    def chance(p: float) -> bool:
        return next(uniforms) < p

    return normal, uniform, chance


def sample_identity(rng: np.random.Generator) -> Identity:
    """Draws a person."""

    normal, uniform, chance = _dice(rng)
    skin_tone = uniform()
    # Fair hair is rare on dark skin, dark hair is not on fair skin.
    hair_tone = min(max(normal(0.25 + 0.6 * skin_tone, 0.32), 0.0), 1.0)
    iris_tone = min(max(normal(0.25 + 0.75 * skin_tone, 0.28), 0.0), 1.0)
    spots = int(uniform(8, 30)) if chance(0.35 * (1 - skin_tone)) else 0
    freckles = [(normal(0, 12), normal(14, 4)) for _ in range(spots)]
    moles = [(uniform(-25, 25), uniform(8, 46), uniform(0.7, 1.2)) for _ in range(int(uniform(0, 2.6)))]
    beard = max(uniform(-1, 1), 0.0)
    bald = chance(0.07)
    return Identity(
        face_width=normal(37.5, 3.2),
        chin=normal(60, 3.8),
        jaw=normal(0.2, 0.16),
        taper=normal(0.15, 0.08),
        ear_size=normal(8, 1.1),
        eye_gap=normal(17.6, 1.8),
        eye_width=normal(7.3, 0.9),
        eye_height=normal(3.6, 0.75),
        eye_tilt=normal(0.03, 0.11),
        iris_size=normal(3.5, 0.3),
        iris_tone=iris_tone,
        lid=normal(2.0, 0.7),
        brow_height=normal(10.5, 1.8),
        brow_thickness=normal(1.65, 0.55),
        brow_length=normal(9.6, 1.0),
        brow_tilt=normal(0.02, 0.12),
        brow_arch=normal(1.8, 0.9),
        nose_length=normal(20.0, 2.5),
        nose_width=normal(7.2, 1.6),
        bridge=normal(2.7, 0.6),
        nose_tip=normal(4.0, 0.6),
        mouth_y=normal(40.5, 2.3),
        mouth_width=normal(13.6, 2.0),
        upper_lip=normal(2.7, 0.9),
        lower_lip=normal(3.7, 1.0),
        bow=normal(0.35, 0.15),
        lip_red=uniform(),
        skin_tone=skin_tone,
        undertone=normal(0, 0.5),
        cheekbone=uniform(),
        freckles=np.array(freckles, np.float32).reshape(-1, 2),
        freckle_depth=uniform(0.12, 0.32),
        moles=tuple(moles),
        hair_tone=hair_tone,
        hair_red=uniform(0.4, 1.0) if chance(0.15) else uniform(0, 0.25),
        bald=bald,
        hairline=normal(-30, 4),
        temples=uniform(),
        part=uniform(-1, 1),
        volume=normal(6.5, 2.2),
        hair_length=uniform(30, 75) if chance(0.45) else uniform(-12, 12),
        wave=max(uniform(-0.7, 1.0), 0.0),
        bangs=not bald and chance(0.2),
        age=uniform(),
        beard=beard,
        makeup=max(uniform(-0.3, 1), 0.0) if beard == 0 else 0.0,
        glasses=uniform(0, 0.5) ** 2 * 2,
        smile=normal(0.4, 0.2),
    )


@dataclass(frozen=True, eq=False)
class Shot:
    """How one picture was taken. The defaults are the neutral picture."""

    # pose and alignment
    yaw: float = 0.0  # above 0 the face looks to the image's right
    pitch: float = 0.0  # above 0 it looks up
    roll: float = 0.0  # of the alignment's error
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    # expression
    smile: float = 0.0  # -0.3..1
    mouth_open: float = 0.0  # height of the opening, not counting what a smile opens
    brow_raise: float = 0.0
    eye_open: float = 1.0  # times the eye's height
    gaze: tuple[float, float] = (0.0, 0.0)
    # age and accessories
    age: float = 0.3
    beard: str = "none"  # none, stubble, full, goatee, mustache
    lipstick: RGB | None = None
    eyeshadow: RGB | None = None
    blush: float = 0.0
    glasses: RGB | None = None  # color of the frame
    glasses_shape: tuple[float, float, float, float] = (9.5, 7.0, 4.0, 0.0)  # half width, half height, corner, tint
    hat: RGB | None = None
    hat_brim: float = -26.0  # y of its lower edge
    clothes: RGB = (0.35, 0.4, 0.5)
    # light, lens and wall
    light: tuple[float, float] = (0.0, -0.1)  # slope of the brightness along x and y, -1..1
    gain: RGB = (1.0, 1.0, 1.0)
    contrast: float = 1.0
    gamma: float = 1.0
    blur: float = 0.0  # weight of the two neighbors, 0..0.3
    grain: float = 0.0
    grain_seed: int = 0
    background: np.ndarray = field(default_factory=lambda: np.full((3, 5, 5), 0.6, np.float32))

    @property
    def opening(self) -> float:
        """Height between the lips: a broad smile shows the teeth."""
        return self.mouth_open + 5 * max(self.smile - 0.45, 0.0)


def sample_shot(rng: np.random.Generator, who: Identity) -> Shot:
    """Draws the nuisance of one picture of ``who``."""

    normal, uniform, chance = _dice(rng)

    def color(low: float = 0.05, high: float = 0.95) -> RGB:
        return uniform(low, high), uniform(low, high), uniform(low, high)

    made_up = chance(who.makeup)
    exposure, warmth, tint = uniform(0.82, 1.14), normal(0, 0.04), normal(0, 0.02)
    wall = np.array(color())[:, None, None] + uniform(0.05, 0.3) * rng.standard_normal((3, 5, 5))
    return Shot(
        yaw=normal(0, 0.13),
        pitch=normal(0, 0.06),
        roll=normal(0, 0.025),
        scale=normal(1, 0.02),
        shift=(normal(0, 0.8), normal(0, 0.8)),
        smile=min(max(normal(who.smile, 0.33), -0.3), 1.0),
        mouth_open=max(normal(-0.5, 3.0), 0.0),
        brow_raise=normal(0, 0.7),
        eye_open=min(max(normal(0.98, 0.1), 0.7), 1.2),
        gaze=(normal(0, 1.1), normal(0, 0.4)),
        age=min(max(normal(who.age, 0.08), 0.0), 1.0),
        beard=_beard(who.beard, uniform(), uniform()),
        lipstick=(uniform(0.5, 0.85), uniform(0.05, 0.3), uniform(0.12, 0.4)) if made_up else None,
        eyeshadow=color(0.15, 0.65) if made_up and chance(0.6) else None,
        blush=uniform(0.3, 1.0) if made_up and chance(0.5) else uniform(0, 0.15),
        glasses=color(0.02, 0.5) if chance(who.glasses) else None,
        glasses_shape=(uniform(8.8, 11.0), uniform(6.0, 9.0), uniform(2.0, 6.0), max(uniform(-0.6, 0.45), 0.05)),
        hat=color() if chance(0.06) else None,
        hat_brim=uniform(-30, -22),
        clothes=color(),
        light=(normal(0, 0.18), normal(-0.1, 0.14)),
        gain=(exposure * (1 + warmth), exposure * (1 + tint), exposure * (1 - warmth)),
        contrast=uniform(0.85, 1.15),
        gamma=uniform(0.85, 1.18),
        blur=max(uniform(-0.3, 0.24), 0.0),
        grain=uniform(0.003, 0.02),
        grain_seed=int(rng.integers(2**32)),
        background=np.clip(wall, 0.02, 0.98).astype(np.float32),
    )


def _beard(leaning: float, shaven: float, kind: float) -> str:
    """The beard of the day: the stronger the growth, the seldomer it is shaven off."""
    if shaven > leaning:
        return "none"
    styles: tuple[str, ...] = ("stubble", "full", "goatee", "mustache")
    return styles[min(int(4 * ((leaning * 2 + 0.55 * kind) % 1.0)), 3)]


def hair_color(who: Identity, age: float) -> np.ndarray:
    """The color of the hair at that age: melanin, some red, and gray from 0.6 on."""
    color = ramp(HAIR_TONES, who.hair_tone)
    color = color + 0.75 * who.hair_red * (1 - 0.6 * who.hair_tone) * (RED_HAIR - color)
    return color + grayness(age) * (GRAY_HAIR - color)


def grayness(age: float) -> float:
    """Share of gray hair, 0 below age 0.6 and 0.9 from 0.95 on."""
    return min(max((age - 0.6) / 0.35, 0.0), 1.0) * 0.9


def attributes(who: Identity, shot: Shot) -> dict[str, bool]:
    """The labels that hold by construction, under CelebA's names."""
    gray = grayness(shot.age) > 0.5
    natural = not who.bald and not gray
    bearded = shot.beard in ("full", "goatee", "mustache")
    return {
        "5_o_Clock_Shadow": shot.beard == "stubble",
        "Arched_Eyebrows": who.brow_arch > 2.4,
        "Bald": who.bald,
        "Bangs": who.bangs,
        "Big_Lips": who.upper_lip + who.lower_lip > 7.0,
        "Big_Nose": who.nose_width > 7.8,
        "Black_Hair": natural and who.hair_tone > 0.75,
        "Blond_Hair": natural and who.hair_tone < 0.3 and who.hair_red < 0.4,
        "Blurry": shot.blur > 0.18,
        "Brown_Hair": natural and 0.3 <= who.hair_tone <= 0.75 and who.hair_red < 0.4,
        "Bushy_Eyebrows": who.brow_thickness > 1.9,
        "Eyeglasses": shot.glasses is not None,
        "Goatee": shot.beard == "goatee",
        "Gray_Hair": gray and not who.bald,
        "Heavy_Makeup": shot.lipstick is not None and shot.eyeshadow is not None,
        "Mouth_Slightly_Open": shot.opening > 1.5,
        "Mustache": shot.beard in ("full", "mustache"),
        "Narrow_Eyes": who.eye_height * shot.eye_open < 2.8,
        "No_Beard": not bearded,
        "Pale_Skin": who.skin_tone < 0.12,
        "Receding_Hairline": not who.bald and not who.bangs and who.hairline < -33 and who.temples > 0.6,
        "Rosy_Cheeks": shot.blush > 0.3,
        "Smiling": shot.smile > 0.4,
        "Straight_Hair": not who.bald and who.wave == 0,
        "Wavy_Hair": not who.bald and who.wave > 0.4,
        "Wearing_Hat": shot.hat is not None,
        "Wearing_Lipstick": shot.lipstick is not None,
        "Young": shot.age < 0.55,
    }


ATTRIBUTES = tuple(attributes(sample_identity(np.random.default_rng(0)), Shot()))
"""CelebA's names of the attributes that are drawn, in the order of ``attributes``."""

"""Paints one shot of one identity, part by part, back to front.

Every part has a place in three dimensions on the head. Yaw and pitch move the places, not the shapes (2.5-D), so the
parts slide over the head as they do in life. Then the five keypoints are fitted to the ArcFace template as an aligner
does: by the similarity with the least squared error (Umeyama 1991), in the plane a single complex division.
"""

import cmath
from functools import lru_cache

import numpy as np

from facetx.data.mask_classes import LAPA
from facetx.data.synthetic.canvas import Canvas, Patch, egg, ellipse, length, rounded_box, unit
from facetx.data.synthetic.traits import IRIS_TONES, SKIN_TONES, Identity, Shot, grayness, hair_color, ramp, rgb

# InsightFace's five points for 112x112: the eyes, the nose, the corners of the mouth, image-left first.
TEMPLATE = np.array(
    [38.2946 + 51.6963j, 73.5318 + 51.5014j, 56.0252 + 71.7366j, 41.5493 + 92.3655j, 70.7299 + 92.2041j]
)

# Left and right are the image's.
MASK_CLASSES = LAPA
BACKGROUND, SKIN, LEFT_BROW, RIGHT_BROW, LEFT_EYE, RIGHT_EYE, NOSE, UPPER_LIP, INNER_MOUTH, LOWER_LIP, HAIR = range(11)

# How far the parts stand in front of the axis that the head turns about.
EYE_Z, BROW_Z, NOSE_Z, MOUTH_Z, CHIN_Z, HAIRLINE_Z, EAR_Z = 26.0, 28.0, 42.0, 33.0, 24.0, 22.0, -6.0


def paint(who: Identity, shot: Shot, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The picture (size, size, 3) uint8 RGB, its labels (size, size) uint8, its keypoints (5, 2) float32 in pixels."""
    portrait = Portrait(who, shot, size)
    portrait.background()
    portrait.hair_behind()
    portrait.neck_and_clothes()
    portrait.ears()
    portrait.skin()
    portrait.spots()
    portrait.wrinkles()
    portrait.beard()
    portrait.mouth()
    portrait.nose()
    portrait.eyes()
    portrait.brows()
    portrait.hair()
    portrait.hat()
    portrait.glasses()
    canvas = portrait.canvas
    return portrait.develop(), canvas.mask, canvas.to_pixels(portrait.keypoints)


class Portrait:
    """The head in its pose, and a method for each part of it that draws the part on the canvas."""

    def __init__(self, who: Identity, shot: Shot, size: int):
        self.who, self.shot = who, shot
        self._yaw, self._pitch = cmath.rect(1, shot.yaw), cmath.rect(1, shot.pitch)
        corner_x, corner_y = who.mouth_width * (1 + 0.16 * max(shot.smile, 0)), who.mouth_y - 1.6 * shot.smile
        self.keypoints = np.array(
            [
                self.place(-who.eye_gap, 0, EYE_Z),
                self.place(who.eye_gap, 0, EYE_Z),
                self.place(0, who.nose_length, NOSE_Z),
                self.place(-corner_x, corner_y, MOUTH_Z),
                self.place(corner_x, corner_y, MOUTH_Z),
            ]
        )
        self.canvas = Canvas(size, *self._alignment())
        self.skin_color = ramp(SKIN_TONES, who.skin_tone) * rgb(1, 1 + 0.03 * who.undertone, 1 - 0.07 * who.undertone)
        self.hair_color = hair_color(who, shot.age)
        self.long_hair = who.hair_length > 20 and not who.bald
        random = np.random.Generator(np.random.Philox(shot.grain_seed))
        noise = np.frombuffer(random.bytes(size * size), np.int8).reshape(size, size)
        self.noise = noise * np.float32(1 / 128)  # -1..1

    def place(self, x: float, y: float, z: float) -> complex:
        """Where a point of the head comes to lie once the head is turned, seen from the front.

        Yaw moves it across, pitch along; their product is left out, so that pairs at x and -x stay level.
        """
        return complex(x * self._yaw.real + z * self._yaw.imag, y * self._pitch.real - z * self._pitch.imag)

    def pair(self, x: float, y: float, z: float, half_width: float, half_height: float, angle: float = 0.0) -> Patch:
        """The patch of two mirrored parts about the places (x, y, z) and (-x, y, z)."""
        return self.canvas.patch(self.place(0, y, z), half_width, half_height, angle, x * self._yaw.real)

    def _alignment(self) -> tuple[complex, complex]:
        """The similarity from the head frame to the 112 frame, with the aligner's error."""
        middle, target = self.keypoints.mean(), TEMPLATE.mean()
        points = self.keypoints - middle
        turn = complex((points.conj() * (TEMPLATE - target)).sum() / (points.conj() * points).sum())
        turn *= cmath.rect(self.shot.scale, self.shot.roll)
        return turn, complex(target - turn * middle) + complex(*self.shot.shift)

    # ---- behind the face ----

    def background(self) -> None:
        """A wall: a coarse grid of colors (3, n, n), interpolated along both axes."""
        weights = _smooth(self.shot.background.shape[1], self.canvas.size)
        np.matmul(weights @ self.shot.background, weights.T, out=self.canvas.rgb)

    def hair_behind(self) -> None:
        """What falls behind the neck, where the hair is long."""
        who = self.who
        if not self.long_hair:
            return
        patch = self.canvas.patch(40j, 75, 42)  # all that is above is covered later
        v = patch.v + 40
        across = patch.u * (1 + 0.03 * who.wave * np.sin(v * 0.28))
        outline = egg(across, v, who.face_width + who.volume * 0.85, -0.05, -50, who.hair_length + 12, 1.0)
        alpha = patch.cover(outline)
        patch.label(alpha, HAIR)
        patch.fill(alpha, self.hair_color * 0.62)

    def neck_and_clothes(self) -> None:
        who, chin = self.who, self.place(0, self.who.chin, CHIN_Z)
        patch = self.canvas.patch(complex(0, who.chin), 90, 24)
        neck = patch.cover(np.abs(patch.u) - who.face_width * 0.62)
        patch.label(neck, BACKGROUND)
        patch.fill(neck, self.skin_color, tone=0.8 - 0.4 * blob(patch, chin.real, 2, 36, 18))
        shirt = patch.cover(16 + 0.0045 * patch.u**2 - 0.2 * np.abs(patch.u) - patch.v)
        patch.label(shirt, BACKGROUND)
        patch.fill(shirt, rgb(*self.shot.clothes))

    def ears(self) -> None:
        who = self.who
        if self.long_hair:
            return
        patch = self.pair(who.face_width + 0.5, 8, EAR_Z, who.ear_size, who.ear_size * 1.6, 0.12)
        distance = ellipse(patch.u, patch.v, who.ear_size * 0.55, who.ear_size * 1.25)
        patch.fill(patch.cover(distance), self.skin_color, tone=0.9 - 0.2 * unit(-0.35 * distance - 0.2))

    # ---- the face ----

    def _face(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Distance to the outline of the face; its middle line leans with the chin as the head turns."""
        who, chin = self.who, self.place(0, self.who.chin, CHIN_Z)
        u = u - np.maximum(v, 0) * (chin.real / chin.imag)
        return egg(u, v, who.face_width, who.taper, -46, chin.imag, who.jaw)

    def skin(self) -> None:
        """The face's plain: rounded by darker edges, hollowed at eyes and cheeks."""
        who = self.who
        patch = self.canvas.patch(6j, who.face_width + 8, 60)
        outline = self._face(patch.u, patch.v + 6)
        alpha = patch.cover(outline)
        edge = unit(1 + outline * (1 / 16))
        patch.label(alpha, SKIN)
        patch.fill(alpha, self.skin_color, tone=1.03 - 0.2 * edge * edge)
        socket = self.pair(who.eye_gap - 1, -2.5, EYE_Z, 14, 10)
        socket.shade(-0.16 * blob(socket, 0, 0, 14, 10))
        hollow = self.pair(0.64 * who.face_width, 31, 16, 8, 14, 0.4)
        hollow.shade(-0.22 * who.cheekbone * blob(hollow, 0, 0, 8, 16))
        cheek = self.pair(22, 19, 26, 11, 9)
        cheek.fill(blob(cheek, 0, 0, 11, 9), self.skin_color * rgb(1.05, 0.72, 0.72), 0.3 + 0.6 * self.shot.blush)

    def spots(self) -> None:
        """Freckles across nose and cheeks, and moles."""
        who = self.who
        if len(who.freckles):
            patch = self.canvas.patch(self.place(0, 14, 27), 26, 10)
            x, y = who.freckles.T[:, :, None, None]  # (n, 1, 1) against (h, w)
            nearest = ((patch.u - x) ** 2 + (patch.v + 14 - y) ** 2).min(axis=0)
            patch.shade(-who.freckle_depth * unit(1.4 - nearest))
        for x, y, radius in who.moles:
            mole = self.canvas.patch(self.place(x, y, 28 - 0.012 * x * x), radius, radius)
            mole.shade(-0.6 * mole.cover(length(mole.u, mole.v) - radius, 1.0))

    def wrinkles(self) -> None:
        """Folds beside the nose (a smile deepens them), bags under the eyes, lines on the forehead: all with age."""
        who, shot = self.who, self.shot
        old = max(shot.age - 0.35, 0) / 0.65
        fold = self.pair(who.nose_width + 5.5, (who.nose_length + who.mouth_y) / 2 + 1, MOUTH_Z, 4, 9, -0.45)
        fold.shade(-(0.05 + 0.2 * old + 0.12 * max(shot.smile, 0)) * blob(fold, 0, 0, 2.2, 9))
        if old == 0:
            return
        bag = self.pair(who.eye_gap, 6.5, EYE_Z, 8, 5)
        crescent = np.maximum(1 - np.abs(bag.v + 0.03 * bag.u**2 - 1) * (1 / 1.3), 0)
        bag.shade(-0.25 * old * crescent * blob(bag, 0, 0, 9, 6))
        brow = self.canvas.patch(self.place(0, -21, 30), 20, 8)
        lines = np.cos((brow.v - 0.005 * brow.u**2 + 0.6 * np.cos(brow.u * 0.25)) * (2 * np.pi / 4.5))
        brow.shade(-0.3 * old * np.maximum(lines - 0.5, 0) * blob(brow, 0, 0, 20, 9))

    def beard(self) -> None:
        """Stubble, full beard, goatee or mustache: a region of the lower face, roughened by noise. It stays skin."""
        who, style = self.who, self.shot.beard
        if style == "none":
            return
        mouth = self.place(0, who.mouth_y, MOUTH_Z)
        patch = self.canvas.patch(mouth + 5j, 44, 30)
        u, v = patch.u, patch.v + 5  # about the mouth
        chin = who.chin - who.mouth_y
        mustache = np.maximum(np.abs(v + who.upper_lip + 3.2 - 0.022 * u * u) - 2.4, np.abs(u) - who.mouth_width - 1)
        if style == "mustache":
            region = mustache
        elif style == "goatee":
            region = rounded_box(u, v - 4 - chin / 2, who.mouth_width * 0.75, chin / 2 + 2, 5)
        else:  # below a line that rises towards the ears
            region = np.minimum(who.upper_lip + 4 - v - 0.02 * u * u, mustache)
        region = np.maximum(region, self._face(u + mouth.real, v + mouth.imag) + 0.5)
        rough = self.noise[patch.rows, patch.columns]
        alpha = unit(patch.cover(region + 0.9 * rough, 3.0) * (1 + 0.3 * rough))
        patch.fill(alpha, self.hair_color * 0.8, 0.33 if style == "stubble" else 0.88)

    def mouth(self) -> None:
        """Two lips about an opening, all three bows: from full height in the middle to none at the corners."""
        who, shot = self.who, self.shot
        left, right = self.keypoints[3:].tolist()
        width = abs(right - left) / 2
        patch = self.canvas.patch((left + right) / 2, width + 2, 14)
        a = patch.u * (1 / width)
        bow = np.maximum(1 - a * a, 0)
        middle = patch.v - (1.6 + 3.2 * shot.smile) * bow  # v about the line between the lips
        opening = shot.opening
        up, down = 0.4 * opening * bow, 0.6 * opening * bow
        cupid = 1 - who.bow * np.maximum(1 - np.abs(a) * 4, 0)
        above, below, sides = -middle - up, middle - down, np.abs(patch.u) - width  # below 0 in the opening
        upper = np.maximum(np.maximum(above - who.upper_lip * bow * cupid - 0.25, below), sides)
        lower = np.maximum(np.maximum(below - who.lower_lip * np.sqrt(bow) * (0.6 + 0.4 * bow), above), sides)
        inner = np.maximum(np.maximum(above, below), sides)
        lips = self.skin_color * rgb(0.97, 0.69 - 0.12 * who.lip_red, 0.71 - 0.1 * who.lip_red)
        if shot.lipstick is not None:
            lips = 0.2 * lips + 0.8 * rgb(*shot.lipstick)
        patch.shade(-0.2 * blob(patch, 0, 3.2 * shot.smile + opening + who.lower_lip + 3, width * 0.8, 4))
        alpha = patch.cover(upper)
        patch.label(alpha, UPPER_LIP)
        patch.fill(alpha, lips * 0.86)
        alpha = patch.cover(lower)
        shine = 0.16 * np.maximum(1 - np.abs(below - 0.45 * who.lower_lip) * 0.9, 0) * bow
        patch.label(alpha, LOWER_LIP)
        patch.fill(alpha, lips, tone=1 + shine)
        alpha = patch.cover(inner)
        patch.label(alpha, INNER_MOUTH)
        patch.fill(alpha, rgb(0.25, 0.07, 0.07))
        teeth = np.maximum(inner + 0.3, middle + up - min(0.5 * opening, 2.6))
        patch.fill(patch.cover(teeth), rgb(0.93, 0.91, 0.86), min(opening / 2, 1))
        patch.shade(-0.5 * patch.cover(np.maximum(np.abs(above) - 0.35, sides)))

    def nose(self) -> None:
        """A ridge from between the brows to the tip: shaded at its flanks and below, lit on the tip, two nostrils."""
        who, tip, root = self.who, complex(self.keypoints[2]), self.place(0, -4, BROW_Z)
        long, lean = tip.imag - root.imag, tip.real - root.real
        patch = self.canvas.patch((tip + root) / 2 + 2j, who.nose_width + abs(lean) / 2 + 4, long / 2 + 6)
        v = patch.v + 2 + long / 2  # 0 at the root, `long` at the tip
        down = np.clip(v * (1 / long), 0, 1.1)
        u = patch.u - (v * (1 / long) - 0.5) * lean
        side = np.abs(u) - who.bridge - (who.nose_width - who.bridge) * down**3
        base = v - long - who.nose_tip * 0.8 + 0.055 * u * u  # below 0 above the rim of the nostrils
        shape = np.maximum(np.maximum(side, base), -v)
        alpha = patch.cover(shape, 1.6)
        patch.label(alpha, NOSE)
        turned = np.clip(u * (1 / who.nose_width), -1, 1)
        ridge = np.maximum(1 - np.abs(u) * (1 / who.bridge), 0) * down
        lit = (0.45 * self.shot.light[0] + 0.3 * self.shot.yaw) * turned
        shade = alpha * (lit - 0.07 * turned * turned + 0.16 * ridge)
        shade -= 0.14 * np.maximum(1 - np.abs(side) * (1 / 2.2), 0) * unit(-base) * unit(v * 0.12)  # flanks
        shade -= 0.3 * np.maximum(1 - np.abs(shape) * (1 / 1.6), 0) * unit(down * 2 - 1.1)  # rim
        x, y = patch.u - lean / 2, v - long  # about the tip
        shade += 0.16 * np.maximum(1 - (x * x + (y + 0.5) ** 2) * (1 / who.nose_tip**2), 0)
        patch.shade(shade)
        nostrils = ellipse(np.abs(x) - 0.48 * who.nose_width, y - 0.55 * who.nose_tip, 0.22 * who.nose_width, 1)
        patch.shade(-0.62 * patch.cover(nostrils, 1.2))

    def eyes(self) -> None:
        """Almonds between two parabolas; in them white, iris, pupil and glint; over them lashes and crease."""
        who, shot = self.who, self.shot
        height = who.eye_height * shot.eye_open
        patch = self.pair(who.eye_gap, 0, EYE_Z, who.eye_width + 2, height + who.lid + 2, -who.eye_tilt)
        side, turn = np.where(patch.right, np.float32(1), np.float32(-1)), self._yaw.imag
        a = patch.u * ((1 + 0.25 * turn * side) * (1 / (who.eye_width * self._yaw.real)))  # the far eye is narrower
        arc = 1 - a * a
        top = -patch.v - height * 1.05 * arc  # below 0 under the upper lid
        bottom = patch.v - height * 0.85 * arc
        if shot.eyeshadow is not None:
            powder = np.maximum(-patch.v - (height + who.lid + 2.5) * arc, patch.v - 1)
            patch.fill(patch.cover(powder, 3), rgb(*shot.eyeshadow), 0.6)
        alpha = patch.cover(np.maximum(top, bottom) * 0.85)
        patch.label(alpha, LEFT_EYE, RIGHT_EYE)
        patch.fill(alpha, rgb(0.95, 0.94, 0.92), tone=1 - 0.3 * unit(1 + top * (1 / 2.2)))
        x, y = patch.u - side * (shot.gaze[0] + 6 * turn), patch.v - shot.gaze[1]
        r, size = length(x, y), who.iris_size
        rings = 0.62 + 0.5 * unit((size - r) * 0.9) * unit(r * (0.9 / size) + 0.15)
        rings *= 1 - 0.92 * patch.cover(r - 0.45 * size)  # the pupil
        patch.fill(alpha * patch.cover(r - size), ramp(IRIS_TONES, who.iris_tone), tone=rings)
        patch.fill(alpha * patch.cover(length(x + 1.1 * side, y + 1.2) - 0.75), rgb(1, 1, 1), 0.9)
        dark = 0.85 * patch.cover(np.abs(top + 0.1) - (0.75 if shot.lipstick is None else 1.1))  # lashes
        dark += 0.3 * np.maximum(1 - np.abs(bottom) * 1.2, 0)
        dark += 0.32 * patch.cover(np.abs(top - who.lid) - 0.4, 1.2)  # the crease of the lid
        patch.shade(-unit(dark) * unit((1.12 - np.abs(a)) * 6))

    def brows(self) -> None:
        """Arched strokes, thinner towards the temples."""
        who, shot = self.who, self.shot
        half = who.brow_length * self._yaw.real
        lift, tilt = who.brow_height + shot.brow_raise, who.brow_tilt + 0.04 * shot.brow_raise
        patch = self.pair(who.eye_gap + 0.8, -lift, BROW_Z, half + 1, 4, -tilt)
        a = patch.u * (1 / half)  # -1 near the nose, 1 at the temple
        spine = patch.v + who.brow_arch * (0.5 - (a - 0.25) ** 2)
        thick = who.brow_thickness * np.maximum(1.15 - 0.45 * a - 0.35 * a * a, 0)
        alpha = patch.cover(np.maximum(np.abs(spine) - thick, (np.abs(a) - 1) * half), 1.2)
        patch.label(alpha, LEFT_BROW, RIGHT_BROW)
        gray = 0.5 * grayness(shot.age)
        hairs = 1 + 0.2 * self.noise[patch.rows, patch.columns]
        patch.fill(alpha, self.hair_color * 0.55 * (1 - gray) + 0.5 * gray, 0.9, tone=hairs)

    # ---- over the face ----

    def hair(self) -> None:
        """The cap between the outline of the hair and the window that the face looks through."""
        who, long = self.who, self.long_hair
        if who.bald:
            return
        lower = 75 if long else who.hair_length + 4
        patch = self.canvas.patch(1j * (lower - 80) / 2, 75, (lower + 80) / 2)
        v = patch.v + (lower - 80) / 2
        # Strands run out from the crown.
        x, y = patch.u - 13 * who.part, v + 44
        r = length(x, y)
        angle = np.arctan2(x, y + 6) + 0.09 * who.wave * np.sin(r * 0.33)
        strands = np.sin(angle * 31) * 0.6 + np.sin(angle * 67 + 1) * 0.4
        across = patch.u * (1 + 0.03 * who.wave * np.sin(v * 0.28)) if long else patch.u
        width = who.face_width + who.volume * (0.85 if long else 0.45)
        outline = egg(across, v, width, -0.05, -47 - who.volume, who.hair_length + 12 if long else 90, 1.0)
        # The window follows the forehead as the head turns; a parting shears it.
        top = self.place(0, -12.5 if who.bangs else who.hairline, HAIRLINE_Z)
        u = patch.u - np.minimum(v, 0) * (top.real / top.imag + 0.2 * who.part)
        window = egg(u, v, who.face_width * (0.86 if long else 0.95), -0.1, top.imag, 200, 0.0, who.temples)
        cap = np.maximum(outline, (1.3 if who.bangs else 0.5) * strands - window)
        if not long:
            cap = np.maximum(cap, v - who.hair_length + 1.5 * strands)
        gloss = np.maximum(1 - ((r - 15) * (1 / 9)) ** 2, 0)
        shine = 0.92 + 0.15 * strands + 0.3 * gloss - 0.2 * unit(1 + outline * (1 / 9))
        alpha = patch.cover(cap, 0.8)
        patch.label(alpha, HAIR)
        patch.fill(alpha, self.hair_color, tone=shine)

    def hat(self) -> None:
        """A knitted cap down to its brim. LaPa has no class for it, so it counts as background."""
        who, shot = self.who, self.shot
        if shot.hat is None:
            return
        brim = self.place(0, shot.hat_brim, HAIRLINE_Z).imag
        patch = self.canvas.patch(-40j, 75, 40)
        v = patch.v - 40
        bulk = 2.5 if who.bald else who.volume * (0.95 if self.long_hair else 0.55) + 2.5
        outline = egg(patch.u, v, who.face_width + bulk, -0.3, -50 - bulk, 90, 0.0)
        edge = v - brim - 0.004 * patch.u**2
        band = unit((4 - np.abs(edge + 4)) * 2)
        knit = 1 + 0.1 * np.sin(patch.u * 1.7) - 0.25 * band - 0.25 * unit(1 + outline * (1 / 10))
        alpha = patch.cover(np.maximum(outline, edge))
        patch.label(alpha, BACKGROUND)
        patch.fill(alpha, rgb(*shot.hat), tone=knit)

    def glasses(self) -> None:
        """Two rims, a bridge, the temples, tinted lenses. What is seen through or under them keeps its label."""
        shot = self.shot
        if shot.glasses is None:
            return
        half_width, half_height, corner, tint = shot.glasses_shape
        frame, half_width = rgb(*shot.glasses), half_width * self._yaw.real
        patch = self.pair(half_width + 8, 1.5, EYE_Z + 7, 30, half_height + 2)
        u, v = patch.u, patch.v
        lens = rounded_box(u, v, half_width, half_height, corner)
        alpha = patch.cover(lens)
        patch.fill(alpha, frame * 0.5, tint)
        patch.fill(alpha * np.maximum(1 - np.abs(u + v * 0.6 - 2) * 0.5, 0), rgb(1, 1, 1), 0.22)  # a reflection
        beyond = np.abs(self.canvas.u[patch.rows, patch.columns]) - self.who.face_width - 1
        temple = np.maximum(np.maximum(half_width - u, beyond), np.abs(v + 2) - 0.6)
        bridge = np.maximum(u + half_width, np.abs(v + 2 - 0.03 * (u + half_width + 8) ** 2) - 0.6)
        patch.fill(patch.cover(np.minimum(np.abs(lens) - 0.75, np.minimum(temple, bridge))), frame)

    # ---- the camera ----

    def develop(self) -> np.ndarray:
        """Light from one side, the lens, the sensor: (size, size, 3) uint8 RGB."""
        shot, canvas = self.shot, self.canvas
        across = np.minimum(np.maximum(canvas.u, -48), 48) * (shot.light[0] / 48)
        along = np.minimum(np.maximum(canvas.v, -48), 48) * (shot.light[1] / 48)
        light, grain = 1 + across + along, self.noise * (1.7 * shot.grain)
        levels = np.linspace(0, 1, 1024)
        curve = (np.clip(0.5 + shot.contrast * (levels - 0.5), 0, 1) ** shot.gamma * 255 + 0.5).astype(np.uint8)
        picture = np.empty((canvas.size, canvas.size, 3), np.uint8)
        for channel, gain in enumerate(shot.gain):
            plane = canvas.rgb[channel]
            plane *= light * gain
            if shot.blur > 0:
                plane = _blurred(plane, shot.blur)
            plane += grain
            picture[..., channel] = curve.take((unit(plane) * 1023).astype(np.intp))
        return picture


def blob(patch: Patch, x: float, y: float, a: float, b: float) -> np.ndarray:
    """A soft hill of height 1 over the ellipse about (x, y) with half axes ``a``, ``b``."""
    hill = np.maximum(1 - ((patch.u - x) * (1 / a)) ** 2 - ((patch.v - y) * (1 / b)) ** 2, 0)
    return hill * hill


@lru_cache(maxsize=8)
def _smooth(n: int, size: int) -> np.ndarray:
    """(size, n) weights that interpolate n values by raised cosines, so smooth and free of edges."""
    distance = np.linspace(0, n - 1, size)[:, None] - np.arange(n)
    return (0.5 + 0.5 * np.cos(np.pi * np.clip(distance, -1, 1))).astype(np.float32)


def _blurred(plane: np.ndarray, weight: float) -> np.ndarray:
    """Three taps (weight, 1 - 2 weight, weight) along both axes of (H, W); the borders stay."""
    rows = plane.copy()
    rows[1:-1] += weight * (plane[:-2] + plane[2:] - 2 * plane[1:-1])
    both = rows.copy()
    both[:, 1:-1] += weight * (rows[:, :-2] + rows[:, 2:] - 2 * rows[:, 1:-1])
    return both

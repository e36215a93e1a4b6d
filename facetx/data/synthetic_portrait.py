"""Paints one shot of one identity, part by part, back to front.

Every part has a place in three dimensions on the head. Yaw and pitch turn the places, not the shapes (2.5-D), so the
parts slide over the head as they do in life; then the five keypoints are fitted to the ArcFace template by the
similarity with the least squared error (Umeyama 1991, which is one complex division in the plane), as an aligner does.
"""

import cmath
import math

import numpy as np

from facetx.data.synthetic_canvas import Canvas, Patch, egg, ellipse, length, rounded_box, unit
from facetx.data.synthetic_traits import IRIS, SKIN, Identity, Shot, greyness, hair_colour, ramp, rgb

# InsightFace's five points for 112x112: the eyes, the nose, the corners of the mouth, image-left first.
TEMPLATE = np.array(
    [38.2946 + 51.6963j, 73.5318 + 51.5014j, 56.0252 + 71.7366j, 41.5493 + 92.3655j, 70.7299 + 92.2041j]
)

# LaPa's classes. Left and right are the image's.
BACKGROUND, SKIN_LABEL, LEFT_BROW, RIGHT_BROW, LEFT_EYE, RIGHT_EYE = range(6)
NOSE, UPPER_LIP, INNER_MOUTH, LOWER_LIP, HAIR_LABEL = range(6, 11)

# How far the parts stand in front of the axis that the head turns about.
EYE_Z, BROW_Z, NOSE_Z, MOUTH_Z, CHIN_Z, HAIRLINE_Z, EAR_Z = 26.0, 28.0, 42.0, 33.0, 24.0, 22.0, -6.0

SIDES = (-1, 1)


def paint(who: Identity, shot: Shot, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The picture (size, size, 3) uint8 RGB, its labels (size, size) uint8, its keypoints (5, 2) float32 in pixels."""
    portrait = Portrait(who, shot, size)
    portrait.background()
    portrait.hair_behind()
    portrait.neck_and_clothes()
    portrait.ears()
    portrait.skin()
    portrait.wrinkles()
    portrait.beard()
    portrait.mouth()
    portrait.nose()
    for side in SIDES:
        portrait.eye(side)
        portrait.brow(side)
    portrait.hair()
    portrait.hat()
    portrait.glasses()
    canvas = portrait.canvas
    return portrait.develop(), canvas.mask, canvas.to_pixels(portrait.keypoints)


def blob(patch: Patch, a: float, b: float) -> np.ndarray:
    """A soft hill of height 1 over an ellipse of half axes ``a``, ``b``."""
    hill = np.maximum(1 - (patch.u * (1 / a)) ** 2 - (patch.v * (1 / b)) ** 2, 0)
    return hill * hill


class Portrait:
    """The head in its pose, and a method for each part of it that draws the part on the canvas."""

    def __init__(self, who: Identity, shot: Shot, size: int):
        self.who, self.shot = who, shot
        self._yaw, self._pitch = cmath.rect(1, shot.yaw), cmath.rect(1, shot.pitch)
        corner = (who.mouth_width * (1 + 0.16 * max(shot.smile, 0)), who.mouth_y - 1.6 * shot.smile)
        self.keypoints = np.array(
            [
                self.place(-who.eye_gap, 0, EYE_Z),
                self.place(who.eye_gap, 0, EYE_Z),
                self.place(0, who.nose_length, NOSE_Z),
                self.place(-corner[0], corner[1], MOUTH_Z),
                self.place(corner[0], corner[1], MOUTH_Z),
            ]
        )
        self.canvas = Canvas(size, *self._alignment())
        self.skin_colour = ramp(SKIN, who.skin_tone) * rgb(1, 1 + 0.03 * who.undertone, 1 - 0.07 * who.undertone)
        self.hair_colour = hair_colour(who, shot.age)
        random = np.random.Generator(np.random.Philox(shot.grain_seed))
        noise = np.frombuffer(random.bytes(3 * size * size), np.int8).reshape(3, size, size)
        self.noise = noise * np.float32(1 / 128)  # -1..1

    def place(self, x: float, y: float, z: float) -> complex:
        """Where a point of the head comes to lie once the head is turned, in the head frame, seen from the front."""
        turned_x = x * self._yaw.real + z * self._yaw.imag
        depth = z * self._yaw.real - x * self._yaw.imag
        return complex(turned_x, y * self._pitch.real - depth * self._pitch.imag)

    def _alignment(self) -> tuple[complex, complex]:
        """The similarity from the head frame to the 112 frame, with the aligner's error."""
        middle, target = self.keypoints.mean(), TEMPLATE.mean()
        points = self.keypoints - middle
        turn = complex((points.conj() * (TEMPLATE - target)).sum() / (points.conj() * points).sum())
        turn *= cmath.rect(self.shot.scale, self.shot.roll)
        return turn, complex(target - turn * middle) + complex(*self.shot.shift)

    # ---- behind the face ----

    def background(self) -> None:
        """A wall: a coarse grid of colours, interpolated by raised cosines, so smooth and free of edges."""
        grid, size = self.shot.background, self.canvas.size
        at = np.linspace(0, grid.shape[1] - 1, size)[:, None] - np.arange(grid.shape[1])
        weights = (0.5 + 0.5 * np.cos(np.pi * np.clip(at, -1, 1))).astype(np.float32)  # (size, n)
        self.canvas.rgb[:] = weights @ grid @ weights.T  # (3, n, n) -> (3, size, size)

    def hair_behind(self) -> None:
        """What falls behind the neck, where the hair is long."""
        who = self.who
        if who.bald or who.hair_length < 20:
            return
        patch = self.canvas.patch(0j, 75, 120)
        across = patch.u * (1 + 0.03 * who.wave * np.sin(patch.v * 0.28))
        width = who.face_width + who.volume * 1.1
        outline = egg(across, patch.v, width, -0.05, -48 - who.volume, who.hair_length + 12, 1.0)
        patch.fill(patch.cover(outline), self.hair_colour * 0.62, HAIR_LABEL)

    def neck_and_clothes(self) -> None:
        who, chin = self.who, self.place(0, self.who.chin, CHIN_Z)
        patch = self.canvas.patch(complex(0, who.chin), 90, 40)
        neck = np.abs(patch.u) - who.face_width * 0.62
        patch.fill(patch.cover(neck), self.skin_colour * 0.78, BACKGROUND)
        shoulders = 16 + 0.0045 * patch.u**2 - 0.2 * np.abs(patch.u) - patch.v
        patch.fill(patch.cover(shoulders), rgb(*self.shot.clothes), BACKGROUND)
        shadow = self.canvas.patch(chin + 2j, 34, 16)
        shadow.shade(-0.45 * blob(shadow, 34, 16))

    def ears(self) -> None:
        who = self.who
        for side in SIDES:
            centre = self.place(side * (who.face_width + 0.5), 8, EAR_Z)
            patch = self.canvas.patch(centre, who.ear_size, who.ear_size * 1.6, side * 0.12)
            for shrink, tone in ((1.0, 0.9), (0.6, 0.72)):
                ear = ellipse(patch.u, patch.v, who.ear_size * 0.55 * shrink, who.ear_size * 1.25 * shrink)
                patch.fill(patch.cover(ear, 2 - shrink), self.skin_colour * tone, BACKGROUND)

    # ---- the face ----

    def _face(self, patch: Patch) -> np.ndarray:
        """Distance to the outline of the face; its middle line leans with the chin as the head turns."""
        who, chin = self.who, self.place(0, self.who.chin, CHIN_Z)
        u = patch.u - np.maximum(patch.v, 0) * (chin.real / chin.imag)
        return egg(u, patch.v, who.face_width, who.taper, -46, chin.imag, who.jaw)

    def skin(self) -> None:
        """The face's plain: rounded by darker edges, hollowed at eyes and cheeks, with blush, freckles and moles."""
        who, shot, canvas = self.who, self.shot, self.canvas
        patch = canvas.patch(6j, who.face_width + 14, 62)
        outline = self._face(patch)
        alpha = patch.cover(outline)
        edge = unit(1 + outline * (1 / 16))
        patch.fill(alpha, self.skin_colour * (1.03 - 0.2 * edge * edge), SKIN_LABEL)
        for side in SIDES:
            socket = canvas.patch(self.place(side * (who.eye_gap - 1), -2.5, EYE_Z), 14, 10)
            socket.shade(-0.16 * blob(socket, 14, 10))
            hollow = canvas.patch(self.place(side * 27, 32, 16), 10, 17, side * 0.35)
            hollow.shade(-0.22 * who.cheekbone * blob(hollow, 10, 17))
            cheek = canvas.patch(self.place(side * 22, 19, 26), 11, 9)
            pink = self.skin_colour * rgb(1.05, 0.72, 0.72)
            cheek.fill(blob(cheek, 11, 9), pink, opacity=0.3 + 0.6 * shot.blush)
        forehead = canvas.patch(self.place(0, -20, 30), 22, 13)
        forehead.shade(0.07 * blob(forehead, 22, 13))
        if len(who.freckles):
            centre = self.place(0, 14, 27)
            patch = canvas.patch(centre, 27, 12)
            x, y = who.freckles.T[:, :, None, None]  # (n, 1, 1) against (h, w)
            nearest = ((patch.u - x) ** 2 + (patch.v + 14 - y) ** 2).min(axis=0)
            patch.shade(-who.freckle_depth * unit(1.4 - nearest))
        for x, y, radius in who.moles:
            mole = canvas.patch(self.place(x, y, 28 - 0.012 * x * x), radius, radius)
            mole.shade(-0.6 * mole.cover(length(mole.u, mole.v) - radius, 1.0))

    def wrinkles(self) -> None:
        """Folds beside the nose, lines on the forehead, bags under the eyes: deeper with age and expression."""
        who, shot, canvas = self.who, self.shot, self.canvas
        old = max(shot.age - 0.35, 0) / 0.65
        fold = 0.05 + 0.2 * old + 0.12 * max(shot.smile, 0)
        for side in SIDES:
            centre = self.place(side * (who.nose_width + 5.5), (who.nose_length + who.mouth_y) / 2 + 1, MOUTH_Z)
            patch = canvas.patch(centre, 5, 9, -side * 0.45)
            patch.shade(-fold * blob(patch, 2.2, 9))
            bag = canvas.patch(self.place(side * who.eye_gap, 6.5, EYE_Z), 8, 5)
            crescent = np.abs(bag.v + 0.03 * bag.u**2 - 1) * (1 / 1.3)
            bag.shade(-(0.05 + 0.2 * old) * np.maximum(1 - crescent, 0) * blob(bag, 9, 6))
        for line in range(3 if old > 0 else 0):
            patch = canvas.patch(self.place(0, -17 - 4.5 * line, 30), 20, 3)
            wave = np.abs(patch.v - 0.005 * patch.u**2 + 0.6 * np.cos(patch.u * 0.25))
            patch.shade(-0.26 * old * np.maximum(1 - wave, 0) * blob(patch, 20, 6))

    def beard(self) -> None:
        """Stubble, full beard, goatee or mustache: a region of the lower face, roughened by noise. It stays skin."""
        who, style = self.who, self.shot.beard
        if style == "none":
            return
        mouth = self.place(0, who.mouth_y, MOUTH_Z)
        patch = self.canvas.patch(complex(mouth.real, mouth.imag + 5), 44, 34)
        u, v = patch.u, patch.v + 5  # about the mouth
        whole = self.canvas.patch(complex(mouth.real, mouth.imag + 5), 44, 34)
        whole.u, whole.v = whole.u + mouth.real, whole.v + mouth.imag + 5
        chin_gap = who.chin - who.mouth_y
        mustache = np.maximum(np.abs(v + who.upper_lip + 3.2 - 0.022 * u * u) - 2.4, np.abs(u) - who.mouth_width - 1)
        goatee = rounded_box(u, v - 4 - chin_gap / 2, who.mouth_width * 0.75, chin_gap / 2 + 2, 5)
        cheeks = who.upper_lip + 4 - v - 0.02 * u * u  # below 0 under a line that rises towards the ears
        regions = {"mustache": mustache, "goatee": np.minimum(goatee, mustache) if who.beard > 0.5 else goatee}
        region = np.maximum(regions.get(style, np.minimum(cheeks, mustache)), self._face(whole) + 0.5)
        rough = self.noise[0, patch.rows, patch.columns]
        alpha = patch.cover(region + 0.9 * rough, 3.0) * (1 + 0.3 * rough)
        patch.fill(np.minimum(alpha, 1), self.hair_colour * 0.8, opacity=0.33 if style == "stubble" else 0.88)

    def mouth(self) -> None:
        """Two lips about an opening. Across the mouth, ``bow`` = 1 - a^2 falls from 1 in the middle to 0 at the corners."""
        who, shot = self.who, self.shot
        left, right = self.keypoints[3:].tolist()
        width = abs(right - left) / 2
        corners = (left + right) / 2
        patch = self.canvas.patch(corners, width + 2, 16)
        a = patch.u * (1 / width)
        bow = np.maximum(1 - a * a, 0)
        middle = patch.v - (1.6 + 3.2 * shot.smile) * bow  # v about the line between the lips
        opening = shot.mouth_open + max(shot.smile - 0.45, 0) * 5
        up, down = 0.4 * opening * bow, 0.6 * opening * bow
        cupid = 1 - who.bow * np.maximum(1 - np.abs(a) * 4, 0)
        upper = np.maximum(-middle - up - who.upper_lip * bow * cupid - 0.25, middle - down)
        lower = np.maximum(middle - down - who.lower_lip * np.sqrt(bow) * (0.6 + 0.4 * bow), -middle - up)
        sides = np.abs(patch.u) - width
        red = rgb(1.0, 0.55 - 0.12 * who.lip_red, 0.55 - 0.08 * who.lip_red)
        lips = self.skin_colour * rgb(0.92, 0.66 - 0.12 * who.lip_red, 0.68 - 0.1 * who.lip_red) + 0.05 * red
        if shot.lipstick is not None:
            lips = 0.2 * lips + 0.8 * rgb(*shot.lipstick)
        below = self.canvas.patch(corners + 1j * (3.2 * shot.smile + opening + who.lower_lip + 3), width, 4)
        below.shade(-0.2 * blob(below, width * 0.8, 4))
        shine = 0.16 * np.maximum(1 - np.abs(middle - down - 0.45 * who.lower_lip) * 0.9, 0) * bow
        patch.fill(patch.cover(np.maximum(upper, sides)), lips * 0.86, UPPER_LIP)
        patch.fill(patch.cover(np.maximum(lower, sides)), lips * (1 + shine), LOWER_LIP)
        inner = np.maximum(np.maximum(-middle - up, middle - down), sides)
        alpha = patch.cover(inner)
        patch.fill(alpha, rgb(0.25, 0.07, 0.07), INNER_MOUTH)
        teeth = np.maximum(inner + 0.3, middle + up - min(0.5 * opening, 2.6))
        patch.fill(patch.cover(teeth), rgb(0.93, 0.91, 0.86), opacity=min(opening / 2, 1))
        seam = np.maximum(np.abs(middle + up) - 0.35, sides)
        patch.fill(patch.cover(seam), lips * 0.4, opacity=0.8)

    def nose(self) -> None:
        """A ridge from between the brows to the tip: shaded at its sides, two nostrils, a light on the tip."""
        who, tip = self.who, complex(self.keypoints[2])
        root = self.place(0, -4, BROW_Z)
        length = tip.imag - root.imag
        lean = (tip.real - root.real) / length
        middle = (tip + root) / 2
        patch = self.canvas.patch(middle + 2j, who.nose_width + abs(tip.real - root.real) + 4, length / 2 + 6)
        v = patch.v + 2 + length / 2  # 0 at the root
        u = patch.u - (v - length / 2) * lean
        down = np.clip(v * (1 / length), 0, 1.1)
        flare = who.bridge + (who.nose_width - who.bridge) * down**3
        side = (np.abs(u) - flare) * 0.95
        base = v - length - who.nose_tip * 0.8 + 0.055 * u * u  # below 0 above the nostrils' rim
        shape = np.maximum(np.maximum(side, base), -v)
        alpha = patch.cover(shape, 1.6)
        np.copyto(patch.mask, NOSE, where=alpha > 0.5)
        turned = np.clip(u * (1 / who.nose_width), -1, 1)
        ridge = np.maximum(1 - np.abs(u) * (1 / who.bridge), 0) * down
        lit = (0.45 * self.shot.light[0] + 0.3 * self.shot.yaw) * turned
        patch.shade(alpha * (lit - 0.07 * turned * turned + 0.16 * ridge))
        flank = np.maximum(1 - np.abs(side) * (1 / 2.2), 0) * unit(-base) * unit(v * 0.12)
        patch.shade(-0.13 * flank)
        rim = np.maximum(1 - np.abs(shape) * (1 / 1.6), 0) * unit(down * 2 - 1.1)
        patch.shade(-0.3 * rim)
        bulb = self.canvas.patch(tip - 0.5j, who.nose_tip, who.nose_tip)
        bulb.shade(0.16 * blob(bulb, who.nose_tip, who.nose_tip))
        for hand in SIDES:
            centre = tip + complex(hand * who.nose_width * 0.48, who.nose_tip * 0.55)
            nostril = self.canvas.patch(centre, 3, 2, hand * 0.35)
            dark = nostril.cover(ellipse(nostril.u, nostril.v, who.nose_width * 0.22, 0.95), 1.2)
            nostril.shade(-0.62 * dark)
        shadow = self.canvas.patch(tip + 1j * (who.nose_tip + 1.5), who.nose_width, 3.5)
        shadow.shade(-0.16 * blob(shadow, who.nose_width, 3.5))

    def eye(self, side: int) -> None:
        """An almond between two parabolas; in it white, iris, pupil and highlight; over it lashes and crease."""
        who, shot = self.who, self.shot
        centre = complex(self.keypoints[(side + 1) // 2])
        width = who.eye_width * (self._yaw.real - 0.25 * side * self._yaw.imag)  # the far eye is foreshortened
        height = who.eye_height * shot.eye_open
        patch = self.canvas.patch(centre, width + 4, height + who.lid + 5, -side * who.eye_tilt)
        a = patch.u * (1 / width)
        arc = 1 - a * a
        top = -patch.v - height * 1.05 * arc  # below 0 under the upper lid
        bottom = patch.v - height * 0.85 * arc
        almond = np.maximum(top, bottom) * 0.85
        alpha = patch.cover(almond)
        if shot.eyeshadow is not None:
            powder = patch.cover(np.maximum(-patch.v - (height + who.lid + 2.5) * arc, patch.v - 1), 3)
            patch.fill(powder, rgb(*shot.eyeshadow), opacity=0.6)
        white = rgb(0.95, 0.94, 0.92) * (1 - 0.3 * unit(1 + top * (1 / 2.2)))
        patch.fill(alpha, white, LEFT_EYE if side < 0 else RIGHT_EYE)
        x, y = patch.u - shot.gaze[0] - 6 * self._yaw.imag, patch.v - shot.gaze[1]
        r = np.sqrt(x * x + y * y)
        size = who.iris_size
        rings = 0.62 + 0.5 * unit((size - r) * 0.9) * unit(r * (0.9 / size) + 0.15)
        patch.fill(alpha * patch.cover(r - size), ramp(IRIS, who.iris_tone) * rings)
        patch.fill(alpha * patch.cover(r - 0.45 * size), rgb(0.03, 0.02, 0.02))
        glint = length(x + 1.1, y + 1.2) - 0.75
        patch.fill(alpha * patch.cover(glint), rgb(1.0, 1.0, 1.0), opacity=0.9)
        inside = unit((1.12 - np.abs(a)) * 6)
        lashes = patch.cover(np.abs(top + 0.1) - (0.75 if shot.lipstick is None else 1.1)) * inside
        patch.fill(lashes, self.hair_colour * 0.25, opacity=0.85)
        patch.shade(-0.3 * inside * np.maximum(1 - np.abs(bottom) * 1.2, 0))
        crease = np.abs(patch.v + height * arc + who.lid) - 0.4
        patch.shade(-0.32 * patch.cover(crease, 1.2) * inside)

    def brow(self, side: int) -> None:
        """An arched stroke, thinner towards the temple."""
        who, shot = self.who, self.shot
        lift = who.brow_height + shot.brow_raise
        centre = self.place(side * (who.eye_gap + 0.8), -lift, BROW_Z)
        length = who.brow_length * self._yaw.real
        patch = self.canvas.patch(centre, length + 1, 6, -side * (who.brow_tilt + 0.04 * shot.brow_raise))
        a = patch.u * (side / length)  # -1 near the nose, 1 at the temple
        spine = patch.v + who.brow_arch * (1 - (a - 0.25) ** 2) - 0.5 * who.brow_arch
        thick = who.brow_thickness * np.clip(1.15 - 0.45 * a - 0.35 * a * a, 0, 2)
        stroke = np.maximum(np.abs(spine) - thick, (np.abs(a) - 1) * length)
        hairs = 1 + 0.2 * self.noise[1, patch.rows, patch.columns]
        label = LEFT_BROW if side < 0 else RIGHT_BROW
        grey = 0.5 * greyness(shot.age)
        colour = (self.hair_colour * 0.55 * (1 - grey) + 0.5 * grey) * hairs
        patch.fill(patch.cover(stroke, 1.2), colour, label, opacity=0.9)

    # ---- over the face ----

    def hair(self) -> None:
        """The cap between the outline of the hair and the window that the face looks through."""
        who = self.who
        if who.bald:
            return
        patch = self.canvas.patch(0j, 75, 120)
        long = who.hair_length > 20
        crown = complex(who.part * 13, -44)
        x, y = patch.u - crown.real, patch.v - crown.imag
        r = np.sqrt(x * x + y * y)
        angle = np.arctan2(x, y + 6) + 0.09 * who.wave * np.sin(r * 0.33)
        strands = np.sin(angle * 31) * 0.6 + np.sin(angle * 67 + 1) * 0.4
        across = patch.u * (1 + 0.03 * who.wave * np.sin(patch.v * 0.28)) if long else patch.u
        width = who.face_width + who.volume * (0.85 if long else 0.45)
        outline = egg(across, patch.v, width, -0.05, -47 - who.volume, who.hair_length + 12 if long else 90, 1.0)
        # The window follows the forehead as the head turns; a parting shears it.
        top = self.place(0, -12.5 if who.bangs else who.hairline, HAIRLINE_Z)
        lean = top.real / top.imag + 0.2 * who.part
        u = patch.u - np.minimum(patch.v, 0) * lean
        if long:
            u = u - np.maximum(patch.v, 0) * 0.1 * self._yaw.imag
        open_width = who.face_width * (0.86 if long else 0.95)
        window = egg(u, patch.v, open_width, -0.1, top.imag, 200, 0.0, crown=who.temples)
        cap = np.maximum(outline, -window + (1.3 if who.bangs else 0.5) * strands)
        if not long:
            cap = np.maximum(cap, patch.v - who.hair_length + 1.5 * strands)
        gloss = np.maximum(1 - ((r - 15) * (1 / 9)) ** 2, 0)
        shine = 0.92 + 0.15 * strands + 0.3 * gloss - 0.2 * unit(1 + outline * (1 / 9))
        patch.fill(patch.cover(cap, 0.8), self.hair_colour * shine, HAIR_LABEL)

    def hat(self) -> None:
        """A knitted cap down to its brim. LaPa has no class for it, so it counts as background."""
        shot, who = self.shot, self.who
        if shot.hat is None:
            return
        brim = self.place(0, shot.hat_brim, HAIRLINE_Z)
        patch = self.canvas.patch(-40j, 75, 40)
        patch.v = patch.v - 40
        bulk = 2.5 if who.bald else who.volume * (0.95 if who.hair_length > 20 else 0.55) + 2.5
        outline = egg(patch.u, patch.v, who.face_width + bulk, -0.3, -50 - bulk, 90, 0.0)
        edge = patch.v - brim.imag - 0.004 * patch.u**2
        band = unit((4 - np.abs(edge + 4)) * 2)
        knit = 1 + 0.1 * np.sin(patch.u * 1.7) - 0.25 * band - 0.25 * unit(1 + outline * (1 / 10))
        alpha = patch.cover(np.maximum(outline, edge))
        patch.fill(alpha, rgb(*shot.hat) * knit, BACKGROUND)

    def glasses(self) -> None:
        """Two rims, a bridge, the temples, tinted lenses. What is seen through or under them keeps its label."""
        shot = self.shot
        if shot.glasses is None:
            return
        half_width, half_height, corner, tint = shot.glasses_shape
        frame = rgb(*shot.glasses)
        left, right = (self.place(side * (half_width + 8), 1.5, EYE_Z + 7) for side in SIDES)
        for side, centre in ((-1, left), (1, right)):
            patch = self.canvas.patch(centre, half_width + 2, half_height + 2)
            lens = rounded_box(patch.u, patch.v, half_width * self._yaw.real, half_height, corner)
            patch.fill(patch.cover(lens), frame * 0.5, opacity=tint)
            sheen = np.maximum(1 - np.abs(patch.u + patch.v * 0.6 - 2) * 0.5, 0)
            patch.fill(patch.cover(lens) * sheen, rgb(1.0, 1.0, 1.0), opacity=0.22)
            patch.fill(patch.cover(np.abs(lens) - 0.75), frame)
            hinge, ear = centre.real + side * half_width * self._yaw.real, side * (self.who.face_width + 1)
            reach = abs(ear - hinge) / 2
            temple = self.canvas.patch(complex((ear + hinge) / 2, centre.imag - 2), reach + 1, 2)
            if side * (ear - hinge) > 0:
                temple.fill(temple.cover(rounded_box(temple.u, temple.v, reach, 0.7, 0.5)), frame)
        span = (right.real - left.real) / 2 - half_width * self._yaw.real
        bridge = self.canvas.patch((left + right) / 2 - 1j, max(span, 0.5) + 1, 4)
        arch = np.abs(length(bridge.u, bridge.v - 4) - 5) - 0.7
        bridge.fill(bridge.cover(np.maximum(arch, np.abs(bridge.u) - span)), frame)

    # ---- the camera ----

    def develop(self) -> np.ndarray:
        """Light from one side, the lens, the sensor: (size, size, 3) uint8 RGB."""
        shot, canvas = self.shot, self.canvas
        across = np.minimum(np.maximum(canvas.u, -48), 48) * (shot.light[0] / 48)
        along = np.minimum(np.maximum(canvas.v, -48), 48) * (shot.light[1] / 48)
        picture = canvas.rgb
        picture *= (1 + across + along) * rgb(*shot.gain)
        if shot.blur > 0:
            picture = blurred(blurred(picture, shot.blur, 1), shot.blur, 2)
        picture += self.noise * (1.7 * shot.grain)
        levels = np.linspace(0, 1, 1024)
        curve = (np.clip(0.5 + shot.contrast * (levels - 0.5), 0, 1) ** shot.gamma * 255 + 0.5).astype(np.uint8)
        out = np.empty((canvas.size, canvas.size, 3), np.uint8)
        for channel, plane in enumerate(unit(picture)):
            out[..., channel] = curve.take((plane * 1023).astype(np.intp))
        return out


def blurred(picture: np.ndarray, weight: float, axis: int) -> np.ndarray:
    """Three taps (weight, 1 - 2 weight, weight) along one axis of (3, H, W); the border stays."""
    out = picture.copy()
    inner = [slice(None)] * 3
    before, middle, after = (inner.copy() for _ in range(3))
    before[axis], middle[axis], after[axis] = slice(None, -2), slice(1, -1), slice(2, None)
    out[tuple(middle)] *= 1 - 2 * weight
    out[tuple(middle)] += weight * (picture[tuple(before)] + picture[tuple(after)])
    return out

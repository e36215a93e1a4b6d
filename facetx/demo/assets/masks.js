// What a model that parses shows: each class in its color over the picture, and how much of the crop it takes.

const STRENGTH = 0.6; // how much of the color is seen

// The class of each pixel: the highest of the logits (classes, height, width).
export function classesOf({ data, dims }) {
  const [count, height, width] = dims.slice(-3);
  const area = height * width;
  const classes = new Uint8Array(area);
  const best = data.slice(0, area);
  for (let kind = 1, at = area; kind < count; kind++) {
    for (let i = 0; i < area; i++, at++) {
      if (data[at] > best[i]) {
        best[i] = data[at];
        classes[i] = kind;
      }
    }
  }
  return { classes, width, height };
}

// The share of the pixels that each of `count` classes takes, in 0..1.
export function shares({ classes }, count) {
  const found = new Array(count).fill(0);
  for (const kind of classes) found[kind] += 1 / classes.length;
  return found;
}

// Draws the mask of a crop over a picture's part that `canvas` lies over.
// `matrix`: the similarity from the picture to the crop of `size` pixels a side, as align.js has it, but with points
// counted from the corner of the first pixel. `window`: [x, y, side] of the part that is shown.
export function drawMask(canvas, mask, colors, { matrix: [a, b, x, y], size }, [left, top, side]) {
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  const scale = canvas.width / side;
  context.setTransform(new DOMMatrix([scale, 0, 0, scale, -left * scale, -top * scale]).multiply(new DOMMatrix([a, b, -b, a, x, y]).inverse()));
  context.imageSmoothingQuality = "high";
  context.drawImage(colored(mask, colors), 0, 0, size, size);
}

function colored({ classes, width, height }, colors) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const table = colors.map(([red, green, blue]) => (Math.round(255 * STRENGTH) << 24) | (blue << 16) | (green << 8) | red);
  table[0] = 0; // the background is the picture's own
  classes.forEach((kind, i) => (pixels[i] = table[kind]));
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

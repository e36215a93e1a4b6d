// A face onto a template: the similarity that moves five points best, and the warp by it.
// The same numbers as facetx/data/align.py. A similarity is [a, b, x, y]: (u, v) -> (a u - b v + x, b u + a v + y).

export function similarity(source, target) {
  const mean = (points) => points.reduce((sum, p) => [sum[0] + p[0] / points.length, sum[1] + p[1] / points.length], [0, 0]);
  const [sx, sy] = mean(source);
  const [tx, ty] = mean(target);
  let [real, imaginary, spread] = [0, 0, 0];
  source.forEach(([x, y], i) => {
    const [u, v, p, q] = [x - sx, y - sy, target[i][0] - tx, target[i][1] - ty];
    real += u * p + v * q;
    imaginary += u * q - v * p;
    spread += u * u + v * v;
  });
  const [a, b] = [real / spread, imaginary / spread];
  return [a, b, tx - a * sx + b * sy, ty - b * sx - a * sy];
}

export function transform([a, b, x, y], points) {
  return points.map(([u, v]) => [a * u - b * v + x, b * u + a * v + y]);
}

// An ImageData moved into a new one of `size` a side: bilinear, and black where the image ends.
export function warp(image, [a, b, x, y], size) {
  const out = new ImageData(size, size);
  const { data, width, height } = image;
  const norm = a * a + b * b;
  const clamp = (value, most) => Math.min(Math.max(value, 0), most);
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const [u, v] = [column - x, row - y];
      const [px, py] = [(a * u + b * v) / norm, (a * v - b * u) / norm];
      const at = 4 * (row * size + column);
      out.data[at + 3] = 255;
      if (px < -0.5 || py < -0.5 || px >= width - 0.5 || py >= height - 0.5) continue;
      const [left, top] = [Math.floor(px), Math.floor(py)];
      const [dx, dy] = [px - left, py - top];
      const [x0, x1, y0, y1] = [clamp(left, width - 1), clamp(left + 1, width - 1), clamp(top, height - 1), clamp(top + 1, height - 1)];
      for (let c = 0; c < 3; c++) {
        const upper = data[4 * (y0 * width + x0) + c] * (1 - dx) + data[4 * (y0 * width + x1) + c] * dx;
        const lower = data[4 * (y1 * width + x0) + c] * (1 - dx) + data[4 * (y1 * width + x1) + c] * dx;
        out.data[at + c] = Math.floor(upper * (1 - dy) + lower * dy + 1e-9);
      }
    }
  }
  return out;
}

// Runs the model: loads it, aligns the face of a picture, reads it.
import { similarity, transform, warp } from "./align.js";
import { answers, vendor } from "./jobs.js";
import { classesOf } from "./masks.js";

let ort, session, about;

answers({
  // Returns what the model runs on.
  async load(model) {
    about = model;
    const gpu = await navigator.gpu?.requestAdapter().catch(() => null);
    const bytes = await download("./model.onnx");
    return (gpu && (await onGpu(bytes))) || onCpu(bytes);
  },

  // Reads one picture, an ImageData: the face that has these points in it, else the square in its middle.
  async read({ image, face }) {
    const started = performance.now();
    const { crop, points, matrix } = face ? aligned(image, face) : { crop: resized(image), points: about.template, matrix: middle(image) };
    const outputs = await run([crop], points);
    const embedding = about.embeds ? await embed(crop, points, outputs.embedding) : null;
    return {
      crop,
      matrix, // from the picture to the crop, of points that are counted from the corner of the first pixel
      embedding,
      mask: outputs.mask ? classesOf(outputs.mask) : null,
      probabilities: outputs.attributes ? Array.from(outputs.attributes.data, (x) => 1 / (1 + Math.exp(-x))) : [],
      milliseconds: performance.now() - started,
    };
  },
});

async function onGpu(bytes) {
  try {
    ort = await import(vendor("ort/ort.webgpu.min.mjs"));
    await start(bytes, ["webgpu"]);
    return "WebGPU";
  } catch (error) {
    console.warn("WebGPU cannot run this model; WebAssembly will.", error);
    return null;
  }
}

async function onCpu(bytes) {
  ort = await import(vendor("ort/ort.wasm.min.mjs"));
  await start(bytes, ["wasm"]);
  const threads = ort.env.wasm.numThreads;
  return threads === 1 ? "WebAssembly, 1 thread" : `WebAssembly, ${threads} threads`;
}

async function start(bytes, executionProviders) {
  ort.env.wasm.wasmPaths = vendor("ort/");
  const cores = navigator.hardwareConcurrency || 1; // of more than two, one is the page's, and the finder's
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(cores > 2 ? cores - 1 : cores, 4) : 1;
  session = await ort.InferenceSession.create(bytes, { executionProviders });
  await run([resized(new ImageData(about.size, about.size))], about.template); // the first run is slow, and may fail
}

async function download(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: the server answers ${response.status}`);
  const total = Number(response.headers.get("Content-Length"));
  const parts = [];
  let length = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    length += value.length;
    if (total) postMessage({ progress: length / total });
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

function aligned(image, face) {
  const matrix = similarity(face.points, about.template);
  const [a, b, x, y] = matrix; // of the middles of pixels
  const corners = [a, b, x + (1 - a + b) / 2, y + (1 - a - b) / 2];
  return { crop: warp(image, matrix, about.size), points: transform(matrix, face.points), matrix: corners };
}

// From a picture to the square in its middle.
function middle({ width, height }) {
  const side = Math.min(width, height);
  const scale = about.size / side;
  return [scale, 0, (-scale * (width - side)) / 2, (-scale * (height - side)) / 2];
}

// The square in the middle of the image, at the model's size.
function resized(image) {
  const { size } = about;
  if (image.width === size && image.height === size) return image;
  const whole = new OffscreenCanvas(image.width, image.height);
  whole.getContext("2d").putImageData(image, 0, 0);
  const context = new OffscreenCanvas(size, size).getContext("2d");
  context.imageSmoothingQuality = "high";
  const side = Math.min(image.width, image.height);
  context.drawImage(whole, (image.width - side) / 2, (image.height - side) / 2, side, side, 0, 0, size, size);
  return context.getImageData(0, 0, size, size);
}

function mirrored(crop) {
  const { width, height, data } = crop;
  const out = new ImageData(width, height);
  const [from, to] = [new Uint32Array(data.buffer), new Uint32Array(out.data.buffer)];
  for (let i = 0; i < from.length; i++) to[i] = from[i - (i % width) + width - 1 - (i % width)];
  return out;
}

async function run(crops, points) {
  const { size } = about;
  const planes = new Uint8Array(crops.length * 3 * size * size);
  crops.forEach(({ data }, n) => {
    for (let c = 0; c < 3; c++) {
      const offset = (3 * n + c) * size * size;
      for (let i = 0; i < size * size; i++) planes[offset + i] = data[4 * i + c];
    }
  });
  const feeds = { image: new ort.Tensor("uint8", planes, [crops.length, 3, size, size]) };
  if (about.keypoints) {
    feeds.keypoints = new ort.Tensor("float32", Float32Array.from(points.flat(), (p) => (p + 0.5) / size), [1, 5, 2]);
  }
  return session.run(feeds);
}

// Of unit length; summed with the mirror's where the calibration was measured so.
async function embed(crop, points, { data }) {
  let sum = Array.from(data);
  if (about.calibration?.flip) {
    const turned = points?.map(([x, y]) => [about.size - 1 - x, y]);
    const swapped = turned && [turned[1], turned[0], turned[2], turned[4], turned[3]];
    const other = (await run([mirrored(crop)], swapped)).embedding.data;
    sum = sum.map((x, i) => x + other[i]);
  }
  const norm = Math.hypot(...sum) || 1;
  return sum.map((x) => x / norm);
}

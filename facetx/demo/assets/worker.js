// All that computes: finds the face, aligns it, runs the model. Answers {id, method, args} with {id, value} or {id, error}.
import { similarity, transform, warp } from "./align.js";

const FIND_SHARE = 3; // at least this many times its own duration between two searches in a camera's pictures
const vendor = (path) => new URL(`./vendor/${path}`, import.meta.url).href;
let ort, session, about, faces;
let last = { at: -Infinity, cost: 0, face: null };

const methods = {
  // Loads the model, and what finds faces. Returns what the model runs on.
  async load(model) {
    about = model;
    const gpu = await navigator.gpu?.requestAdapter().catch(() => null);
    const bytes = await download("./model.onnx");
    const runtime = (gpu && (await onGpu(bytes))) || (await onCpu(bytes));
    if (about.template) faces = await loadFaces();
    return { runtime, finds: Boolean(faces) };
  },

  // Reads one picture, an ImageData. `live`: it is one of many in a row, so a face may be where it just was.
  async read({ image, align, live }) {
    const started = performance.now();
    const face = align && faces ? await findFace(image, live) : null;
    const found = performance.now();
    const { crop, points } = face ? aligned(image, face) : { crop: resized(image), points: about.template };
    const outputs = await run([crop], points);
    const embedding = about.embeds ? await embed(crop, points, outputs.embedding) : null;
    return {
      face,
      crop,
      embedding,
      probabilities: outputs.attributes ? Array.from(outputs.attributes.data, (x) => 1 / (1 + Math.exp(-x))) : [],
      milliseconds: { find: found - started, model: performance.now() - found },
    };
  },
};

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
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 4) : 1;
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

async function loadFaces() {
  const api = await import(vendor("face/face-api.esm.js"));
  const none = class {};
  // The library looks for a page's canvas and video; it gets tensors, so that it needs none of them.
  api.env.setEnv({
    Canvas: none, CanvasRenderingContext2D: none, Image: none, ImageData, Video: none, fetch: self.fetch.bind(self),
    createCanvasElement: () => new OffscreenCanvas(1, 1), createImageElement: () => new none(), readFile: none,
  });
  await api.tf.setBackend("webgl").catch(() => false);
  if (api.tf.getBackend() !== "webgl") await api.tf.setBackend("cpu");
  await api.tf.ready();
  await api.nets.tinyFaceDetector.loadFromUri(vendor("face"));
  await api.nets.faceLandmark68Net.loadFromUri(vendor("face"));
  return api;
}

// The largest face: {box: [x, y, width, height], score, points, count}, in pixels of the image; null where there is none.
async function findFace(image, live) {
  const now = performance.now();
  if (live && now - last.at < FIND_SHARE * last.cost) return last.face;
  const { data, width, height } = image;
  const pixels = faces.tf.tidy(() => faces.tf.tensor3d(new Int32Array(data), [height, width, 4], "int32").slice([0, 0, 0], [-1, -1, 3]));
  const options = new faces.TinyFaceDetectorOptions({ inputSize: live ? 224 : 416, scoreThreshold: 0.5 });
  const found = await faces.detectAllFaces(pixels, options).withFaceLandmarks();
  pixels.dispose();
  const area = ({ detection: { box } }) => box.width * box.height;
  const largest = found.sort((one, other) => area(other) - area(one))[0];
  const face = largest ? described(largest, found.length) : null;
  last = { at: performance.now(), cost: performance.now() - now, face };
  return face;
}

function described({ detection: { box, score }, landmarks: { positions } }, count) {
  const mean = (from, to) => {
    const part = positions.slice(from, to);
    return [part.reduce((sum, p) => sum + p.x, 0) / part.length, part.reduce((sum, p) => sum + p.y, 0) / part.length];
  };
  // Of the 68 landmarks: both eyes, the tip of the nose, the corners of the mouth.
  const points = [mean(36, 42), mean(42, 48), mean(30, 31), mean(48, 49), mean(54, 55)];
  return { box: [box.x, box.y, box.width, box.height], score, points, count };
}

function aligned(image, face) {
  const matrix = similarity(face.points, about.template);
  return { crop: warp(image, matrix, about.size), points: transform(matrix, face.points) };
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

let queue = Promise.resolve(); // one at a time: neither the session nor the search may be entered twice
self.onmessage = ({ data: { id, method, args } }) => {
  queue = queue.then(async () => {
    try {
      postMessage({ id, value: await methods[method](args) });
    } catch (error) {
      postMessage({ id, error: error?.message ?? String(error) });
    }
  });
};

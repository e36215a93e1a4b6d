// Finds the face in a picture, beside the worker that reads it: a detector and 68 landmarks of face-api.
import { answers, vendor } from "./jobs.js";

let api;

answers({
  async load() {
    api = await import(vendor("face/face-api.esm.js"));
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
  },

  // The largest face: {box: [x, y, width, height], score, points, count}, in pixels of the ImageData; null where there
  // is none. `fine` finds smaller ones, and takes longer.
  async find({ image: { data, width, height }, fine }) {
    const pixels = api.tf.tidy(() => api.tf.tensor3d(new Int32Array(data), [height, width, 4], "int32").slice([0, 0, 0], [-1, -1, 3]));
    let found = [];
    for (const inputSize of fine ? [320, 160] : [160]) { // a small one misses small faces, a large one misses large faces
      const options = new api.TinyFaceDetectorOptions({ inputSize, scoreThreshold: 0.5 });
      found = await api.detectAllFaces(pixels, options).withFaceLandmarks();
      if (found.length) break;
    }
    pixels.dispose();
    const area = ({ detection: { box } }) => box.width * box.height;
    const largest = found.sort((one, other) => area(other) - area(one))[0];
    return largest ? described(largest, found.length) : null;
  },
});

function described({ detection: { box, score }, landmarks: { positions } }, count) {
  const mean = (from, to) => {
    const part = positions.slice(from, to);
    return [part.reduce((sum, p) => sum + p.x, 0) / part.length, part.reduce((sum, p) => sum + p.y, 0) / part.length];
  };
  // Of the 68 landmarks: both eyes, the tip of the nose, the corners of the mouth.
  const points = [mean(36, 42), mean(42, 48), mean(30, 31), mean(48, 49), mean(54, 55)];
  return { box: [box.x, box.y, box.width, box.height], score, points, count };
}

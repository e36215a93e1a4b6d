// The page's side of the two workers, and what a browser must have for them.
import { Asked } from "./jobs.js";

// Bytes of a module with one SIMD instruction: a browser without SIMD refuses them.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

// Why this browser cannot run a model, in words; null where it can.
export function missing() {
  if (typeof WebAssembly === "undefined") return "This browser has no WebAssembly, or it is turned off. Use a current one.";
  if (!WebAssembly.validate(new Uint8Array(SIMD))) {
    return "This browser's WebAssembly has no SIMD instructions, which the model needs. Use Chrome or Edge 91, Firefox 89, Safari 16.4, or newer.";
  }
  if (typeof OffscreenCanvas === "undefined") return "This browser has no OffscreenCanvas. Use a current one.";
  return null;
}

// In the camera's pictures, the finder rests for this many times the duration of its last search, for the model's sake.
const REST = 6;

export class Engine {
  #reader;
  #finder = null;
  #search = null; // the one of the camera's pictures that is under way
  #face = null; // what the last one found
  #rested = 0; // when the next may begin
  #round = 0; // of the camera

  constructor(onProgress) {
    this.#reader = new Asked("./worker.js", onProgress);
  }

  // Returns what the model runs on, in words.
  async load(model) {
    const finding = model.template ? this.#loadFinder() : null;
    const runtime = await this.#reader.ask("load", model);
    await finding;
    return runtime;
  }

  async #loadFinder() {
    const finder = new Asked("./finder.js");
    await finder.ask("load");
    await finder.ask("find", { image: new ImageData(64, 64), fine: false }); // the first search is slow
    this.#finder = finder;
  }

  // Forgets where the face was in the camera's pictures.
  restart() {
    this.#round++;
    this.#search = this.#face = null;
  }

  // Reads a picture, an ImageData, which is given away. `align`: find the face and align it first. `live`: it is one
  // of many in a row; the face is where the last search found it, while the next search runs beside.
  async read(image, { align, live = false }) {
    const started = performance.now();
    const face = !align || !this.#finder ? null : live ? await this.#follow(image) : await this.#finder.ask("find", { image, fine: true });
    const find = performance.now() - started;
    const result = await this.#reader.ask("read", { image, face }, [image.data.buffer]);
    return { ...result, face, milliseconds: { find, model: result.milliseconds } };
  }

  async #follow(image) {
    if (!this.#search && (!this.#face || performance.now() > this.#rested)) this.#search = this.#find(image);
    if (!this.#face) await this.#search;
    return this.#face;
  }

  async #find(image) {
    const round = this.#round;
    const started = performance.now();
    try {
      const face = await this.#finder.ask("find", { image, fine: false });
      if (round === this.#round) this.#face = face;
    } finally {
      this.#rested = performance.now() + REST * (performance.now() - started);
      if (round === this.#round) this.#search = null;
    }
  }
}

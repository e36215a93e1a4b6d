// The page's side of the worker, and what a browser must have for it.

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

export class Engine {
  #worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  #waiting = new Map();
  #next = 0;

  constructor(onProgress) {
    this.#worker.onmessage = ({ data }) => {
      if ("progress" in data) return onProgress(data.progress);
      const { resolve, reject } = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      return "error" in data ? reject(new Error(data.error)) : resolve(data.value);
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      for (const { reject } of this.#waiting.values()) reject(new Error(event.message || "a script of the page cannot be loaded"));
      this.#waiting.clear();
    };
  }

  load(model) {
    return this.#ask("load", model);
  }

  // Takes the image's memory with it.
  read(image, { align, live = false }) {
    return this.#ask("read", { image, align, live });
  }

  #ask(method, args) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, method, args }, args.image ? [args.image.data.buffer] : []);
    });
  }
}

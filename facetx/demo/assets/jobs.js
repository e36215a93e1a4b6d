// How the page asks a worker: {id, method, args} goes there, {id, value} or {id, error} comes back.

export const vendor = (path) => new URL(`./vendor/${path}`, import.meta.url).href;

// In a worker: answers by these methods, one at a time, in the order of the questions.
export function answers(methods) {
  let queue = Promise.resolve();
  self.onmessage = ({ data: { id, method, args } }) => {
    queue = queue.then(async () => {
      try {
        postMessage({ id, value: await methods[method](args) });
      } catch (error) {
        postMessage({ id, error: error?.message ?? String(error) });
      }
    });
  };
}

// In the page: a worker whose methods are asked by `ask`.
export class Asked {
  #worker;
  #waiting = new Map();
  #next = 0;

  constructor(script, onProgress) {
    this.#worker = new Worker(new URL(script, import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }) => {
      if ("progress" in data) return onProgress(data.progress);
      const { resolve, reject } = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      return "error" in data ? reject(new Error(data.error)) : resolve(data.value);
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      for (const { reject } of this.#waiting.values()) reject(new Error(event.message || `${script} cannot be loaded`));
      this.#waiting.clear();
    };
  }

  ask(method, args, transfer = []) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, method, args }, transfer);
    });
  }
}

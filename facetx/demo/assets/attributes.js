// The tab of attributes and of parts: a round frame, the parts of the face over its picture, the probabilities and
// shares below it, pause and resume, and details while paused.
import { drawMask, shares } from "./masks.js";
import { Camera, openPicture, pixels, takesFiles, view } from "./pictures.js";

const $ = (id) => document.getElementById(id);
const LIKELY = 0.5;
const NAMED = 6; // attributes in the summary
const SPOKEN_EVERY = 4000; // milliseconds between two summaries of a live picture, for who hears them

export class Attributes {
  #camera = new Camera($("camera"));
  #rows = []; // one an attribute: {label, index, row}
  #parts = []; // one a class of the mask, in the same way
  #paused = false;
  #spoken = 0;
  #round = 0; // goes up where another source begins, so that answers about the one before are dropped
  #rate = 0;

  constructor(engine, about, report) {
    Object.assign(this, { engine, about, report });
    this.#drawRows();
    takesFiles($("stage"), $("file"), (file) => this.#open(file));
    const buttons = { camera: () => this.#toggleCamera(), choose: () => $("file").click(), pause: () => this.#toggle() };
    for (const button of document.querySelectorAll("#attributes [data-do]")) {
      button.addEventListener("click", buttons[button.dataset.do]);
      button.disabled = false;
    }
    $("stage").addEventListener("dblclick", (event) => {
      if (!event.target.closest("button")) this.#toggle();
    });
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest("button, input, select");
      if (event.key !== " " || typing || $("attributes").hidden) return;
      event.preventDefault();
      this.#toggle();
    });
    $("align").addEventListener("change", () => this.picture && this.#read(this.picture));
    $("align-label").hidden = !about.template;
    $("summary").textContent = `Start the camera or choose a picture to see its ${this.about.regions.length ? "attributes" : "parts"}.`;
  }

  // Another tab is shown: the camera is not needed.
  leave() {
    if (this.#camera.on && !this.#paused) this.#toggle();
  }

  #drawRows() {
    const regions = this.about.regions.map(({ name, attributes }) => this.#region(name, attributes, this.#rows));
    const parts = this.about.classes.slice(1); // the first is the background
    if (parts.length) regions.unshift(this.#region("Parts of the face", parts, this.#parts));
    for (const { row, color } of this.#parts) {
      row.classList.add("part");
      row.prepend(element("s"));
      row.style.setProperty("--color", `rgb(${color})`);
    }
    $("bars").classList.add("idle");
    $("bars").classList.toggle("alone", !this.#rows.length); // one list, which may then go over several columns
    $("bars").style.setProperty("--columns", Math.min(5, Math.ceil((this.#rows.length + this.#parts.length) / (this.#rows.length ? 8 : 5))));
    $("bars").replaceChildren(...regions);
  }

  // A list with a row for each of `about`, {label, index, name, ...}, which is kept in `rows`.
  #region(title, about, rows) {
    const region = element("section", { className: "region" });
    const list = element("ul");
    for (const one of about) {
      const row = element("li");
      row.dataset.name = one.name;
      row.append(element("i"), element("span", { textContent: one.label }), element("b", { textContent: "–" }));
      list.append(row);
      rows.push({ ...one, row });
    }
    region.append(element("h2", { textContent: title }), list);
    return region;
  }

  async #toggleCamera() {
    if (this.#camera.on) return this.#stopCamera();
    try {
      await this.#camera.start();
    } catch (error) {
      return this.report(error.message);
    }
    this.report(null);
    this.picture = null;
    this.engine.restart();
    this.#show("camera");
    this.#resume();
    return this.#live(++this.#round);
  }

  #stopCamera() {
    this.#round++;
    this.#camera.stop();
    this.#show(null);
    $("bars").classList.add("idle");
    $("summary").textContent = "The camera is off.";
  }

  async #open(file) {
    const round = ++this.#round;
    try {
      const picture = await openPicture(file);
      if (round !== this.#round) return;
      this.#camera.stop();
      this.report(null);
      this.picture = picture;
      await this.#read(picture);
    } catch (error) {
      this.report(error.message);
    }
  }

  // One picture that stays: it is shown as paused, with its details.
  async #read(picture) {
    const round = ++this.#round;
    $("summary").textContent = "Reading the picture…";
    const result = await this.engine.read(pixels(picture), { align: $("align").checked });
    if (round !== this.#round) return;
    const { width, height } = picture.canvas;
    const [x, y, side] = view(width, height, result.face);
    const still = $("still");
    still.width = still.height = Math.min(Math.round(side), 800);
    still.getContext("2d").drawImage(picture.canvas, x, y, side, side, 0, 0, still.width, still.height);
    this.#show("picture");
    this.#draw(result, [x, y, side]);
    this.#pause();
  }

  async #live(round) {
    let before = performance.now();
    while (round === this.#round) {
      await new Promise(requestAnimationFrame);
      if (this.#paused) continue;
      const context = this.#camera.draw($("still"));
      try {
        const result = await this.engine.read(pixels(context), { align: $("align").checked, live: true });
        if (round !== this.#round) return;
        const now = performance.now();
        this.#rate = 0.8 * this.#rate + 200 / (now - before);
        before = now;
        this.#draw(result, [0, 0, context.canvas.width]);
      } catch (error) {
        this.report(error.message);
        return this.#stopCamera();
      }
      if (this.#paused) this.#pause(); // anew: with the numbers of the picture that was being read
    }
  }

  #toggle() {
    if (this.picture || !this.#camera.on) return;
    if (this.#paused) this.#resume();
    else this.#pause();
  }

  #pause() {
    if (!this.result) return; // nothing was read yet
    this.#paused = true;
    $("stage").classList.add("paused");
    $("pause").textContent = "Resume";
    this.#swap();
    this.#sort();
    this.#details();
    this.#say();
  }

  #resume() {
    this.#paused = false;
    $("stage").classList.remove("paused");
    $("pause").textContent = "Pause";
    $("details").hidden = true;
    this.#swap();
    this.#sort();
  }

  #show(source) {
    const camera = source === "camera";
    this.source = source;
    $("invite").hidden = source !== null;
    $("pause").hidden = !camera;
    $("stage").classList.toggle("live-camera", camera);
    if (!camera) {
      this.#paused = false;
      $("pause").textContent = "Pause";
      $("stage").classList.remove("paused", "found");
    }
    $("controls").hidden = source === null;
    $("toggle").textContent = camera ? "Stop the camera" : "Camera";
    $("marks").replaceChildren();
    $("details").hidden = true;
    $("mask").hidden = true;
    this.#swap();
  }

  // The camera's own picture while it runs; the one that was read while it is paused.
  #swap() {
    $("camera").hidden = this.source !== "camera" || this.#paused;
    $("still").hidden = this.source === null || !$("camera").hidden;
  }

  #draw(result, [x, y, side]) {
    this.result = result;
    const wanted = $("align").checked && this.about.template;
    const blind = wanted && !result.face && this.source === "camera"; // no face in the camera: nothing to tell
    $("stage").classList.toggle("found", Boolean(result.face));
    $("bars").classList.toggle("idle", blind);
    const points = result.face ? result.face.points : [];
    this.#cover(result, [x, y, side], blind);
    $("marks").replaceChildren(...points.map(([u, v]) => shape("circle", { cx: (u - x) / side, cy: (v - y) / side, r: 0.009 })));
    for (const { row, index } of this.#rows) {
      const p = result.probabilities[index];
      row.dataset.probability = p;
      row.classList.toggle("yes", p > LIKELY);
      row.style.setProperty("--p", p.toFixed(4));
      row.lastChild.textContent = percent(p);
    }
    $("summary").textContent = blind ? "No face found. Hold it in the circle, and in the light." : this.#summary();
    if (performance.now() - this.#spoken > SPOKEN_EVERY) this.#say();
  }

  // The parts of the face over the picture, and their shares of what the model saw.
  #cover({ mask, matrix, crop }, window, blind) {
    $("mask").hidden = !mask || blind;
    if (!mask) return;
    $("mask").width = $("mask").height = 400;
    drawMask($("mask"), mask, this.about.classes.map(({ color }) => color), { matrix, size: crop.width }, window);
    const found = shares(mask, this.about.classes.length);
    for (const { row, index } of this.#parts) {
      row.dataset.share = found[index];
      row.classList.toggle("yes", found[index] > 0);
      row.style.setProperty("--p", found[index].toFixed(4));
      row.lastChild.textContent = found[index] > 0 ? `${(100 * found[index]).toFixed(1)}\u00a0%` : "–";
    }
  }

  // The same words, for a screen reader.
  #say() {
    this.#spoken = performance.now();
    $("spoken").textContent = $("summary").textContent;
  }

  #summary() {
    if (!this.#rows.length) return this.#seen();
    const likely = this.#rows.filter((row) => this.#p(row) > LIKELY).sort((one, other) => this.#p(other) - this.#p(one));
    if (!likely.length) return "No attribute is likely.";
    const named = likely.slice(0, NAMED).map(({ label }) => label.toLowerCase()).join(", ");
    return `Likely: ${named}${likely.length > NAMED ? `, and ${likely.length - NAMED} more` : ""}.`;
  }

  #seen() {
    const seen = this.#parts.filter(({ row }) => Number(row.dataset.share) > 0);
    const named = seen.sort((one, other) => other.row.dataset.share - one.row.dataset.share).map(({ label }) => label.toLowerCase());
    return named.length ? `Seen: ${named.slice(0, NAMED).join(", ")}${named.length > NAMED ? `, and ${named.length - NAMED} more` : ""}.` : "No part of a face is seen.";
  }

  // Live, each attribute keeps its place; paused, the likely ones of a region come first.
  #sort() {
    for (const { index, row } of [...this.#rows].sort((one, other) => (this.#paused ? this.#p(other) - this.#p(one) : 0))) {
      row.parentElement.append(row);
    }
  }

  #p({ index }) {
    return this.result?.probabilities[index] ?? 0;
  }

  #details() {
    if (!this.result) return;
    const { face, crop, milliseconds } = this.result;
    const canvas = $("crop");
    canvas.width = crop.width;
    canvas.height = crop.height;
    canvas.getContext("2d").putImageData(crop, 0, 0);
    const found = $("align").checked && this.about.template ? "None, so the whole frame is read" : "Not looked for: the whole frame is read";
    const [left, right] = face?.points ?? [];
    const facts = {
      Face: face ? `Found, score ${face.score.toFixed(2)}${face.count > 1 ? `; the largest of ${face.count}` : ""}` : found,
      ...(face && {
        Size: `${Math.round(face.box[2])} × ${Math.round(face.box[3])} pixels`,
        Tilt: `${Math.round((180 / Math.PI) * Math.atan2(right[1] - left[1], right[0] - left[0]))}°`.replace("-", "−"),
      }),
      Model: `${this.about.name}, ${milliseconds.model.toFixed(0)} ms`,
      ...(this.source === "camera" && { Rate: `${this.#rate.toFixed(0)} pictures a second` }),
      Input: this.about.input,
      ...(this.about.license && { License: this.about.license }),
      ...(this.about.weights && { Weights: this.about.weights.slice(0, 12) }),
    };
    $("facts").replaceChildren(...Object.entries(facts).flatMap(([key, value]) => [element("dt", { textContent: key }), element("dd", { textContent: value })]));
    $("details").hidden = false;
  }
}

export function percent(p) {
  return `${Math.round(100 * p)}\u00a0%`;
}

export function element(name, values = {}) {
  return Object.assign(document.createElement(name), values);
}

export function shape(name, values, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(values)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

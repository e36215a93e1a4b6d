// The tab of verification: are two faces one person? With the error rates that the model's evaluation found.
import { element, shape } from "./attributes.js";
import { Camera, openPicture, pixels, takesFiles, view } from "./pictures.js";

const $ = (id) => document.getElementById(id);

export class Verify {
  constructor(engine, about, report) {
    Object.assign(this, { engine, about, report, embeddings: [null, null] });
    this.slots = ["first", "second"].map((id, i) => new Slot($(id), i, this));
    this.#drawCalibration();
    this.update();
  }

  leave() {
    this.slots.forEach((slot) => slot.stopCamera());
  }

  update() {
    const [one, other] = this.embeddings;
    const score = one && other ? one.reduce((sum, x, i) => sum + x * other[i], 0) : null;
    const point = this.about.calibration?.points[$("point")?.value ?? 0];
    const verdict = score === null || !point ? "" : score > point.threshold ? "same" : "different";
    $("verdict").className = `verdict ${verdict}`;
    $("score").textContent = score === null ? "–" : score.toFixed(3);
    $("score").dataset.score = score ?? "";
    $("decision").textContent =
      score === null ? "Two faces, please" : { same: "Same person", different: "Different people", "": "Cosine of the two" }[verdict];
    $("why").textContent = score === null ? "" : point ? `${verdict === "same" ? "above" : "not above"} the threshold ${point.threshold.toFixed(3)}` : "1 is alike, 0 and below is not";
    if (point) this.#rates(point, score);
  }

  #drawCalibration() {
    const { calibration } = this.about;
    if (!calibration) {
      const words = "No threshold is known for this model. Evaluate it on pairs (scripts/evaluate.py) to see error rates here.";
      $("calibration").append(element("p", { textContent: words }));
      return;
    }
    const select = element("select", { id: "point" });
    calibration.points.forEach(({ name, supported }, i) => select.append(element("option", { value: i, textContent: supported ? name : `${name} (few pairs)` })));
    select.addEventListener("change", () => this.update());
    const label = element("label", { textContent: "Threshold" });
    label.append(select);
    $("calibration").append(label, element("div", { id: "chart" }), element("p", { id: "rates" }));
  }

  #rates({ threshold, far, frr, supported }, score) {
    const { name, same, different } = this.about.calibration;
    const share = (x) => element("b", { textContent: `${(100 * x).toFixed(1)}\u00a0%` });
    $("rates").replaceChildren(
      `On ${name}, at this threshold, `, share(far), ` of ${different} pairs of different people are accepted, and `, share(frr),
      ` of ${same} pairs of the same person are refused.${supported ? "" : " These pairs are too few to be sure of so small a rate."}`,
    );
    $("chart").replaceChildren(chart(this.about.calibration, threshold, score));
  }
}

// The scores of the evaluation's pairs, with the threshold and this pair's score.
function chart({ histogram }, threshold, score) {
  const [width, height, base] = [720, 150, 122];
  const at = (x) => ((x - histogram.low) / (histogram.high - histogram.low)) * width;
  const most = Math.max(...histogram.same, ...histogram.different);
  const words = "Scores of the evaluation's pairs: of different people, and of the same person";
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": words });
  for (const kind of ["different", "same"]) {
    const step = width / histogram[kind].length;
    histogram[kind].forEach((share, i) => {
      const tall = (share / most) * 100;
      if (share) svg.append(shape("rect", { class: kind, x: i * step + 0.5, y: base - tall, width: step - 1, height: tall, rx: 1 }));
    });
  }
  svg.append(shape("line", { x1: 0, x2: width, y1: base, y2: base }));
  svg.append(shape("line", { class: "threshold", x1: at(threshold), x2: at(threshold), y1: 6, y2: base }));
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    if (tick < histogram.low || tick > histogram.high) continue;
    const anchor = at(tick) < 12 ? "start" : at(tick) > width - 12 ? "end" : "middle";
    svg.append(shape("text", { x: at(tick), y: height - 8, "text-anchor": anchor }, tick));
  }
  const [left, right] = [at(threshold) - 8, at(threshold) + 8];
  svg.append(shape("text", { x: left, y: 14, "text-anchor": "end" }, "different people"), shape("text", { x: right, y: 14 }, "same person"));
  if (score !== null) {
    const x = Math.min(Math.max(at(score), 0), width);
    svg.append(shape("path", { class: "pair", d: `M${x} ${base - 1} l-6 -11 h12 z` }));
  }
  return svg;
}

// One of the two faces.
class Slot {
  constructor(home, place, owner) {
    Object.assign(this, { home, place, owner });
    home.append($("slot").content.cloneNode(true));
    const find = (selector) => home.querySelector(selector);
    Object.assign(this, { frame: find(".frame"), canvas: find("canvas"), snap: find(".snap"), note: find(".note") });
    this.camera = new Camera(find("video"));
    const name = place ? "second" : "first";
    find("input").setAttribute("aria-label", `Picture of the ${name} face`);
    find(".choose").setAttribute("aria-label", `Choose a picture of the ${name} face`);
    this.snap.setAttribute("aria-label", `Camera for the ${name} face`);
    find(".choose").addEventListener("click", () => find("input").click());
    this.snap.addEventListener("click", () => this.#shoot());
    takesFiles(this.frame, find("input"), (file) => this.#open(file));
    for (const button of home.querySelectorAll("button")) button.disabled = false;
  }

  async #open(file) {
    try {
      this.stopCamera();
      await this.#read(await openPicture(file));
      this.owner.report(null);
    } catch (error) {
      this.owner.report(error.message);
    }
  }

  async #shoot() {
    try {
      if (this.camera.on) {
        const picture = this.camera.draw(document.createElement("canvas"));
        this.stopCamera();
        await this.#read(picture);
        return;
      }
      this.owner.leave();
      await this.camera.start();
      this.owner.report(null);
      this.#show(true);
    } catch (error) {
      this.owner.report(error.message);
    }
  }

  stopCamera() {
    this.camera.stop();
    this.#show(false);
  }

  #show(live) {
    this.camera.video.hidden = !live;
    this.canvas.hidden = live || !this.owner.embeddings[this.place];
    this.home.querySelector(".invite").hidden = live || !this.canvas.hidden;
    this.frame.classList.toggle("live-camera", live);
    this.snap.textContent = live ? "Take it" : "Camera";
  }

  async #read(picture) {
    const result = await this.owner.engine.read(pixels(picture), { align: true });
    const { width, height } = picture.canvas;
    const [x, y, side] = view(width, height, result.face);
    this.canvas.width = this.canvas.height = Math.min(Math.round(side), 560);
    this.canvas.getContext("2d").drawImage(picture.canvas, x, y, side, side, 0, 0, this.canvas.width, this.canvas.height);
    this.owner.embeddings[this.place] = result.embedding;
    this.frame.classList.toggle("found", Boolean(result.face));
    const { face } = result;
    this.note.textContent = !face ? "No face found: the whole picture is read" : face.count > 1 ? `The largest of ${face.count} faces` : "";
    this.#show(false);
    this.owner.update();
  }
}

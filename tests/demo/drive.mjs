// Drives the live page in headless Chromium, as a user would, and prints what it shows as JSON.
// node drive.mjs PLAYWRIGHT CHROMIUM PROFILE: then one JSON object on the standard input: {url, camera, picture, pair, broken, shots}.
import { mkdirSync, readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [playwright, executablePath, profile] = process.argv.slice(2);
const { chromium } = await import(pathToFileURL(playwright));
const { url, camera, picture, pair, broken, shots } = JSON.parse(readFileSync(0, "utf8"));
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
  `--use-file-for-fake-video-capture=${camera}`,
];
const told = { errors: [], elsewhere: [] };
const browser = await chromium.launchPersistentContext(profile, { executablePath, args, headless: true, viewport: { width: 1280, height: 800 } });

async function open(context = browser, prepare = "") {
  const page = await context.newPage();
  page.on("pageerror", (error) => told.errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && told.errors.push(message.text()));
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (protocol.startsWith("http") && origin !== new URL(url).origin) told.elsewhere.push(request.url());
  });
  if (prepare) await page.addInitScript(prepare);
  await page.goto(url);
  return page;
}

const shown = (page) => page.$$eval("#bars li:not(.part)", (rows) => Object.fromEntries(rows.map((row) => [row.dataset.name, Number(row.dataset.probability)])));
const parts = (page) => page.$$eval("#bars li.part", (rows) => Object.fromEntries(rows.map((row) => [row.dataset.name, Number(row.dataset.share)])));
// The colors over the middles of 8 x 8 squares of the picture, red, green, blue and how much is seen.
const cover = (page) => page.$eval("#mask", (mask) => {
  const at = (i) => Math.floor(((i + 0.5) * mask.width) / 8);
  const context = mask.getContext("2d");
  return mask.hidden ? null : [...Array(64).keys()].map((i) => Array.from(context.getImageData(at(i % 8), at(Math.floor(i / 8)), 1, 1).data));
});
// What the worker makes of an image that is given.
const readGiven = async () => {
  const { Asked } = await import("./jobs.js");
  const reader = new Asked("./worker.js", () => {});
  const about = await (await fetch("./model.json")).json();
  const on = await reader.ask("load", about);
  const image = new ImageData(about.size, about.size);
  image.data.forEach((_, i) => (image.data[i] = i % 4 === 3 ? 255 : (i * 7 + (i >> 6) * 13) % 256));
  const pixels = Array.from(image.data);
  const { embedding, probabilities, mask } = await reader.ask("read", { image, face: null });
  return { on, pixels, embedding, probabilities, classes: Array.from(mask.classes) };
};
const paused = (page) => page.$eval("#stage", (stage) => stage.classList.contains("paused"));
const read = (page) => page.waitForFunction(() => document.querySelector("#summary").textContent.startsWith("Likely") || document.querySelector("#summary").textContent.startsWith("No attribute"));

async function shoot(page, name) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  for (const [kind, size] of [["wide", { width: 1280, height: 800 }], ["phone", { width: 390, height: 844 }]]) {
    await page.setViewportSize(size);
    await page.screenshot({ path: `${shots}/${name}_${kind}.png`, fullPage: true });
  }
  await page.setViewportSize({ width: 1280, height: 800 });
}

const page = await open();
await page.waitForSelector("body[data-ready]");
told.status = await page.textContent("#status");
told.threads = await page.evaluate(() => self.crossOriginIsolated);
await shoot(page, "start");

// A picture, read as it is: the whole frame is the crop. Then with the face found in a larger one.
await page.setInputFiles("#file", picture);
await read(page);
await page.locator("#align-label").click();
await page.waitForFunction(() => document.querySelector("#facts").textContent.includes("Not looked for"));
told.picture = await shown(page);
told.details = await page.textContent("#facts");
told.parts = await parts(page);
told.cover = await cover(page);
await shoot(page, "picture");
await page.locator("#align-label").click();

// The camera: it is live, a double click pauses it, another resumes it; the space bar does so too.
await page.click("#toggle");
await page.waitForSelector("#stage.found.live-camera");
await page.waitForFunction(() => document.querySelector("#pause").textContent === "Pause");
const reads = await page.evaluate(async () => {
  const row = document.querySelector("#bars li:not(.part)");
  let count = 0;
  const observer = new MutationObserver(() => count++);
  observer.observe(row, { attributes: true, attributeFilter: ["data-probability"] });
  await new Promise((resolve) => setTimeout(resolve, 2000));
  return count;
});
told.rate = reads / 2;
told.liveCover = (await cover(page)).some(([, , , seen]) => seen > 0);
await shoot(page, "live");
await page.dblclick("#stage");
told.paused = await paused(page);
await page.waitForTimeout(300);
const one = await shown(page);
await page.waitForTimeout(700);
told.still = JSON.stringify(one) === JSON.stringify(await shown(page));
told.pausedDetails = (await page.isVisible("#details")) && (await page.textContent("#facts"));
await shoot(page, "paused");
await page.dblclick("#stage");
told.resumed = !(await paused(page)) && !(await page.isVisible("#details"));
await page.focus("#stage");
await page.keyboard.press(" ");
told.pausedBySpace = await paused(page);
await page.keyboard.press(" ");
told.resumedBySpace = !(await paused(page));

// Verification, reached by the keyboard.
await page.focus("#tab-attributes");
await page.keyboard.press("ArrowRight");
told.tab = await page.evaluate(() => document.activeElement.id);
for (const [slot, file] of [["first", pair[0]], ["second", pair[1]]]) await page.setInputFiles(`#${slot} input`, file);
await page.waitForFunction(() => document.querySelector("#score").dataset.score);
told.score = Number(await page.getAttribute("#score", "data-score"));
told.decision = await page.textContent("#decision");
told.rates = await page.textContent("#rates");
await page.selectOption("#point", "2");
told.why = await page.textContent("#why");
told.notes = await page.locator(".note").allTextContents();
await shoot(page, "verify");

// What has no name for a screen reader, or does not fit on a phone.
told.nameless = await page.$$eval("button, input, select, canvas[role], [role=tabpanel]", (all) =>
  all.filter((e) => !(e.getAttribute("aria-label") || e.getAttribute("aria-labelledby") || e.labels?.length || e.textContent.trim())).map((e) => e.outerHTML));
await page.setViewportSize({ width: 390, height: 844 });
told.overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
await page.click("#tab-attributes");
told.overflow += await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
await page.setInputFiles("#file", broken);
await page.waitForSelector("#problem:not([hidden])");
told.broken = await page.textContent("#problem");
await page.close();

// Browsers that lack something.
const seen = told.errors.length;
const noSimd = await open(browser, "WebAssembly.validate = () => false");
told.noSimd = await noSimd.locator("#problem:not([hidden])").textContent();
await noSimd.close();
told.errors.length = seen; // of the page without SIMD, which says so in the console too
const noCamera = await open(browser, "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotFoundError'))");
await noCamera.waitForSelector("body[data-ready]");
await noCamera.click("#invite [data-do=camera]");
told.noCamera = await noCamera.locator("#problem:not([hidden])").textContent();

// Beside what PyTorch makes of it.
told.read = await noCamera.evaluate(readGiven);

// The warp onto the template, of points that are given.
told.warped = await noCamera.evaluate(async () => {
  const { similarity, warp } = await import("./align.js");
  const image = new ImageData(40, 30);
  image.data.forEach((_, i) => (image.data[i] = i % 4 === 3 ? 255 : (i * 7 + (i >> 5) * 13) % 256));
  const points = [[10, 9], [24, 11], [16, 16], [10, 21], [21, 23]];
  const target = [[6, 8], [17, 8], [12, 14], [8, 19], [16, 19]];
  const matrix = similarity(points, target);
  const out = warp(image, matrix, 24);
  return { matrix, image: Array.from(image.data), out: Array.from(out.data), points, target };
});
// The mask of a face that lies turned in a picture: drawn where it was taken from.
told.turned = await noCamera.evaluate(async () => {
  const { similarity } = await import("./align.js");
  const { drawMask } = await import("./masks.js");
  const source = [[60, 40], [90, 70], [55, 75], [40, 60], [70, 90]];
  const target = source.map(([x, y]) => [(x - y) / 3 + 20, (x + y) / 3 - 14]); // a turn by 45 degrees, made smaller
  const [a, b, x, y] = similarity(source, target);
  const classes = new Uint8Array(64 * 64);
  for (let row = 24; row < 32; row++) classes.fill(2, row * 64 + 16, row * 64 + 24); // its middle is (20, 28)
  const canvas = new OffscreenCanvas(200, 200);
  drawMask(canvas, { classes, width: 64, height: 64 }, [[0, 0, 0], [1, 1, 1], [200, 100, 50]], { matrix: [a, b, x, y], size: 64 }, [20, 10, 100]);
  const { data } = canvas.getContext("2d").getImageData(0, 0, 200, 200);
  let [sum, across, down] = [0, 0, 0];
  for (let i = 0; i < 200 * 200; i++) {
    sum += data[4 * i + 3];
    across += data[4 * i + 3] * ((i % 200) + 0.5);
    down += data[4 * i + 3] * (Math.floor(i / 200) + 0.5);
  }
  return { matrix: [a, b, x, y], middle: [across / sum, down / sum], area: sum / 153 };
});
await browser.close();

// By WebGPU, computed in software; null where this browser has none.
const software = [
  "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan,WebGPU", "--use-vulkan=swiftshader",
  "--use-angle=swiftshader", "--ignore-gpu-blocklist",
];
const withGpu = await chromium.launchPersistentContext(`${profile}-gpu`, { executablePath, args: [...args.filter((arg) => arg !== "--disable-gpu"), ...software], headless: true });
const onGpu = await withGpu.newPage();
await onGpu.goto(`${url}model.json`);
const adapter = await onGpu.evaluate(async () => Boolean(await navigator.gpu?.requestAdapter()));
await onGpu.goto(url);
told.byGpu = adapter ? await onGpu.evaluate(readGiven) : null;
await withGpu.close();
console.log(JSON.stringify(told));

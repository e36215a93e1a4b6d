// The page: loads the model, and opens the tabs that it has answers for.
import { Attributes } from "./attributes.js";
import { Engine, missing } from "./engine.js";
import { Verify } from "./verify.js";

const $ = (id) => document.getElementById(id);
const tabs = [...document.querySelectorAll("[role=tab]")];

function report(words) {
  $("problem").hidden = !words;
  $("problem").textContent = words ?? "";
}

function open(name, panels) {
  for (const tab of tabs) {
    const chosen = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = !chosen;
    if (!chosen) panels[tab.getAttribute("aria-controls")]?.leave();
  }
}

function listen(panels) {
  const usable = tabs.filter((tab) => panels[tab.getAttribute("aria-controls")]);
  for (const tab of tabs) tab.hidden = !usable.includes(tab);
  document.querySelector("[role=tablist]").hidden = usable.length === 1;
  for (const [i, tab] of usable.entries()) {
    tab.addEventListener("click", () => open(tab.getAttribute("aria-controls"), panels));
    tab.addEventListener("keydown", ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      if (!step) return;
      const next = usable[(i + step + usable.length) % usable.length];
      next.focus();
      next.click();
    });
  }
}

async function main() {
  const lacking = missing();
  if (lacking) throw new Error(lacking);
  const about = await (await fetch("./model.json")).json();
  const reads = about.regions.length || about.classes.length;
  const first = reads ? "attributes" : "verify";
  if (!about.regions.length) $("tab-attributes").textContent = "Parts";
  open(first, {});
  $("made-of").textContent = [
    `Model: ${about.name}${about.license ? ` (${about.license})` : ""}`,
    ...about.packages.map(({ name, version, license, role }) => `${name} ${version} (${license}) ${role}`),
  ].join(" · ");
  const engine = new Engine((done) => {
    $("progress").value = done;
    $("status").textContent = `Loading the model, ${Math.round(100 * done)} %`;
  });
  const runtime = await engine.load(about);
  const panels = {
    ...(reads && { attributes: new Attributes(engine, about, report) }),
    ...(about.embeds && { verify: new Verify(engine, about, report) }),
  };
  listen(panels);
  $("status").textContent = `${about.name} on ${runtime}`;
  document.body.dataset.ready = "yes";
}

main().catch((error) => {
  console.error(error);
  report(error.message);
  $("status").textContent = "The model is not running";
}).finally(() => {
  $("progress").hidden = true;
});

"use strict";
// Parts of the page: elements, token strips, maps, lines. All text enters as text, never as HTML.
const $ = id => document.getElementById(id);
const narrow = matchMedia("(max-width: 40rem)");

function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "circle", "line", "polyline", "text", "path", "g"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter(c => c !== null && c !== undefined));
  return node;
}

const shown = text => text === "" ? "∅" : text.replace(/ /g, "·").replace(/\n/g, "⏎").replace(/\t/g, "⇥");
// 13.4K and 2.1M, as tokens per second come; beyond that, and below a thousandth, powers of ten.
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const number = (x, digits = 3) => x === null || x === undefined ? "–"
  : Math.abs(x) >= 1e15 || (x !== 0 && Math.abs(x) < 1e-3) ? x.toExponential(1)
  : Math.abs(x) >= 1e4 ? short.format(x) : (+x.toPrecision(digits)).toString();
const percent = p => p === null || p === undefined ? "–" : p >= 0.1 ? Math.round(100 * p) + " %" : number(100 * p, 2) + " %";
const most = (values, sign = x => x) => values.reduce((a, x) => Math.max(a, sign(x ?? 0)), 0);
// At most 62 % of a colour, so that a text on it stays legible.
const tint = (share, series = 0) =>
  `color-mix(in srgb, var(--series-${series}) ${Math.round(62 * Math.max(0, Math.min(1, share)))}%, transparent)`;

// Buttons of tokens, of which one is chosen: by pointer, or by the arrow keys.
function strip(tokens, { label, onchoose, chosen = 0 }) {
  const box = el("div", { class: "strip", role: "group", "aria-label": label });
  const buttons = tokens.map((token, i) => el("button", {
    type: "button", tabindex: i === chosen ? 0 : -1, "aria-label": `token ${i}: ${shown(token)}`,
    onfocus: () => choose(i), onmouseenter: () => choose(i), onclick: () => choose(i),
  }, shown(token)));
  box.append(...buttons);
  box.addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    const to = event.key === "Home" ? 0 : event.key === "End" ? buttons.length - 1 : step ? at + step : null;
    if (to === null || !buttons[to]) return;
    event.preventDefault();
    buttons[to].focus();
  });
  let at = chosen;
  function choose(i) {
    buttons[at].tabIndex = -1; buttons[at].removeAttribute("aria-current");
    at = i;
    buttons[i].tabIndex = 0; buttons[i].setAttribute("aria-current", "true");
    onchoose?.(i);
  }
  box.paint = (fill, under) => buttons.forEach((b, i) => {
    b.style.background = fill ? fill(i) : "";
    b.style.borderBottomColor = under ? under(i) : "transparent";
  });
  box.write = below => buttons.forEach((b, i) => b.append(el("small", {}, below(i))));
  box.choose = choose;
  return box;
}

const canvases = new Set();
function colour(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  return [1, 3, 5].map(i => parseInt(text.slice(i, i + 2), 16));
}
// Paint values from -1 to 1 (blue above 0, red below), or numbers of colours.
function paint(canvas) {
  const { rows, columns, value, kinds } = canvas.made;
  canvas.width = columns; canvas.height = rows;
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  const ground = colour("panel"), high = colour("series-0"), low = colour("series-6");
  const series = kinds ? Array.from({ length: 8 }, (_, i) => colour("series-" + i)) : [];
  for (let r = 0, at = 0; r < rows; r++) for (let c = 0; c < columns; c++, at += 4) {
    const x = value(r, c), end = kinds ? series[Math.floor(x) % 8] : x < 0 ? low : high;
    const share = kinds ? (x < 0 ? 0 : 1) : Math.min(1, Math.abs(x || 0));
    for (let i = 0; i < 3; i++) image.data[at + i] = ground[i] + ((end ?? ground)[i] - ground[i]) * share;
    image.data[at + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}
function picture(rows, columns, value, kinds = false) {
  const canvas = el("canvas", { "aria-hidden": "true" });
  canvas.made = { rows, columns, value, kinds };
  canvases.add(canvas);
  paint(canvas);
  return canvas;
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const canvas of canvases) canvas.isConnected ? paint(canvas) : canvases.delete(canvas);
});

// A map with a cell that the pointer or the arrow keys choose; `say(r, c)` is its text.
function map(rows, columns, value, { label, say, onchoose, kinds, cell = 18, from = "left" }) {
  const canvas = picture(rows, columns, value, kinds), mark = el("span", { class: "mark", hidden: "" });
  const size = Math.max(1, Math.min(cell, 560 / columns)), tall = Math.max(1, Math.min(cell, 560 / rows));
  canvas.style.width = `${size * columns}px`;
  canvas.style.aspectRatio = `${size * columns} / ${tall * rows}`;
  const box = el("div", { class: "map", tabindex: 0, role: "application", "aria-roledescription": "map",
    "aria-label": `${label}: ${rows} rows, ${columns} columns. Arrow keys move.` }, canvas, mark);
  const said = el("p", { class: "said soft", "aria-live": "polite" }, "Point at a cell, or use the arrow keys.");
  let at = [0, 0];
  function choose(r, c) {
    at = [Math.max(0, Math.min(rows - 1, r)), Math.max(0, Math.min(columns - 1, c))];
    mark.hidden = false;
    Object.assign(mark.style, { left: `${100 * at[1] / columns}%`, top: `${100 * at[0] / rows}%`,
      width: `${100 / columns}%`, height: `${100 / rows}%` });
    said.textContent = say(...at);
    onchoose?.(...at);
  }
  const point = event => {
    const all = canvas.getBoundingClientRect();
    choose(Math.floor(rows * (event.clientY - all.top) / all.height), Math.floor(columns * (event.clientX - all.left) / all.width));
  };
  box.addEventListener("pointermove", point);
  box.addEventListener("click", point);
  box.addEventListener("keydown", event => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    choose(at[0] + step[0], at[1] + step[1]);
  });
  const figure = el("figure", { class: "mapped" }, el("figcaption", {}, label), box, said);
  figure.choose = choose;
  return figure;
}

function table(titles, rows, numeric = []) {
  const kind = i => numeric.includes(i) ? { class: "number" } : {};
  return el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": titles.filter(t => t).join(", ") },
    el("table", {}, el("thead", {}, el("tr", {}, ...titles.map((t, i) => el("th", kind(i), t)))),
      el("tbody", {}, ...rows.map(row => el("tr", {}, ...row.map((cell, i) => el("td", kind(i), cell)))))));
}

// Lines over layers: {name: values}.
function lines(series, label) {
  const names = Object.keys(series), n = series[names[0]].length, top = most(names.flatMap(k => series[k])) || 1;
  const x = i => 34 + (n === 1 ? 0 : 350 * i / (n - 1)), y = v => 150 - 135 * (v ?? 0) / top;
  const svg = el("svg", { viewBox: "0 0 400 175", role: "img", "aria-label": label });
  svg.append(el("line", { x1: 34, x2: 390, y1: 150, y2: 150, stroke: "var(--grid)" }),
    el("text", { x: 30, y: 19, "font-size": 11, "text-anchor": "end" }, number(top, 2)),
    el("text", { x: 30, y: 153, "font-size": 11, "text-anchor": "end" }, "0"),
    el("text", { x: 34, y: 169, "font-size": 11 }, "layer 1"),
    el("text", { x: 390, y: 169, "font-size": 11, "text-anchor": "end" }, `layer ${n}`));
  const key = el("p", { class: "soft" });
  names.forEach((name, k) => {
    svg.append(el("polyline", { points: series[name].map((v, i) => `${x(i)},${y(v)}`).join(" "), fill: "none",
      stroke: `var(--series-${k % 8})`, "stroke-width": 2 }));
    key.append(el("span", { class: "name" }, el("span", { class: "swatch", style: `background:var(--series-${k % 8})` }), name));
  });
  return el("figure", {}, el("figcaption", {}, label), svg, key);
}

async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
const raw = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));

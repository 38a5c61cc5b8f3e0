// Follows the runs: asks the server again and again, and draws what changed.
const EVERY = JSON.parse($("data").textContent).every;
let version = "", runs = [];
const ago = s => s === null ? "no record yet" : s < 90 ? `${Math.round(s)} s ago` : s < 5400 ? `${Math.round(s / 60)} min ago` : s < 172800 ? `${Math.round(s / 3600)} h ago` : `${Math.round(s / 86400)} days ago`;
const metric = x => x === undefined ? "–" : number(x, 4);

// One figure: {title: points} of each run; the first curve of a run is solid. Colours are runs, or titles on a page of one run.
function chart(name, parts) {
  const curves = parts.flatMap(({ run, i, curves }) => Object.entries(curves).map(([title, points], k) => ({
    points, label: runs.length > 1 ? `${run} ${title}` : title, colour: runs.length > 1 ? i : k, dash: runs.length > 1 && k ? "4 3" : null })));
  const all = curves.flatMap(c => c.points), [x0, x1] = [Math.min(...all.map(p => p[0])), Math.max(...all.map(p => p[0]))];
  let [y0, y1] = [Math.min(...all.map(p => p[1])), Math.max(...all.map(p => p[1]))];
  if (y0 > 0 && y0 < .5 * y1) y0 = 0;
  if (y0 === y1) { y1 += Math.abs(y1) * .1 || 1; }
  const x = v => 52 + 335 * (x1 === x0 ? .5 : (v - x0) / (x1 - x0)), y = v => 160 - 145 * (v - y0) / (y1 - y0);
  const last = curves.map(c => `${c.label} ${metric(c.points[c.points.length - 1][1])}`).join(", ");
  const svg = el("svg", { viewBox: "0 0 400 190", role: "img", "aria-label": `${name} by step: ${last}` });
  for (const share of [0, .5, 1]) {
    const v = y0 + share * (y1 - y0);
    svg.append(el("line", { x1: 52, x2: 390, y1: y(v), y2: y(v), stroke: "var(--grid)" }), el("text", { x: 48, y: y(v) + 4, "text-anchor": "end" }, number(v, 3)));
  }
  svg.append(el("text", { x: 52, y: 180 }, `step ${x0}`), el("text", { x: 390, y: 180, "text-anchor": "end" }, String(x1)));
  for (const c of curves) svg.append(c.points.length > 1
    ? el("polyline", { points: c.points.map(p => `${x(p[0])},${y(p[1])}`).join(" "), fill: "none", stroke: `var(--series-${c.colour % 8})`, "stroke-width": 1.8, "stroke-dasharray": c.dash })
    : el("circle", { cx: x(c.points[0][0]), cy: y(c.points[0][1]), r: 3, fill: `var(--series-${c.colour % 8})` }));
  const key = el("p", { class: "soft" }, ...curves.map(c => el("span", { class: "name" }, el("span", { class: "swatch", style: `background:var(--series-${c.colour % 8})` }), `${c.label} ${metric(c.points[c.points.length - 1][1])}`)));
  return el("figure", {}, el("figcaption", {}, name), svg, key);
}

function progress(run) {
  const done = run.steps ? Math.min(1, run.step / run.steps) : null;
  const words = run.steps ? `${run.step} of ${run.steps}` : String(run.step);
  return el("span", {}, done === null ? "" : el("span", { class: "track", role: "img", "aria-label": percent(done) }, el("span", { style: `width:${100 * done}%` })), " ", words);
}

function summary() {
  const rows = runs.map((run, i) => [el("span", {}, el("span", { class: "swatch", style: `background:var(--series-${i % 8})` }), run.name), progress(run),
    run.steps && run.step >= run.steps ? "finished" : ago(run.age), metric(run.last.train_loss), metric(run.last.val_loss), metric(run.last.tokens_per_s), metric(run.last.peak_gib)]);
  $("at-runs").replaceChildren(runs.length ? table(["run", "step", "last record", "training loss", "validation loss", "tokens/s", "peak GiB"], rows, [3, 4, 5, 6])
    : el("p", { class: "soft" }, "There is no run in this folder yet. The page shows one as soon as it begins."),
    ...runs.filter(r => r.warning).map(r => el("p", { class: "lost" }, `${r.name}: ${r.warning}`)));
}

function draw() {
  const names = [...new Set(runs.flatMap(r => Object.keys(r.figures)))];
  $("at-curves").replaceChildren(...names.map(name => chart(name, runs.map((run, i) => ({ run: run.name, i, curves: run.figures[name] })).filter(p => p.curves))));
  const maps = runs.flatMap(run => Object.entries(run.layers).map(([title, layers]) => {
    const keys = Object.keys(layers).sort((a, b) => a - b), wide = Math.max(...keys.map(k => layers[k].length)), top = most(keys.flatMap(k => layers[k])) || 1;
    return map(keys.length, wide, (r, c) => (layers[keys[r]][c] ?? 0) / top, { label: `${run.name}: ${title}, rows are layers`, cell: 26, say: (r, c) => `layer ${+keys[r] + 1}, ${c + 1}: ${number(layers[keys[r]][c])}` });
  }));
  $("at-layers").replaceChildren(...maps);
  const samples = runs.filter(r => r.sample);
  $("at-samples").replaceChildren(...samples.map(r => el("figure", {}, el("figcaption", {}, r.name), el("pre", { class: "wrap" }, r.sample))));
  for (const [name, empty] of [["curves", !names.length], ["layers", !maps.length], ["samples", !samples.length]]) {
    $("at-" + name).closest("section").hidden = empty;
    document.querySelector(`nav a[href="#${name}"]`).hidden = empty;
  }
}

async function look() {
  const state = $("state");
  try {
    const found = await (await fetch("/data")).json();
    if (found.error) throw new Error(found.error);
    runs = found.runs;
    summary();
    if (found.version !== version) { version = found.version; draw(); }
    state.className = "soft";
    state.textContent = `Following ${runs.length} runs by their logs.`;
    document.body.dataset.ready = "true";
  } catch (error) {
    state.className = "lost";
    state.textContent = error instanceof TypeError ? "mlxt watch doesn't answer; this page goes on asking." : error.message;
  }
  setTimeout(look, EVERY);
}
look();

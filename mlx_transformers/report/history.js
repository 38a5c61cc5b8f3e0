// The graph of recipes: columns are years, lines lead from a recipe to those that extend it.
const nodes = JSON.parse($("data").textContent).nodes;
const byName = new Map(nodes.map(n => [n.name, n]));
const folders = [...new Set(nodes.map(n => n.folder))].sort();
const years = [...new Set(nodes.map(n => n.year))].sort((a, b) => a - b);
const WIDE = 190, TALL = 28, TOP = 34;
const children = new Map(nodes.map(n => [n.name, nodes.filter(c => c.parent === n.name)]));
const tiny = name => name.replace(/_tiny$/, "");
const hue = folder => `var(--series-${folders.indexOf(folder) % 8})`;
const edge = folder => `${["solid", "double", "dotted", "dashed"][Math.floor(folders.indexOf(folder) / 8) % 4]} ${hue(folder)}`;
const line = n => { const out = []; for (let at = n; at && !out.includes(at); at = byName.get(at.parent)) out.push(at); return out; };

// Within a year parents stand above the recipes that extend them.
const columns = new Map(years.map(y => [y, []]));
for (const n of [...nodes].sort((a, b) => a.year - b.year || line(a).length - line(b).length || a.folder.localeCompare(b.folder) || a.name.localeCompare(b.name)))
  columns.get(n.year).push(n);
years.forEach((y, c) => columns.get(y).forEach((n, r) => { n.x = 10 + c * WIDE; n.y = TOP + r * TALL; }));
const width = years.length * WIDE + 10, height = TOP + Math.max(...[...columns.values()].map(c => c.length)) * TALL + 10;

const svg = el("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
for (const n of nodes) {
  const p = byName.get(n.parent);
  if (!p) continue;
  const [x1, y1, x2, y2] = p.x === n.x ? [p.x, p.y + 11, n.x, n.y + 11] : [p.x + 154, p.y + 11, n.x, n.y + 11];
  const bend = p.x === n.x ? `M${x1},${y1} C${x1 - 12},${y1} ${x2 - 12},${y2} ${x2},${y2}` : `M${x1},${y1} C${x1 + 20},${y1} ${x2 - 20},${y2} ${x2},${y2}`;
  n.edge = el("path", { d: bend });
  svg.append(n.edge);
}
const board = el("div", { style: `width:${width}px;height:${height}px` }, svg,
  ...years.map((y, c) => el("h3", { style: `left:${10 + c * WIDE}px` }, String(y))));
for (const n of nodes) {
  n.button = el("button", { type: "button", tabindex: -1, style: `left:${n.x}px;top:${n.y}px;border-left:6px ${edge(n.folder)}`,
    "aria-label": `${n.name}, ${n.year}${n.parent ? ", extends " + n.parent : ""}`, onclick: () => choose(n), onfocus: () => choose(n) }, tiny(n.name));
  board.append(n.button);
}
const graph = el("div", { class: "graph", role: "group", "aria-label": "lineage: left and right lead along a line, up and down within a year" }, board);
const search = el("input", { type: "search", placeholder: "name, paper or change", "aria-label": "find recipes", oninput: () => {
  const word = search.value.toLowerCase(), hits = nodes.filter(n => `${n.name} ${n.folder} ${n.what} ${n.paper} ${n.diff}`.toLowerCase().includes(word));
  for (const n of nodes) n.button.classList.toggle("off", !hits.includes(n));
  count.textContent = word ? ` ${hits.length} recipes` : "";
  if (word && hits.length) { mark(hits[0]); reveal(hits[0]); }
} });
const count = el("span", { class: "soft", "aria-live": "polite" });
const key = el("p", { class: "soft" }, ...folders.map(f => el("span", { class: "name" }, el("span", { class: "edge", style: `border-left:6px ${edge(f)}` }), f || "the chain")));
$("at-graph").append(el("p", {}, search, count), graph, key);

let at = byName.get("mistral_tiny") ?? nodes[0];
function reveal(n) {
  graph.scrollTo({ left: n.x - graph.clientWidth / 2 + 80, top: n.y - graph.clientHeight / 2 });
}
function mark(n) {
  const on = new Set(line(n));
  for (const each of nodes) {
    each.button.classList.toggle("on", on.has(each));
    each.edge?.classList.toggle("on", on.has(each));
    each.button.tabIndex = each === n ? 0 : -1;
    each === n ? each.button.setAttribute("aria-current", "true") : each.button.removeAttribute("aria-current");
  }
  at = n;
  tell(n);
}
function choose(n) { if (at !== n || !$("at-recipe").firstChild) mark(n); }
function go(n) { if (n) { n.button.focus(); reveal(n); } }
graph.addEventListener("keydown", event => {
  const column = columns.get(at.year), i = column.indexOf(at);
  const to = { ArrowLeft: byName.get(at.parent), ArrowRight: children.get(at.name)[0], ArrowUp: column[i - 1], ArrowDown: column[i + 1] };
  if (!(event.key in to)) return;
  event.preventDefault();
  go(to[event.key]);
});
const jump = n => el("a", { href: "#graph", onclick: event => { event.preventDefault(); go(n); } }, tiny(n.name));
const between = (parts, glue) => parts.flatMap((p, i) => i ? [glue, p] : [p]);
function tell(n) {
  const more = children.get(n.name);
  $("at-recipe").replaceChildren(el("h3", {}, `${n.name}  ${n.own_year ? n.year : ""}`), el("p", {}, n.what),
    n.paper ? el("p", { class: "soft" }, n.paper) : "",
    el("p", {}, el("strong", {}, "Line: "), ...between(line(n).reverse().map(jump), " → ")),
    more.length ? el("p", {}, el("strong", {}, "Extended by: "), ...between(more.map(jump), ", ")) : "",
    el("p", {}, el("strong", {}, "Measured: "), n.effect || "no figure in the docs yet."),
    el("p", { class: "links" }, ...n.links.map(([title, place]) => el("a", { href: place }, title))),
    el("pre", {}, n.diff || "(the text is its comments alone)"));
}
mark(at);
reveal(at);
document.body.dataset.ready = "true";

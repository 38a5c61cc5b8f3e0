// Sections of the page. Each function fills the element of its name from the look `L`.
const D = JSON.parse($("data").textContent);
let L = D.looks[0].look;
const note = (...parts) => el("p", { class: "soft" }, ...parts);
const where = i => `${L.layers[i].tower === "encoder" && L.source.length ? "encoder " : ""}layer ${i + 1}`;

function text(box) {
  const p = L.predictions, next = L.predicts === "next", n = L.tokens.length;
  const about = el("div", { class: "about", "aria-live": "polite" });
  const bar = (token, share, own) => el("tr", {}, el("td", {}, shown(token)), el("td", { class: "number" }, percent(share)),
    el("td", {}, el("span", { class: "bar", style: `width:${Math.max(1, 100 * share)}px;background:var(--series-${own ? 1 : 0})` })));
  const tokens = next ? [...L.tokens, "…"] : L.tokens;
  const choose = i => {
    const at = next ? i - 1 : i, rows = at < 0 ? [] : p.top[at].map((t, k) => bar(t, p.top_probability[at][k], t === L.tokens[i]));
    const head = i === n ? "What would follow" : `${shown(L.tokens[i])}`;
    const facts = i === n || p.probability[i] === null ? "" :
      ` probability ${percent(p.probability[i])}, rank ${p.rank[i] + 1}, surprise ${number(p.surprise[i])} bits`;
    about.replaceChildren(el("p", {}, el("strong", {}, head), facts),
      rows.length ? el("table", {}, el("tbody", {}, ...rows)) : note("The first token has no prediction."));
  };
  const words = strip(tokens, { label: "tokens, redder where the model is surprised", onchoose: choose });
  words.paint(i => i < n && p.surprise[i] !== null ? tint(p.surprise[i] / 16, 6) : "");
  const known = p.surprise.filter(x => x !== null), mean = known.reduce((a, x) => a + x, 0) / Math.max(1, known.length);
  if (L.source.length) box.append(note("Source: ", L.source.map(shown).join(" ")));
  box.append(note(`Redder is more surprising; mean ${number(mean)} bits per token. Point at a token, or use the arrow keys.`), words, about);
  words.choose(next ? n : 0);
}

const groups = () => {
  const out = [];
  for (const tower of new Set(L.layers.map(l => l.tower))) {
    const own = L.layers.map((l, i) => [l, i]).filter(([l]) => l.tower === tower && l.weights);
    if (own.length) out.push({ name: tower === "encoder" && L.source.length ? "encoder" : "self", rows: tower === "encoder" && L.source.length ? L.source : L.tokens, layers: own, field: "weights" });
  }
  const cross = L.layers.map((l, i) => [l, i]).filter(([l]) => l.cross);
  if (cross.length) out.push({ name: "cross", rows: L.tokens, columns: L.source, layers: cross, field: "cross" });
  return out;
};

function attention(box) {
  const all = groups();
  if (L.alignment) box.append(aligned(L.alignment));
  if (!all.length) {
    if (!L.alignment) box.append(note("No layer of this model has a matrix of attention to show."));
    return;
  }
  const names = { self: "self-attention", encoder: "attention of the encoder", cross: "cross attention to the source" };
  const grid = el("div"), head = el("div");
  const kinds = new Set(L.layers.filter(l => l.weights).map(l => l.kind));
  if (kinds.has("implied")) box.append(note("Implied: the matrix by which the mixer weighs its values, which it never forms; magnitudes, each row divided by its sum."));
  if (kinds.has("influence")) box.append(note("Influence: this mixer has no such matrix; a cell is the norm of the Jacobian of its output by an input, estimated in one random direction."));
  if (all.length > 1) {
    const choice = el("select", { "aria-label": "which attention", onchange: () => show(all[choice.value]) },
      ...all.map((g, i) => el("option", { value: i }, names[g.name])));
    box.append(el("p", {}, choice));
  }
  box.append(grid, head);
  function show(group) {
    const rows = group.layers.map(([layer, i]) => {
      const m = layer[group.field], [r, c] = m.small_shape;
      const cells = m.small.map((packed, h) => {
        const bytes = raw(packed), score = L.heads.find(s => s.layer === i && s.head === h), name = group.field === "weights" && score ? score.name : "";
        return el("button", { type: "button", class: "head", "aria-label": `${where(i)}, head ${h + 1}${name ? ", " + name : ""}`, onclick: () => open(group, i, h) },
          picture(r, c, (a, b) => bytes[a * c + b] / m.levels), el("span", {}, name || `head ${h + 1}`));
      });
      return el("tr", {}, el("th", { scope: "row" }, where(i), el("br"), el("span", { class: "soft" }, layer.kind === "attention" || group.field === "cross" ? "" : layer.kind)), el("td", {}, el("div", { class: "heads" }, ...cells)));
    });
    grid.replaceChildren(el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": names[group.name] }, el("table", { class: "model" }, el("tbody", {}, ...rows))));
    const named = L.heads.find(h => h.name === "induction") ?? L.heads.find(h => h.name);
    const first = group.name === "self" && named ? named : { layer: group.layers[0][1], head: 0 };
    open(group, first.layer, first.head);
  }
  async function open(group, i, h) {
    const m = L.layers[i][group.field], columns = group.columns ?? group.rows, n = columns.length;
    const bytes = await inflate(m.data[h]), at = (r, c) => (bytes[r * n + c] / m.levels) ** 2;
    const score = group.field === "weights" ? L.heads.find(s => s.layer === i && s.head === h) : null;
    const facts = score ? `previous token ${number(score.previous, 2)}, first token ${number(score.sink, 2)}, induction ${number(score.induction, 2)}${score.repeated === null ? "" : `, on repeated random tokens ${number(score.repeated, 2)}`}` : "";
    const reading = strip(group.rows, { label: "tokens that read", onchoose: t => light(t), chosen: group.rows.length - 1 });
    const source = group.columns ? strip(columns, { label: "tokens of the source", onchoose: s => back(s), chosen: 0 }) : null;
    const light = t => {
      const fill = s => tint(at(t, s) ** .6);
      if (source) { source.paint(fill); reading.paint(); } else reading.paint(fill, s => tint(at(s, t) ** .6, 1));
    };
    const back = s => { reading.paint(t => tint(at(t, s) ** .6, 1)); };
    const matrix = map(group.rows.length, n, (r, c) => bytes[r * n + c] / m.levels, { label: "all tokens: rows read columns",
      say: (r, c) => `${shown(group.rows[r])} (${r}) reads ${shown(columns[c])} (${c}): ${percent(at(r, c))}`, onchoose: r => light(r) });
    head.replaceChildren(el("h3", {}, `${where(i)}, head ${h + 1}${score?.name ? ": " + score.name : ""}`), note(facts),
      note(source ? "Choose a token: the source tokens that it reads are blue. Choose a source token: what reads it is orange." : "Choose a token: the tokens that it reads are blue, tokens that read it are underlined orange."),
      reading, source ?? "", matrix);
    for (const b of grid.querySelectorAll("button.head")) b.removeAttribute("aria-current");
    const order = group.layers.findIndex(([, j]) => j === i);
    grid.querySelectorAll("tr")[order].querySelectorAll("button.head")[h].setAttribute("aria-current", "true");
    reading.choose(group.rows.length - 1);
  }
  show(all[0]);
}

function aligned(weights) {
  return map(L.tokens.length, L.source.length, (r, c) => weights[r][c], { label: "alignment: each position of the target over the source", cell: 28,
    say: (r, c) => `after ${shown(L.tokens[r])}: ${percent(weights[r][c])} on ${shown(L.source[c])}` });
}

function heads(box) {
  const best = h => Math.max(h.previous ?? 0, h.sink ?? 0, h.induction ?? 0, h.repeated ?? 0);
  const named = L.heads.filter(h => h.name).sort((a, b) => best(b) - best(a));
  if (!L.heads.length) return null;
  box.append(note("Shares of a head's attention: to the token before, to the first token (a sink), and to tokens that followed an earlier occurrence of the same token (induction), in this text and in random tokens repeated once. A head is named from 0.4 on, where that is well above even attention."));
  box.append(named.length ? table(["head", "name", "previous", "first", "induction", "repeated"],
    named.slice(0, 24).map(h => [`${where(h.layer)}, head ${h.head + 1}`, h.name, number(h.previous, 2), number(h.sink, 2), number(h.induction, 2), number(h.repeated, 2)]), [2, 3, 4, 5]) : note("No head of this model has a name by these scores."));
}

function lens(box) {
  const layers = L.layers.map((l, i) => [l.lens, i]).filter(([l]) => l);
  if (!layers.length) return null;
  const WIDE = 24, n = L.tokens.length, holder = el("div");
  const show = first => {
    const places = L.tokens.map((_, i) => i).slice(first, first + WIDE);
    const row = ([l, i]) => el("tr", {}, el("th", { scope: "row" }, where(i)), ...places.map(t => el("td", { style: `background:${tint(l.probability[t] * .6)}` },
      shown(l.top[t]), el("br"), el("span", { class: "soft" }, `${percent(l.probability[t])}${l.rank[t] ? `, rank ${l.rank[t] + 1}` : ""}`))));
    holder.replaceChildren(el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "logit lens" }, el("table", { class: "lens" },
      el("thead", {}, el("tr", {}, el("th", {}, L.predicts === "next" ? "after" : "at"), ...places.map(t => el("th", {}, shown(L.tokens[t]))))), el("tbody", {}, ...[...layers].reverse().map(row)))));
  };
  box.append(note("The token that each layer's output would predict, read by the model's own norm and head; the share and rank are those of the token that the model ends up with."));
  if (n > WIDE) {
    const range = el("input", { type: "range", min: 0, max: n - WIDE, value: n - WIDE, "aria-label": "first token shown", oninput: () => show(+range.value) });
    box.append(el("p", {}, range));
  }
  box.append(holder);
  show(Math.max(0, n - WIDE));
}

function stream(box) {
  const own = L.layers.map((l, i) => [l, i]).filter(([l]) => l.stream.length === L.tokens.length);
  if (!own.length) return null;
  const mean = values => values.reduce((a, x) => a + x, 0) / values.length;
  const names = [...new Set(own.flatMap(([l]) => Object.keys(l.added)))];
  const rows = { "residual stream": own.map(([l]) => l.stream), ...Object.fromEntries(names.map(k => [k, own.map(([l]) => l.added[k] ?? [])])) };
  box.append(note("Lengths of the residual stream's vectors after each layer, and of what each sublayer adds to them."),
    lines(Object.fromEntries(Object.entries(rows).map(([k, v]) => [k, v.map(x => x.length ? mean(x) : 0)])), "mean over tokens"));
  for (const [name, values] of Object.entries(rows)) {
    const top = most(values.flat()) || 1;
    box.append(map(values.length, L.tokens.length, (r, c) => (values[r][c] ?? 0) / top, { label: name, say: (r, c) => `${name}, ${where(own[r][1])}, ${shown(L.tokens[c])}: ${number(values[r][c])}` }));
  }
}

function routes(box) {
  const moe = L.layers.map((l, i) => [l.experts, i]).filter(([e]) => e), mod = L.layers.map((l, i) => [l.routed, i]).filter(([e]) => e);
  if (moe.length) {
    const first = row => row.indexOf(Math.max(...row)), n = moe[0][0].length;
    box.append(map(moe.length, n, (r, c) => most(moe[r][0][c]) ? first(moe[r][0][c]) : -1, { label: "the expert with the largest gate", kinds: true,
      say: (r, c) => `${where(moe[r][1])}, ${shown(L.tokens[c] ?? "")}: ${moe[r][0][c].map((g, e) => [g, e]).filter(([g]) => g > 0).sort((a, b) => b[0] - a[0]).map(([g, e]) => `expert ${e + 1} ${percent(g)}`).join(", ") || "dropped"}` }));
    const rows = moe.flatMap(([gates, i]) => gates[0].map((_, e) => {
      const taken = gates.map((row, t) => [row[e], t]).filter(([g]) => g > 0).sort((a, b) => b[0] - a[0]);
      return [where(i), el("span", {}, el("span", { class: "swatch", style: `background:var(--series-${e % 8})` }), `${e + 1}`), percent(taken.length / gates.length), [...new Set(taken.map(([, t]) => shown(L.tokens[t] ?? "")))].slice(0, 12).join("  ")];
    }));
    box.append(table(["layer", "expert", "tokens", "largest gates"], rows, [2]));
  }
  if (mod.length) box.append(map(mod.length, L.tokens.length, (r, c) => mod[r][0][c] ? 1 : 0, { label: "tokens that a routed block ran on",
    say: (r, c) => `${where(mod[r][1])} ${mod[r][0][c] ? "ran on" : "skipped"} ${shown(L.tokens[c])}` }));
  if (L.steps) {
    const top = most(L.steps), said = note(""), words = strip(L.tokens, { label: "steps before halting", onchoose: i => said.textContent = `${shown(L.tokens[i])} halted after ${L.steps[i]} steps.` });
    words.paint(i => tint(L.steps[i] / top, 2));
    words.write(i => `${L.steps[i]}`);
    box.append(note(`Steps before each token halted (adaptive computation time), below it; at most ${top}.`), words, said);
  }
  return moe.length || mod.length || L.steps ? undefined : null;
}

function attribution(box) {
  const a = L.attribution;
  box.append(note(`Which tokens make ${shown(a.predicted)} probable after ${shown(L.tokens[a.position])} (log-probability ${number(a.log_probability)} nats): blue raises it, red lowers it.`));
  for (const [name, values] of [["integrated gradients", a.integrated], ["input × gradient", a.input_gradient]]) {
    const top = most(values, Math.abs) || 1, said = note("");
    const words = strip(L.tokens, { label: name, onchoose: i => said.textContent = `${shown(L.tokens[i])}: ${number(values[i])} nats` });
    words.paint(i => tint(Math.abs(values[i]) / top * .8, values[i] < 0 ? 6 : 0));
    box.append(el("h3", {}, name), words, said);
  }
}

function embedding(box) {
  const e = L.embeddings;
  if (!e) return null;
  const [a, b] = [0, 1].map(k => e.components.map(c => c[k])), low = [Math.min(...a), Math.min(...b)], wide = [Math.max(...a) - low[0] || 1, Math.max(...b) - low[1] || 1];
  const across = narrow.matches ? 360 : 640; // letters keep their size on a phone
  const x = v => 20 + (across - 40) * (v - low[0]) / wide[0], y = v => 340 - 320 * (v - low[1]) / wide[1];
  const svg = el("svg", { viewBox: `0 0 ${across} 360`, role: "img", "aria-label": "principal components of token embeddings" });
  e.tokens.forEach((t, i) => { const own = i < e.in_text; svg.append(el("circle", { cx: x(a[i]), cy: y(b[i]), r: own ? 4 : 2.5, fill: `var(--series-${own ? 1 : 0})` }));
    if (own || e.tokens.length < 60) { const right = x(a[i]) > across - 90; svg.append(el("text", { x: x(a[i]) + (right ? -5 : 5), y: y(b[i]) + 4, "font-size": 11, "text-anchor": right ? "end" : "start", opacity: own ? 1 : .7 }, shown(t).slice(0, 12))); } });
  box.append(note("Rows of the unembedding (the embedding itself where both are tied): nearest tokens by cosine."), table(["token", "nearest"],
    e.neighbours.map((row, i) => [shown(e.tokens[i]), row.map((t, k) => `${shown(t)} ${number(e.cosine[i][k], 2)}`).join("   ")])),
    el("figure", {}, el("figcaption", {}, "principal components", el("span", {}, ` ${e.explained.map(percent).join(" and ")} of the variance; orange: tokens of the text`)), svg));
  if (e.positions) { const top = most(e.positions.flat(), Math.abs) || 1;
    box.append(map(e.positions.length, e.positions.length, (r, c) => e.positions[r][c] / top, { label: `positions: ${e.position_kind}`, cell: 8, say: (r, c) => `positions ${r} and ${c}: ${number(e.positions[r][c])}` })); }
}

function compare(box) {
  const c = D.comparison;
  if (!c) return null;
  const [one, two] = D.looks;
  for (const [side, other] of [[one, two], [two, one]]) {
    const p = side.look.predictions, q = other.look.predictions, said = note("");
    const same = side.look.tokens.length === other.look.tokens.length;
    const words = strip(side.look.tokens, { label: side.label, onchoose: i => said.textContent =
      `${shown(side.look.tokens[i])}: ${percent(p.probability[i])}${same ? `, beside it ${shown(other.look.tokens[i])} ${percent(q.probability[i])}` : ""}` });
    words.paint(i => { const d = same ? (p.surprise[i] ?? 0) - (q.surprise[i] ?? 0) : 0; return tint(Math.abs(d) / 8, d > 0 ? 6 : 0); },
      i => same && side.look.tokens[i] !== other.look.tokens[i] ? "var(--series-1)" : "transparent");
    const last = p.top.length - 1;
    box.append(el("h3", {}, side.label), words, said, note("What would follow: ", p.top[last].map((t, k) => `${shown(t)} ${percent(p.top_probability[last][k])}`).join(", ")));
  }
  box.append(note("Blue: this side finds the token more probable than the other; red: less. Underlined: the tokens differ."));
  if (c.heads) { const top = most(c.heads.flat(), Math.abs) || 1;
    box.append(map(c.heads.length, c.heads[0].length, (r, k) => (c.heads[r][k] ?? 0) / top, { label: "how far the attention of each head moved (total variation, mean over tokens)", cell: 28,
      say: (r, k) => `${where(c.layers[r])}, head ${k + 1}: ${number(c.heads[r][k])}` })); }
}

function patching(box) {
  const p = D.patching;
  if (!p) return D.patching_note ? void box.append(note(D.patching_note)) : null;
  const tokens = D.looks[1].look.tokens;
  box.append(note(`Each cell: the residual vector of the first text at that layer and position, put into the pass over the second. 1 brings the prediction ${shown(p.answer)} back from ${shown(p.other)} entirely, 0 not at all (logit difference ${number(p.text)} and ${number(p.edited)}).`),
    map(p.restored.length, tokens.length, (r, c) => p.restored[r][c], { label: "share of the prediction that comes back", cell: 28, say: (r, c) => `${where(r)}, ${shown(tokens[c])} (${c}): ${number(p.restored[r][c], 2)}` }));
}

const SECTIONS = { compare, text, attention, heads, lens, stream, routes, attribution, patching, embedding };
function render() {
  for (const [name, fill] of Object.entries(SECTIONS)) {
    const box = $("at-" + name), content = el("div");
    const empty = fill(content) === null;
    box.replaceChildren(content);
    box.closest("section").hidden = empty;
    document.querySelector(`nav a[href="#${name}"]`).hidden = empty;
  }
}
if (D.looks.length > 1) D.looks.forEach(({ label, look }, i) => $("sides").append(el("label", {}, el("input", { type: "radio", name: "side",
  ...(i ? {} : { checked: "" }), onchange: () => { L = look; render(); } }), ` ${label} `)));
render();
document.body.dataset.ready = "true";

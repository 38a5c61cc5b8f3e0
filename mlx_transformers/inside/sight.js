// Sections of the page of a model of pictures: `S` is what it saw.
const D = JSON.parse($("data").textContent), S = D.sight;
const [ROWS, COLUMNS] = S.grid, FRONT = S.front.length, VECTORS = FRONT + ROWS * COLUMNS;
const [HEIGHT, WIDTH, CHANNELS] = S.pixels.shape;
const note = (...parts) => el("p", { class: "soft" }, ...parts);
const patch = i => i < FRONT ? S.front[i] : `patch in row ${Math.floor((i - FRONT) / COLUMNS) + 1}, column ${(i - FRONT) % COLUMNS + 1}`;
const levels = Uint8Array.from(atob(S.pixels.data), c => c.charCodeAt(0));
const seen = S.layers.map((layer, i) => [layer, i]).filter(([layer]) => layer.weights);

function photo(kind, label) {
  const base = el("canvas", { width: WIDTH, height: HEIGHT, "aria-hidden": "true" });
  const over = el("canvas", { width: COLUMNS, height: ROWS, "aria-hidden": "true" });
  const context = base.getContext("2d"), image = context.createImageData(WIDTH, HEIGHT);
  for (let p = 0; p < WIDTH * HEIGHT; p++) {
    for (let c = 0; c < 3; c++) image.data[4 * p + c] = levels[p * CHANNELS + (CHANNELS < 3 ? 0 : c)];
    image.data[4 * p + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  const box = el("span", { class: `photo ${kind}`, ...(label ? { role: "img", "aria-label": label } : {}) }, base, over);
  // The share of each patch, relative to the largest, as an opacity.
  box.cover = value => {
    const shares = Array.from({ length: ROWS * COLUMNS }, (_, i) => value(FRONT + i)), top = most(shares) || 1;
    const context = over.getContext("2d"), image = context.createImageData(COLUMNS, ROWS), hue = colour("series-1");
    shares.forEach((share, i) => image.data.set([...hue, Math.round(225 * share / top)], 4 * i));
    context.putImageData(image, 0, 0);
  };
  return box;
}

async function attention(box) {
  if (!seen.length) return box.append(note("No layer of this model has a matrix of attention to show."));
  const data = new Map();
  for (const [layer, i] of seen) data.set(i, await Promise.all(layer.weights.data.map(inflate)));
  const share = (i, h, t, s) => (data.get(i)[h][t * VECTORS + s] / S.layers[i].weights.levels) ** 2;
  let query = 0, chosen = [seen[seen.length - 1][1], 0];
  const tiles = [], large = photo("large", "attention of the chosen head over the picture"), title = el("h3"), said = note("");
  said.setAttribute("aria-live", "polite");
  const grid = el("table", { class: "model" }, el("tbody", {}, ...seen.map(([layer, i]) => el("tr", {},
    el("th", { scope: "row" }, `layer ${i + 1}`, ...(layer.kind === "attention" ? [] : [el("br"), el("span", { class: "soft" }, layer.kind)])), el("td", {}, el("div", { class: "heads" }, ...layer.weights.data.map((_, h) => {
      const tile = photo("tile");
      tiles.push([tile, i, h]);
      return el("button", { type: "button", class: "head", "aria-label": `layer ${i + 1}, head ${h + 1}`, onclick: () => { chosen = [i, h]; show(); } }, tile, el("span", {}, `head ${h + 1}`));
    })))))));
  const show = () => {
    const [layer, head] = chosen;
    for (const [tile, i, h] of tiles) {
      tile.cover(s => share(i, h, query, s));
      if (i === layer && h === head) tile.parentNode.setAttribute("aria-current", "true");
      else tile.parentNode.removeAttribute("aria-current");
    }
    large.cover(s => share(layer, head, query, s));
    const order = Array.from({ length: VECTORS }, (_, s) => s).sort((a, b) => share(layer, head, query, b) - share(layer, head, query, a));
    title.textContent = `Layer ${layer + 1}, head ${head + 1}: what the ${patch(query)} reads`;
    said.textContent = "Most: " + order.slice(0, 3).map(s => `${patch(s)} ${percent(share(layer, head, query, s))}`).join("; ");
  };
  const bright = i => {
    const [h, w] = [Math.floor(HEIGHT / ROWS), Math.floor(WIDTH / COLUMNS)];
    const [top, left] = [Math.floor(i / COLUMNS) * h, i % COLUMNS * w];
    let sum = 0;
    for (let y = top; y < top + h; y++) for (let x = left; x < left + w; x++) sum += levels[(y * WIDTH + x) * CHANNELS];
    return sum / (255 * h * w);
  };
  const chooser = map(ROWS, COLUMNS, (r, c) => bright(r * COLUMNS + c), { label: "choose the patch that reads", cell: 22,
    say: (r, c) => patch(FRONT + r * COLUMNS + c), onchoose: (r, c) => { query = FRONT + r * COLUMNS + c; show(); } });
  const front = FRONT ? el("p", {}, ...S.front.map((name, i) => el("button", { type: "button", onclick: () => { query = i; show(); } }, `the ${name}`)), " ") : null;
  const plain = el("label", {}, el("input", { type: "checkbox", onchange: event => large.classList.toggle("plain", event.target.checked) }), " the picture alone");
  if (seen.some(([layer]) => layer.kind === "implied")) box.append(note("Implied: the matrix by which the mixer weighs its values, which it never forms; magnitudes, of which each row is scaled to a sum of at most 1."));
  box.append(note("Orange covers what the chosen vector reads, relative to what it reads most. Choose who reads, and a head."),
    front ?? "", chooser, el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "heads of all layers" }, grid),
    title, el("div", { class: "side" }, large, el("div", {}, said, plain)));
  show();
  document.body.dataset.ready = "true";
}

function heads(box) {
  if (!seen.length) return null;
  box.append(note(`Mean distance between a patch and the patches that it reads, in pixels of a picture of ${HEIGHT} x ${WIDTH}: small where a head looks around itself, large where it looks everywhere.`),
    lines(Object.fromEntries(Array.from({ length: Math.max(...seen.map(([l]) => l.distance.length)) }, (_, h) => [`head ${h + 1}`, seen.map(([l]) => l.distance[h] ?? 0)])), "mean distance, pixels"));
}

function lens(box) {
  if (!S.layers[0]?.classes) return null;
  box.append(note("The most probable classes by the model's own norm and class head, read from each layer's output. " + (S.halts ? "The model's answer is from a mixture of these outputs, by the halting of each vector." : "The last layer's is the model's answer.")),
    table(["layer", "class", "probability", "others"], S.layers.map((l, i) => [`${i + 1}`, `${l.classes[0]}`, percent(l.probability[0]),
      l.classes.slice(1).map((c, k) => `${c} ${percent(l.probability[k + 1])}`).join(", ")]), [0, 1, 2]));
}

function stream(box) {
  const top = most(S.layers.flatMap(l => l.stream)) || 1;
  box.append(note("Lengths of the residual stream's vectors after each layer; those in front of the patches first."),
    map(S.layers.length, VECTORS, (r, c) => S.layers[r].stream[c] / top, { label: "lengths", say: (r, c) => `layer ${r + 1}, ${patch(c)}: ${number(S.layers[r].stream[c])}` }));
}

for (const [name, fill] of Object.entries({ attention, heads, lens, stream })) {
  const empty = fill($(`at-${name}`)) === null;
  $(name).hidden = empty;
  document.querySelector(`nav a[href="#${name}"]`).hidden = empty;
}

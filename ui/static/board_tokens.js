// The token view: six steps from expected to surprising, what stood in a token's place, and going on from there.
const BITS = Math.LN2;
const LOOKS = {
  probability: { of: (token) => -token.p, bounds: [-0.9, -0.5, -0.2, -0.05, -0.01], names: ["≥ 90 %", "50–90 %", "20–50 %", "5–20 %", "1–5 %", "< 1 %"] },
  rank: { of: (token) => token.rank - 0.5, bounds: [1, 2, 5, 20, 100], names: ["1", "2", "3–5", "6–20", "21–100", "> 100"] },
  entropy: { of: (token) => token.entropy, bounds: [0.5, 1, 2, 4, 6], names: ["< 0.5", "0.5–1", "1–2", "2–4", "4–6", "≥ 6"], unit: true },
  surprise: { of: (token) => token.surprise, bounds: [0.5, 1, 2, 4, 7], names: ["< 0.5", "0.5–1", "1–2", "2–4", "4–7", "≥ 7"], unit: true },
};
const step = (token) => { const { of, bounds } = LOOKS[view], value = of(token); const place = bounds.findIndex((bound) => value <= bound); return place < 0 ? 5 : place; };

function drawLegend() {
  const scale = LOOKS[view];
  legend.hidden = !scale;
  if (!scale) return;
  const title = say["view_" + view] + (scale.unit ? ` (${say.bits})` : "");
  legend.replaceChildren(make("span", "", title), ...scale.names.map((name, place) => make("span", `ts-swatch ts-s${place}`, name)));
}

// A run's tokens come packed; they are unpacked when somebody looks.
function tokensOf(card) {
  if (card.tokens || !card.packed) return card.tokens;
  const { pieces, tokens } = JSON.parse(card.packed);
  const other = (id, p, after) => ({ id, piece: pieces[id], p, after });
  card.tokens = tokens.map(([id, p, rank, entropy, after, kept, ids, before, later, text]) => ({
    ...other(id, p, after), text: text ?? pieces[id], rank, kept, entropy: entropy / BITS, surprise: p > 0 ? Math.abs(Math.log2(p)) : Infinity,
    top: ids.map((one, place) => other(one, before[place], later ? later[place] : null)),
  }));
  return card.tokens;
}

// What cannot be seen is shown by a sign: spaces alone, line breaks, tabs, nothing at all.
function visible(piece) {
  const signs = piece.replace(/\r/g, "␍").replace(/\n/g, "⏎").replace(/\t/g, "⇥");
  return signs === "" ? "∅" : signs.trim() === "" ? signs.replace(/ /g, "␣") : signs;
}
// What a token adds to the text: of a character in several tokens the last one shows it, the others a dot.
const shownOf = (token) => (token.text === "" && token.piece !== "" ? "·" : visible(token.text));
const namedAs = (token) => (token.text === "" && token.piece !== "" ? say.part : `“${visible(token.text)}”`);
const percent = (share) => (share >= 0.0995 ? (100 * share).toFixed(0) : share >= 0.00005 ? (100 * share).toPrecision(2) : "< 0.01") + " %";
const figure = (value) => (Number.isFinite(value) ? value.toFixed(value < 10 ? 2 : 1) : "∞");

// The space before a word stays without colour, so that a line that ends there does not end in a stray block.
function colour(card) {
  const nodes = card.tokens.flatMap((token, place) => {
    const signs = shownOf(token), gap = signs.match(/^ */)[0], breaks = token.text.includes("\n");
    const node = make("span", `ts-token ts-s${step(token)}`, signs.slice(gap.length) + (breaks ? "\n" : ""));
    node.dataset.place = place; node.tabIndex = place ? -1 : 0;
    node.setAttribute("role", "button");
    node.setAttribute("aria-label", `${namedAs(token)}, ${percent(token.p)}`);
    return gap ? [gap, node] : [node];
  });
  card.text.replaceChildren(...nodes);
  card.shown = view;
}

// One listener a card: the pointer or the focus on a token explains it, a click or Enter opens its menu.
function listen(card) {
  const box = card.text, at = (event) => event.target.closest(".ts-token");
  const show = (event) => { const node = at(event); if (node) explain(card, node); };
  box.addEventListener("pointerover", (event) => { if (event.pointerType !== "touch") show(event); });
  box.addEventListener("pointerout", () => { tip.hidden = true; });
  box.addEventListener("focusin", (event) => { if (at(event)?.matches(":focus-visible")) show(event); });
  box.addEventListener("focusout", () => { tip.hidden = true; });
  box.addEventListener("scroll", () => { tip.hidden = true; });
  box.addEventListener("click", (event) => { const node = at(event); if (node) { focusToken(node); menu(card, node); } });
  box.addEventListener("keydown", (event) => { const node = at(event); if (node) press(card, node, event); });
}

function focusToken(node) {
  for (const other of node.parentNode.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
  node.tabIndex = 0; node.focus();
}

function press(card, node, event) {
  const moves = { ArrowRight: () => node.nextElementSibling, ArrowLeft: () => node.previousElementSibling, Home: () => node.parentNode.firstElementChild, End: () => node.parentNode.lastElementChild, ArrowDown: () => lineAway(node, 1), ArrowUp: () => lineAway(node, -1) };
  if (event.key in moves) { const next = moves[event.key](); if (next) focusToken(next); }
  else if (event.key === "Enter" || event.key === " ") menu(card, node);
  else if (event.key === "Escape") tip.hidden = true;
  else return;
  event.preventDefault();
}

// The token nearest above or below.
function lineAway(node, way) {
  const side = way > 0 ? "nextElementSibling" : "previousElementSibling", top = node.offsetTop;
  let best = null;
  for (let other = node[side]; other; other = other[side]) {
    if (other.offsetTop === top) continue;
    if (best && other.offsetTop !== best.offsetTop) break;
    if (!best || Math.abs(other.offsetLeft - node.offsetLeft) < Math.abs(best.offsetLeft - node.offsetLeft)) best = other;
  }
  return best;
}

// The alternatives with their probability before and after the processors; the written one is always among them.
function alternatives(token) {
  return token.top.some((one) => one.id === token.id) ? token.top : [...token.top, token];
}

function table(token, choose) {
  const processed = token.after !== null || token.top.some((one) => one.after !== null), list = make("div", "ts-tiprows");
  list.classList.toggle("ts-plainly", !processed);
  const most = Math.max(...alternatives(token).map((one) => Math.max(one.p, one.after ?? 0))) || 1;
  const head = make("div", "ts-tiprow ts-tipnames");
  head.append(make("span"), make("span"), make("span", "", say.before), ...(processed ? [make("span", "", say.after)] : []));
  list.append(head, ...alternatives(token).map((one) => {
    const taken = one.id === token.id, row = make(choose ? "button" : "div", "ts-tiprow" + (taken ? " ts-taken" : "") + (one.after === 0 ? " ts-cutoff" : ""));
    const bars = make("span", "ts-bars"), before = make("i", "ts-bar-before"), after = make("i", "ts-bar-after");
    before.style.width = 100 * one.p / most + "%"; after.style.width = 100 * (one.after ?? 0) / most + "%";
    bars.append(before, ...(processed ? [after] : []));
    row.append(make("code", "", visible(one.piece)), bars, make("span", "", percent(one.p)));
    if (processed) row.append(make("span", "", one.after === null ? "–" : one.after === 0 ? say.cut : percent(one.after)));
    if (choose) { row.type = "button"; row.disabled = taken || cards.length >= MOST; row.addEventListener("click", () => choose(one)); }
    return row;
  }));
  return list;
}

function headOf(token) {
  const kept = token.kept === null ? "" : ` · ${fill(say.kept, { count: token.kept })}`;
  const facts = `${say.rank} ${token.rank} · ${say.view_entropy} ${figure(token.entropy)} ${say.bits} · ${say.view_surprise} ${figure(token.surprise)} ${say.bits}${kept}`;
  return [make("div", "ts-tiphead", `${namedAs(token)} ${percent(token.p)}`), make("div", "ts-tipfacts", facts)];
}

function explain(card, node) {
  if (!panel.hidden) return;
  const token = card.tokens[node.dataset.place];
  tip.replaceChildren(...headOf(token), table(token));
  place(tip, node);
}

// What if: another token in this place, and the same column goes on from there.
function menu(card, node) {
  const token = card.tokens[node.dataset.place];
  const list = table(token, (choice) => branch(card, Number(node.dataset.place), choice));
  list.addEventListener("keydown", (event) => {
    const rows = [...list.querySelectorAll("button:not(:disabled)")], way = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (way) { rows[(rows.indexOf(document.activeElement) + way + rows.length) % rows.length].focus(); event.preventDefault(); }
  });
  openPanel(node, say.menu, ...headOf(token), make("div", "ts-tipask", cards.length >= MOST ? fill(say.menu_full, { most: MOST }) : say.menu), list);
}

// The text goes along with the ids, token by token and, where that is another one, as it is read: a model with another
// tokenizer gets ids of its own.
const escaped = (text) => text.replace(/[\\|]/g, "\\$&").replace(/\n/g, "\\n").replace(/\t/g, "\\t");
function branch(card, place, choice) {
  const begun = [...card.tokens.slice(0, place), choice], joined = (part) => escaped(begun.map(part).join(""));
  const pieces = joined((token) => token.piece), read = joined((token) => token.text ?? token.piece);
  const start = begun.map((token) => token.id).join(",") + ":" + pieces + (read === pieces ? "" : "|" + read);
  const made = insert({ ...card.ran, knobs: { ...card.ran.knobs, start }, from: choice.piece }, cards.includes(card) ? card : cards.at(-1));
  closePanel(); publish();
  made.node.scrollIntoView({ block: "nearest", inline: "nearest" });
  made.text.querySelector(".ts-run")?.focus({ preventScroll: true });
}

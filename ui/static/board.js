// The board of Compare: cards side by side, each a strategy with its settings and a model, with what it writes below.
// Every text enters the page as text (textContent), never as markup. The server's updates come through `feed.js`.
const say = props.words, strategies = props.strategies, MOST = props.most;
let models = props.models, cards = [], running = [], seen = null, asTokens = false, last = null;

const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};
const option = (value, label) => { const node = make("option", "", label); node.value = value; return node; };
const strategyOf = (card) => strategies.find((one) => one.key === card.strategy);

const root = element.querySelector(".ts-board");
const bar = make("div", "ts-boardbar"), grid = make("div", "ts-grid"), tip = make("div", "ts-tip");
tip.hidden = true;
root.replaceChildren(bar, grid, tip);

function publish() {
  props.value = { columns: cards.map(({ strategy, model, knobs }) => ({ strategy, model, knobs: { ...knobs } })) };
  add.disabled = cards.length >= MOST;
  for (const card of cards) card.remove.disabled = cards.length <= 1;
}

function button(label, title, action, className) {
  const node = make("button", className || "ts-small", label);
  node.type = "button"; node.title = title;
  if (!label) node.setAttribute("aria-label", title);
  node.addEventListener("click", action);
  return node;
}

// The bar: add, presets, text or tokens
const add = button("+ " + say.add, say.add, () => { insert({ strategy: "nucleus", model: "", knobs: {} }); publish(); }, "ts-small ts-add");
const presets = make("select", "ts-presets");
presets.setAttribute("aria-label", say.presets);
presets.append(option("", say.presets), ...props.presets.map((one) => option(one.key, one.title)));
presets.addEventListener("change", () => {
  const chosen = props.presets.find((one) => one.key === presets.value);
  if (chosen) { lay(chosen.columns); publish(); }
  presets.value = "";
});
const toggle = button(say.as_tokens, say.as_tokens_help, () => {
  asTokens = !asTokens;
  toggle.classList.toggle("ts-on", asTokens);
  toggle.setAttribute("aria-pressed", asTokens);
  for (const card of cards) write(card);
}, "ts-small ts-toggle");
bar.append(add, presets, toggle);

// Cards
function lay(columns) {
  cards = []; grid.replaceChildren();
  for (const column of columns) insert({ strategy: column.strategy, model: column.model || "", knobs: { ...column.knobs } });
}

function insert(column, before) {
  const card = { ...column, output: null, open: false };
  build(card);
  if (before) { cards.splice(cards.indexOf(before) + 1, 0, card); before.node.after(card.node); }
  else { cards.push(card); grid.append(card.node); }
  return card;
}

function build(card) {
  card.node = make("article", "ts-col");
  const head = make("header");
  const strategy = make("select", "ts-strategy");
  strategy.setAttribute("aria-label", say.strategy);
  strategy.append(...strategies.map((one) => option(one.key, one.title)));
  strategy.value = card.strategy;
  strategy.addEventListener("change", () => { card.strategy = strategy.value; card.knobs = {}; knobs(card); publish(); });
  const copy = button("", say.duplicate, () => { if (cards.length < MOST) { insert({ strategy: card.strategy, model: card.model, knobs: { ...card.knobs } }, card); publish(); } }, "ts-icon ts-copy");
  card.remove = button("", say.remove, () => { cards.splice(cards.indexOf(card), 1); card.node.remove(); publish(); }, "ts-icon ts-close");
  head.append(strategy, copy, card.remove);
  card.models = make("div", "ts-models");
  card.settings = make("details", "ts-knobs");
  card.text = make("div", "ts-out"); card.text.tabIndex = 0;
  card.figures = make("footer");
  card.node.append(head, card.models, card.settings, card.text, card.figures);
  modelPicker(card); knobs(card); write(card);
}

function modelPicker(card) {
  const select = make("select", "ts-model");
  select.setAttribute("aria-label", say.model);
  const known = models.some(([value]) => value === card.model);
  select.append(...models.map(([value, label]) => option(value, label)), option("?", say.other_model));
  select.value = known ? card.model : "?";
  const typed = make("input", "ts-other");
  typed.placeholder = say.other_hint; typed.value = known ? "" : card.model; typed.hidden = known;
  typed.setAttribute("aria-label", say.other_model);
  select.addEventListener("change", () => {
    typed.hidden = select.value !== "?";
    card.model = select.value === "?" ? typed.value.trim() : select.value;
    if (!typed.hidden) typed.focus();
    publish();
  });
  typed.addEventListener("input", () => { card.model = typed.value.trim(); publish(); });
  card.models.replaceChildren(select, typed);
}

function knobs(card) {
  const strategy = strategyOf(card), open = card.settings.open;
  const summary = make("summary");
  const retitle = () => { summary.textContent = strategy.knobs.map((knob) => `${knob.name} ${card.knobs[knob.name] ?? knob.default}`).join(" · ") || say.no_settings; };
  const rows = strategy.knobs.map((knob) => {
    const row = make("label"), name = make("span", "", knob.name), field = make(knob.choices.length ? "select" : "input");
    row.title = knob.help;
    if (knob.choices.length) field.append(...knob.choices.map((choice) => option(choice, choice)));
    else { field.type = "number"; field.min = knob.minimum; field.max = knob.maximum; field.step = knob.type === "int" ? 1 : 0.05; }
    field.value = String(card.knobs[knob.name] ?? knob.default);
    field.addEventListener("input", () => { card.knobs[knob.name] = field.value; retitle(); publish(); });
    row.append(name, field);
    return row;
  });
  card.settings.replaceChildren(summary, ...rows, make("p", "ts-about", strategy.about));
  card.settings.open = open;
  retitle();
}

// What a card shows: text with its draft, or tokens coloured by probability
function write(card) {
  const out = card.output, box = card.text;
  const low = box.scrollHeight - box.scrollTop - box.clientHeight < 30;
  if (!out) { box.replaceChildren(make("span", "ts-hint", say.hint)); card.figures.replaceChildren(); return; }
  if (out.error) box.replaceChildren(make("span", "ts-fail", out.error));
  else if (asTokens && out.tokens) box.replaceChildren(...out.tokens.map(token));
  else text(box, out);
  if (low) box.scrollTop = box.scrollHeight;
  card.node.classList.toggle("ts-writing", out.writing);
  figures(card, out.figures || []);
}

function text(box, out) {
  let [firm, draft] = box.children;
  if (!firm || firm.className !== "ts-firm") {
    firm = make("span", "ts-firm"); draft = make("span", "ts-draft");
    box.replaceChildren(firm, draft);
  }
  if (firm.textContent !== out.firm) firm.textContent = out.firm;
  if (draft.textContent !== out.draft) draft.textContent = out.draft;
}

function figures(card, list) {
  const state = JSON.stringify(list);
  if (card.figures.dataset.state === state) return;
  card.figures.dataset.state = state;
  card.figures.replaceChildren(...list.map(([value, label]) => {
    const pair = make("span"); pair.append(make("b", "", value), make("i", "", label)); return pair;
  }));
}

function token([written, probability, top]) {
  const node = make("span", "ts-token", written.replace(/\n/g, "⏎\n"));
  node.style.setProperty("--doubt", (1 - probability).toFixed(3));
  node.tabIndex = 0;
  const show = () => explain(node, written, probability, top);
  node.addEventListener("mouseenter", show); node.addEventListener("focus", show);
  node.addEventListener("mouseleave", () => { tip.hidden = true; }); node.addEventListener("blur", () => { tip.hidden = true; });
  return node;
}

const percent = (probability) => (probability >= 0.1 ? (100 * probability).toFixed(0) : (100 * probability).toPrecision(2)) + " %";

function explain(node, written, probability, top) {
  const rows = top.map(([other, share]) => {
    const row = make("div", other === written ? "ts-tiprow ts-taken" : "ts-tiprow"), meter = make("meter");
    meter.value = share; meter.max = 1;
    row.append(make("code", "", JSON.stringify(other)), meter, make("span", "", percent(share)));
    return row;
  });
  tip.replaceChildren(make("div", "ts-tiphead", `${JSON.stringify(written)} ${percent(probability)}`), ...rows);
  tip.hidden = false;
  const at = node.getBoundingClientRect(), home = root.getBoundingClientRect();
  tip.style.left = Math.max(0, Math.min(at.left - home.left, home.width - 250)) + "px";
  tip.style.top = at.bottom - home.top + 4 + "px";
}

// Updates from the server
function show(update) {
  if (!update) return;
  if (update.models) { models = update.models; for (const card of cards) modelPicker(card); }
  if (update.run !== undefined && update.run !== seen) {
    seen = update.run; running = cards.slice();
    for (const card of running) { card.output = { firm: "", draft: "", writing: true, figures: [] }; write(card); }
  }
  (update.columns || []).forEach((output, index) => {
    const card = running[index];
    if (card) { card.output = output; write(card); }
  });
  if (update.lay) { lay(update.lay); publish(); }
}
window.tunescopeBoard = { show };
lay((props.value && props.value.columns) || props.presets[0].columns);
publish();
if (window.tunescopeFeed) show(window.tunescopeFeed);
for (const update of Object.values(window.tunescopeFeeds || {})) show(update);

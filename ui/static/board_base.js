// The board of Compare: cards side by side, each a strategy with its settings and a model, with what it writes below.
// This file and the other board_*.js are joined in the order of ui/board.py. Every text enters the page as text
// (textContent), never as markup.
const say = props.words, strategies = props.strategies, MOST = props.most;
let models = props.models, cards = [], running = [], seen = null, view = "text", asked = 0;
const earlier = [];

const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};
const option = (value, label) => { const node = make("option", "", label); node.value = value; return node; };
const strategyOf = (card) => strategies.find((one) => one.key === card.strategy);
const fill = (sentence, facts) => sentence.replace(/<(\w+)>/g, (hole, name) => (name in facts ? facts[name] : hole));

function button(label, title, action, className) {
  const node = make("button", className || "ts-small", label);
  node.type = "button"; node.title = title;
  if (!label) node.setAttribute("aria-label", title);
  node.addEventListener("click", action);
  return node;
}

const root = element.querySelector(".ts-board");
const bar = make("div", "ts-boardbar"), legend = make("div", "ts-scale"), grid = make("div", "ts-grid");
const tip = make("div", "ts-tip"), panel = make("div", "ts-tip ts-panel");
tip.hidden = panel.hidden = legend.hidden = true;
tip.setAttribute("role", "tooltip");
root.replaceChildren(bar, legend, grid, tip, panel);

const columnOf = ({ strategy, model, knobs }) => ({ strategy, model, knobs: { ...knobs } });

function publish(question) {
  props.value = { columns: cards.map(columnOf), ...(question ? { ask: question } : {}) };
  add.disabled = authors.disabled = cards.length >= MOST;
  back.hidden = !earlier.length;
  for (const card of cards) card.remove.disabled = cards.length <= 1;
}

// The server answers through the feed of answers; what is wrong, it says itself.
function ask(question) {
  publish({ ...question, number: ++asked });
  setTimeout(() => { trigger("submit"); });
}

// Under a node, or above it where there is more room; always within the board's width.
function place(box, node) {
  box.hidden = false;
  const at = node.getBoundingClientRect(), home = root.getBoundingClientRect();
  const below = window.innerHeight - at.bottom, high = box.offsetHeight + 8;
  box.style.left = Math.max(0, Math.min(at.left - home.left, home.width - box.offsetWidth)) + "px";
  box.style.top = (below < high && at.top > high ? at.top - home.top - high + 4 : at.bottom - home.top + 4) + "px";
}

let opener = null;
function openPanel(node, label, ...content) {
  tip.hidden = true; opener = node;
  panel.setAttribute("role", "dialog"); panel.setAttribute("aria-label", label);
  panel.replaceChildren(...content);
  place(panel, node);
  panel.querySelector("button:not(:disabled), select, input")?.focus({ preventScroll: true });
}
function closePanel() {
  if (panel.hidden) return;
  const within = panel.contains(document.activeElement);
  panel.hidden = true;
  if (within && opener?.isConnected) opener.focus({ preventScroll: true });
}
panel.addEventListener("keydown", (event) => { if (event.key === "Escape") { event.stopPropagation(); closePanel(); } });
document.addEventListener("pointerdown", (event) => {
  if (!panel.hidden && !panel.contains(event.target) && !opener?.contains(event.target)) closePanel();
});

// The bar: add, presets, back, text or one of the token views
const add = button("+ " + say.add, say.add, () => { insert({ strategy: "nucleus", model: "", knobs: {} }); publish(); }, "ts-small ts-add");
const authors = button("+ " + say.authors, say.authors_help, () => ask({ kind: "authors" }), "ts-small ts-authors");
const back = button("↩ " + say.back, say.back, goBack, "ts-small ts-back");
const presets = make("select", "ts-presets");
presets.setAttribute("aria-label", say.presets);
presets.append(option("", say.presets), ...props.presets.map((one) => option(one.key, one.title)));
presets.addEventListener("change", () => {
  const chosen = props.presets.find((one) => one.key === presets.value);
  if (chosen) { keep(); lay(chosen.columns); publish(); }
  presets.value = "";
});
const looks = make("label", "ts-looks"), look = make("select", "ts-look");
look.append(...["text", "probability", "rank", "entropy", "surprise"].map((one) => option(one, say["view_" + one])));
look.title = say.view_help;
look.addEventListener("change", () => {
  view = look.value;
  tip.hidden = true; closePanel();
  drawLegend();
  for (const card of cards) { card.shown = null; write(card); }
});
looks.append(make("span", "", say.view), look);
bar.append(add, authors, presets, back, looks);

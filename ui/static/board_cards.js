// Cards: made, doubled, removed, laid out anew and brought back.
function lay(columns) {
  cards = []; grid.replaceChildren();
  closePanel(); tip.hidden = true;
  for (const column of columns) insert({ strategy: column.strategy, model: column.model || "", knobs: { ...column.knobs } });
}

function keep() { earlier.push(cards); if (earlier.length > 20) earlier.shift(); }

function goBack() {
  cards = earlier.pop();
  grid.replaceChildren(...cards.map((card) => card.node));
  for (const card of cards) { modelPicker(card); write(card); }
  publish();
}

function insert(column, before) {
  const card = { from: null, title: "", ...column, output: null, packed: "", tokens: null, shown: null, ran: null };
  build(card);
  if (before) { cards.splice(cards.indexOf(before) + 1, 0, card); before.node.after(card.node); }
  else { cards.push(card); grid.append(card.node); }
  return card;
}

function build(card) {
  card.node = make("article", "ts-col");
  const head = make("header");
  const copy = button("", say.duplicate, () => {
    if (cards.length < MOST) { insert({ ...columnOf(card), from: card.from, title: card.title }, card); publish(); }
  }, "ts-icon ts-copy");
  const sweep = button("", say.sweep, () => sweepPanel(card, sweep), "ts-icon ts-sweep");
  card.remove = button("", say.remove, () => { cards.splice(cards.indexOf(card), 1); card.node.remove(); closePanel(); publish(); }, "ts-icon ts-close");
  head.append(strategyPicker(card), sweep, copy, card.remove);
  card.marks = make("div", "ts-marks");
  card.models = make("div", "ts-models");
  card.settings = make("details", "ts-knobs");
  card.text = make("div", "ts-out"); card.text.tabIndex = 0;
  card.figures = make("footer");
  card.aside = make("details", "ts-aside");
  card.node.append(head, card.marks, card.models, card.settings, card.text, card.figures, card.aside);
  listen(card);
  modelPicker(card); knobs(card); write(card);
}

// The closed field of a select cannot wrap, so its title is written under it, and the select itself is seen through.
function strategyPicker(card) {
  const picker = make("select", "ts-strategy");
  picker.setAttribute("aria-label", say.strategy);
  for (const [family, label] of props.families) {
    const group = make("optgroup");
    group.label = label;
    group.append(...strategies.filter((one) => one.family === family).map((one) => option(one.key, one.title)));
    picker.append(group);
  }
  picker.value = card.strategy;
  const box = make("label", "ts-pick"), title = make("span");
  const name = () => { title.textContent = strategyOf(card).title; };
  name();
  picker.addEventListener("change", () => {
    const kept = strategies.find((one) => one.key === picker.value).more.map((knob) => knob.name).filter((name) => name === "start");
    card.knobs = Object.fromEntries(Object.entries(card.knobs).filter(([name]) => kept.includes(name)));
    card.strategy = picker.value; card.title = "";
    name(); knobs(card); publish();
  });
  box.append(title, picker);
  return box;
}

// Chips for where a column comes from: its authors, or a place in another column's text.
function marks(card) {
  const start = card.knobs.start, chips = [];
  if (card.title) chips.push(make("span", "ts-mark", card.title));
  if (start) chips.push(make("span", "ts-mark", card.from === null ? fill(say.from_ids, { count: idsOf(start).split(",").length }) : fill(say.from, { piece: visible(card.from) })));
  card.marks.replaceChildren(...chips);
  card.marks.hidden = !chips.length;
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

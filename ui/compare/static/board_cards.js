// The cards of the board, each a strategy with its settings and a model: made, duplicated, removed, laid out anew and
// brought back. `publish()` tells the server the columns, `ask(question)` asks the server something.
/* exported boardCards */
function boardCards(state, frame, output, { publish, ask }) {
  const { words, strategies, most } = state, { make, option, button, fill, grid } = frame;
  const strategyOf = (card) => strategies.find((strategy) => strategy.key === card.strategy);
  const columnOf = ({ strategy, model, knobs }) => ({ strategy, model, knobs: { ...knobs } });

  function lay(columns) {
    state.cards = []; grid.replaceChildren();
    frame.closePanel(); frame.hideTip();
    for (const column of columns) insert({ strategy: column.strategy, model: column.model || "", knobs: { ...column.knobs } });
  }

  // The cards as they are become the ones that "back" brings back.
  function keep() { state.earlier.push(state.cards); if (state.earlier.length > 20) state.earlier.shift(); }

  function back() {
    state.cards = state.earlier.pop();
    grid.replaceChildren(...state.cards.map((card) => card.node));
    for (const card of state.cards) { modelPicker(card); output.paint([card]); }
    publish();
  }

  // Adds a card, behind the card `before` where there is one. `from` and `title` say where its column comes from;
  // `ran` is the column that its output was made of.
  function insert(column, before) {
    const card = { from: null, title: "", ...column, output: null, packed: "", tokens: null, shown: null, ran: null };
    build(card);
    if (before) { state.cards.splice(state.cards.indexOf(before) + 1, 0, card); before.node.after(card.node); }
    else { state.cards.push(card); grid.append(card.node); }
    return card;
  }

  function remove(card) {
    state.cards.splice(state.cards.indexOf(card), 1);
    card.node.remove();
    frame.closePanel(); publish();
  }

  function duplicate(card) {
    if (state.cards.length >= most) return;
    insert({ ...columnOf(card), from: card.from, title: card.title }, card);
    publish();
  }

  function build(card) {
    card.node = make("article", "ts-col");
    const head = make("header");
    const sweep = button("", words.sweep, () => sweepPanel(card, sweep), "ts-icon ts-sweep");
    const copy = button("", words.duplicate, () => duplicate(card), "ts-icon ts-copy");
    card.remove = button("", words.remove, () => remove(card), "ts-icon ts-close");
    head.append(strategyPicker(card), sweep, copy, card.remove);
    card.marks = make("div", "ts-marks");
    card.models = make("div", "ts-models");
    card.settings = make("details", "ts-knobs");
    card.text = make("div", "ts-out"); card.text.tabIndex = 0;
    card.figures = make("footer");
    card.aside = make("details", "ts-aside");
    card.node.append(head, card.marks, card.models, card.settings, card.text, card.figures, card.aside);
    output.listen(card);
    modelPicker(card); settings(card); output.paint([card]);
  }

  // The closed field of a select cannot wrap, so its title is written under it, and the select itself is transparent.
  function strategyPicker(card) {
    const picker = make("select", "ts-strategy");
    picker.setAttribute("aria-label", words.strategy);
    for (const [family, label] of state.families) {
      const group = make("optgroup");
      group.label = label;
      group.append(...strategies.filter((strategy) => strategy.family === family).map(({ key, title }) => option(key, title)));
      picker.append(group);
    }
    picker.value = card.strategy;
    const box = make("label", "ts-pick"), title = make("span");
    const retitle = () => { title.textContent = strategyOf(card).title; };
    retitle();
    picker.addEventListener("change", () => {
      card.strategy = picker.value; card.title = "";
      const { start } = card.knobs, takesStart = strategyOf(card).more.some((knob) => knob.name === "start");
      card.knobs = takesStart && start !== undefined ? { start } : {};
      retitle(); settings(card); publish();
    });
    box.append(title, picker);
    return box;
  }

  // Chips that say where a column comes from: the model's authors, or a place in another column's text.
  function marks(card) {
    const start = card.knobs.start, chips = [];
    if (card.title) chips.push(make("span", "ts-mark", card.title));
    if (start) {
      const ids = () => fill(words.from_ids, { count: idsOf(start).split(",").length });
      chips.push(make("span", "ts-mark", card.from === null ? ids() : fill(words.from, { piece: output.visible(card.from) })));
    }
    card.marks.replaceChildren(...chips);
    card.marks.hidden = !chips.length;
  }

  function modelPicker(card) {
    const select = make("select", "ts-model");
    select.setAttribute("aria-label", words.model);
    const known = state.models.some(([value]) => value === card.model);
    select.append(...state.models.map(([value, label]) => option(value, label)), option("?", words.other_model));
    select.value = known ? card.model : "?";
    const typed = make("input", "ts-other");
    typed.placeholder = words.other_hint; typed.value = known ? "" : card.model; typed.hidden = known;
    typed.setAttribute("aria-label", words.other_model);
    select.addEventListener("change", () => {
      typed.hidden = select.value !== "?";
      card.model = select.value === "?" ? typed.value.trim() : select.value;
      if (!typed.hidden) typed.focus();
      publish();
    });
    typed.addEventListener("input", () => { card.model = typed.value.trim(); publish(); });
    card.models.replaceChildren(select, typed);
  }

  // A card's settings: the strategy's own at once, everything else that it takes folded under "More settings".
  function settings(card) {
    const strategy = strategyOf(card), open = card.settings.open, more = card.settings.querySelector(".ts-more")?.open;
    const summary = make("summary");
    const retitle = () => {
      const own = strategy.knobs.map((knob) => `${knob.name} ${card.knobs[knob.name] ?? knob.default}`);
      const set = strategy.more.filter((knob) => card.knobs[knob.name] !== undefined && knob.name !== "start");
      const listed = [...own, ...set.map((knob) => `${knob.name} ${card.knobs[knob.name]}`)].join(" · ");
      summary.title = summary.textContent = listed || words.no_settings;
    };
    const changed = () => { retitle(); marks(card); publish(); };
    const about = make("p", "ts-about", strategy.about), source = make("cite", "", `${words.source}: ${strategy.source}`);
    about.append(make("br"), source);
    const others = make("details", "ts-more");
    others.append(make("summary", "", words.more));
    for (const group of new Set(strategy.more.map((knob) => knob.group))) {
      const rows = strategy.more.filter((knob) => knob.group === group).map((knob) => row(card, knob, false, changed));
      others.append(make("h5", "", group), ...rows);
    }
    others.open = Boolean(more);
    card.settings.replaceChildren(summary, ...strategy.knobs.map((knob) => row(card, knob, true, changed)), about, others);
    card.settings.open = open;
    retitle(); marks(card);
  }

  // An own setting shows its default; any other is empty until it is set. What is empty is not sent.
  function row(card, knob, own, changed) {
    const line = make("label", knob.type === "texts" || knob.type === "ids" ? "ts-long" : ""), field = fieldOf(knob, own);
    line.title = knob.help;
    const value = String(card.knobs[knob.name] ?? (own ? knob.default : ""));
    field.value = knob.type === "ids" ? idsOf(value) : value;
    field.addEventListener("input", () => {
      if (field.value === "") delete card.knobs[knob.name];
      else card.knobs[knob.name] = field.value;
      if (knob.name === "start") card.from = null;
      changed();
    });
    line.append(make("span", "", knob.name), field);
    return line;
  }

  // Ids without the text that they say.
  function idsOf(value) { return String(value).split(":")[0]; }

  function fieldOf(knob, own) {
    const field = make(knob.choices.length ? "select" : "input");
    field.name = knob.name;
    if (knob.choices.length) {
      field.append(...(own ? [] : [option("", words.not_set)]), ...knob.choices.map((choice) => option(choice, choice)));
    } else if (knob.type === "texts" || knob.type === "ids") {
      field.type = "text"; field.spellcheck = false; field.autocomplete = "off";
      field.placeholder = knob.type === "texts" ? words.texts_hint : words.ids_hint;
    } else {
      // Arrow keys count from the least value, so that one is put on the grid of the steps.
      field.type = "number"; field.step = knob.step; field.inputMode = knob.type === "int" ? "numeric" : "decimal";
      field.min = Number((Math.floor(knob.minimum / knob.step) * knob.step).toFixed(4)); field.max = knob.maximum;
      field.placeholder = own ? knob.default : words.not_set;
    }
    return field;
  }

  // A sweep: one setting of a card over several values, in the place of the board; "back" brings the board back.
  function sweepPanel(card, node) {
    const { knobs, more } = strategyOf(card);
    const numbers = [...knobs, ...more].filter((knob) => knob.type === "int" || knob.type === "float" || knob.choices.length > 2);
    const form = make("form", "ts-sweepform"), knob = sweepField("select", "knob"), scale = sweepField("select", "scale");
    const low = sweepField("input", "low"), high = sweepField("input", "high"), count = sweepField("input", "count");
    const values = sweepField("input", "values", words.sweep_list), fields = [knob, low, high, count, scale, values];
    knob.input.append(...numbers.map(({ name }) => option(name, name)));
    for (const field of [low, high, count]) { field.input.type = "number"; field.input.step = "any"; }
    count.input.min = 3; count.input.max = most; count.input.value = 5;
    scale.input.append(option("linear", words.sweep_linear), option("log", words.sweep_log));
    values.input.placeholder = words.sweep_list_hint;
    const suggest = () => {
      const chosen = numbers.find((number) => number.name === knob.input.value), listed = chosen.choices.length > 0;
      const now = Number(card.knobs[chosen.name] ?? chosen.default) || 0, least = Math.max(chosen.minimum, 0);
      low.input.value = listed ? "" : round(Math.max(chosen.minimum, now > least ? now / 2 : least), chosen);
      high.input.value = listed ? "" : round(Math.min(chosen.maximum, now > least ? now * 2 : Math.max(1, least + 4)), chosen);
      values.input.value = listed ? chosen.choices.join(", ") : "";
    };
    knob.input.addEventListener("change", suggest);
    const buttons = make("div", "ts-buttons");
    buttons.append(make("button", "ts-small ts-on", words.sweep_go), button(words.close, words.close, frame.closePanel));
    form.noValidate = true;
    form.append(make("div", "ts-tiphead", words.sweep), make("p", "ts-tipfacts", words.sweep_about));
    form.append(...fields.map((field) => field.label), buttons);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const typed = Object.fromEntries(fields.map((field) => [field.input.name, field.input.value]));
      ask({ kind: "sweep", card: state.cards.indexOf(card), ...typed });
    });
    suggest();
    frame.openPanel(node, words.sweep, form);
  }

  function sweepField(tag, name, label = words["sweep_" + name]) {
    const input = make(tag), node = make("label", name === "values" || name === "knob" ? "ts-long" : "");
    input.name = name;
    node.append(make("span", "", label), input);
    return { label: node, input };
  }

  function round(value, knob) { return knob.type === "int" ? Math.round(value) : Number(value.toPrecision(3)); }

  return { lay, keep, back, insert, columnOf, modelPicker };
}

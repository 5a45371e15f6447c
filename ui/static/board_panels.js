// A sweep: one setting of a card over several values, in the place of the board; "back" brings the board back.
function sweepPanel(card, node) {
  const strategy = strategyOf(card), numbers = [...strategy.knobs, ...strategy.more].filter((knob) => knob.type === "int" || knob.type === "float" || knob.choices.length > 2);
  const form = make("form", "ts-sweepform"), knob = field(make("select"), "knob", say.sweep_knob);
  knob.input.append(...numbers.map((one) => option(one.name, one.name)));
  const low = field(make("input"), "low", say.sweep_low), high = field(make("input"), "high", say.sweep_high);
  const count = field(make("input"), "count", say.sweep_count), scale = field(make("select"), "scale", say.sweep_scale);
  const values = field(make("input"), "values", say.sweep_list);
  for (const one of [low, high, count]) { one.input.type = "number"; one.input.step = "any"; }
  count.input.min = 3; count.input.max = MOST; count.input.value = 5;
  scale.input.append(option("linear", say.sweep_linear), option("log", say.sweep_log));
  values.input.placeholder = say.sweep_list_hint;
  const suggest = () => {
    const chosen = numbers.find((one) => one.name === knob.input.value), listed = chosen.choices.length > 0;
    const now = Number(card.knobs[chosen.name] ?? chosen.default) || 0, least = Math.max(chosen.minimum, 0);
    low.input.value = listed ? "" : round(Math.max(chosen.minimum, now > least ? now / 2 : least), chosen);
    high.input.value = listed ? "" : round(Math.min(chosen.maximum, now > least ? now * 2 : Math.max(1, least + 4)), chosen);
    values.input.value = listed ? chosen.choices.join(", ") : "";
  };
  knob.input.addEventListener("change", suggest);
  const go = make("button", "ts-small ts-on", say.sweep_go), close = button(say.close, say.close, closePanel);
  const row = make("div", "ts-buttons");
  row.append(go, close);
  form.noValidate = true;
  form.append(make("div", "ts-tiphead", say.sweep), make("p", "ts-tipfacts", say.sweep_about), knob.label, low.label, high.label, count.label, scale.label, values.label, row);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask({ kind: "sweep", card: cards.indexOf(card), ...Object.fromEntries([knob, low, high, count, scale, values].map((one) => [one.input.name, one.input.value])) });
  });
  suggest();
  openPanel(node, say.sweep, form);
}

const round = (value, knob) => (knob.type === "int" ? Math.round(value) : Number(value.toPrecision(3)));

function field(input, name, label) {
  const node = make("label", name === "values" || name === "knob" ? "ts-long" : "");
  input.name = name;
  node.append(make("span", "", label), input);
  return { label: node, input };
}

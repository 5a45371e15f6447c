// A card's settings: the strategy's own at once, everything else that it takes folded under "More settings".
function knobs(card) {
  const strategy = strategyOf(card), open = card.settings.open, more = card.settings.querySelector(".ts-more")?.open;
  const summary = make("summary");
  const retitle = () => {
    const own = strategy.knobs.map((knob) => `${knob.name} ${card.knobs[knob.name] ?? knob.default}`);
    const set = strategy.more.filter((knob) => card.knobs[knob.name] !== undefined && knob.name !== "start");
    summary.textContent = [...own, ...set.map((knob) => `${knob.name} ${card.knobs[knob.name]}`)].join(" · ") || say.no_settings;
    summary.title = summary.textContent;
  };
  const changed = () => { retitle(); marks(card); publish(); };
  const about = make("p", "ts-about", strategy.about), source = make("cite", "", `${say.source}: ${strategy.source}`);
  about.append(make("br"), source);
  const others = make("details", "ts-more");
  others.append(make("summary", "", say.more));
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
const idsOf = (value) => String(value).split(":")[0];

function fieldOf(knob, own) {
  const field = make(knob.choices.length ? "select" : "input");
  field.name = knob.name;
  if (knob.choices.length) {
    field.append(...(own ? [] : [option("", say.not_set)]), ...knob.choices.map((choice) => option(choice, choice)));
  } else if (knob.type === "texts" || knob.type === "ids") {
    field.type = "text"; field.spellcheck = false; field.autocomplete = "off";
    field.placeholder = knob.type === "texts" ? say.texts_hint : say.ids_hint;
  } else {
    // Arrow keys count from the least value, so that one is put on the grid of the steps.
    field.type = "number"; field.step = knob.step; field.inputMode = knob.type === "int" ? "numeric" : "decimal";
    field.min = Number((Math.floor(knob.minimum / knob.step) * knob.step).toFixed(4)); field.max = knob.maximum;
    field.placeholder = own ? knob.default : say.not_set;
  }
  return field;
}

// The board of Compare: cards side by side, each a strategy with its settings and a model, with its output below. This
// script makes the state and the three modules that share it, draws the bar, and takes updates from the server.
/* global boardFrame, boardOutput, boardCards */
const { words, strategies, families, presets, figures, most } = props;
const state = {
  // As the server drew the board; these stay as they are.
  words, strategies, families, presets, figures, most,
  // The models that a card can choose: [value, label].
  models: props.models,
  // The cards on the board, in their order, and boards before this one.
  cards: [], earlier: [],
  // The comparison that runs or ran last: its number, and the cards of its columns.
  run: null, running: [],
  // "text" or one of the token views.
  view: "text",
  // The number of the last question to the server.
  questions: 0,
};
const frame = boardFrame(element);
const output = boardOutput(state, frame, goOn);
const cards = boardCards(state, frame, output, { publish, ask });

function publish(question) {
  props.value = { columns: state.cards.map(cards.columnOf), ...(question ? { ask: question } : {}) };
  add.disabled = authors.disabled = state.cards.length >= most;
  back.hidden = !state.earlier.length;
  for (const card of state.cards) card.remove.disabled = state.cards.length <= 1;
}

// The server answers through the feed of answers, and reports errors itself.
function ask(question) {
  publish({ ...question, number: ++state.questions });
  setTimeout(() => { trigger("submit"); });
}

// A column that continues from another token: behind the card that it comes from, or last where that card is gone.
function goOn(card, column, from) {
  const made = cards.insert({ ...column, from }, state.cards.includes(card) ? card : state.cards.at(-1));
  frame.closePanel(); publish();
  made.node.scrollIntoView({ block: "nearest", inline: "nearest" });
  made.text.querySelector(".ts-run")?.focus({ preventScroll: true });
}

// The bar: add, presets, back, text or one of the token views.
const { make, option, button } = frame;
const add = button("+ " + words.add, words.add, () => {
  cards.insert({ strategy: "nucleus", model: "", knobs: {} });
  publish();
}, "ts-small ts-add");
const authors = button("+ " + words.authors, words.authors_help, () => ask({ kind: "authors" }), "ts-small ts-authors");
const back = button("↩ " + words.back, words.back, cards.back, "ts-small ts-back");
frame.bar.append(add, authors, presetPicker(), back, viewPicker());

function presetPicker() {
  const picker = make("select", "ts-presets");
  picker.setAttribute("aria-label", words.presets);
  picker.append(option("", words.presets), ...presets.map(({ key, title }) => option(key, title)));
  picker.addEventListener("change", () => {
    const chosen = presets.find((preset) => preset.key === picker.value);
    if (chosen) { cards.keep(); cards.lay(chosen.columns); publish(); }
    picker.value = "";
  });
  return picker;
}

function viewPicker() {
  const box = make("label", "ts-looks"), picker = make("select", "ts-look");
  const views = ["text", "probability", "rank", "entropy", "surprise"];
  picker.append(...views.map((name) => option(name, words["view_" + name])));
  picker.title = words.view_help;
  picker.addEventListener("change", () => {
    state.view = picker.value;
    frame.hideTip(); frame.closePanel();
    output.drawLegend();
    for (const card of state.cards) { card.shown = null; output.paint([card]); }
  });
  box.append(make("span", "", words.view), picker);
  return box;
}

// Updates from the server: columns and their tokens, the models to choose from, answers to questions.
function begin(run) {
  if (run === undefined || run === state.run) return;
  state.run = run; state.running = state.cards.slice();
  frame.hideTip(); frame.closePanel();
  for (const card of state.running) {
    const empty = { firm: "", draft: "", writing: true, figures: [] };
    Object.assign(card, { output: empty, packed: "", tokens: null, shown: null, ran: cards.columnOf(card) });
  }
  output.paint(state.running);
}

// After a comparison that ended with an error, a card without text is as it was before.
function leave(card) {
  if (!card.output?.writing) return;
  card.output = card.output.firm || card.output.draft ? { ...card.output, writing: false } : null;
  output.paint([card]);
}

function show(update) {
  if (!update) return;
  if (update.models) { state.models = update.models; for (const card of state.cards) cards.modelPicker(card); }
  begin(update.run);
  const { running } = state;
  for (const [index, card] of running.entries()) {
    if (update.packed && index < update.packed.length) Object.assign(card, { packed: update.packed[index], tokens: null });
    if (update.columns && index < update.columns.length) card.output = update.columns[index];
  }
  if (update.packed || update.columns?.length) output.soon(running.filter((card) => state.cards.includes(card)));
  if (update.over) for (const card of running) leave(card);
  if (update.lay) { cards.keep(); cards.lay(update.lay); publish(); }
  if (update.add && state.cards.length < most) {
    const made = cards.insert({ model: "", ...update.add, title: words.by_authors });
    made.node.scrollIntoView({ block: "nearest" });
    publish();
  }
}

// When a tab is shown for the first time, Gradio sets the values that it drew the page with once more: what a link laid
// out meanwhile would be on the cards and not in the value.
watch("value", () => {
  if (JSON.stringify(props.value?.columns) !== JSON.stringify(state.cards.map(cards.columnOf))) publish();
});

window.tunescopeBoard = { show };
cards.lay((props.value && props.value.columns) || presets[0].columns);
publish();
for (const update of Object.values(window.tunescopeFeeds || {})) show(update);

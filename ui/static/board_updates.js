// Updates from the server: what columns write, their tokens, the models to choose from, answers to what was asked.
function begin(run) {
  if (run === undefined || run === seen) return;
  seen = run; running = cards.slice();
  tip.hidden = true; closePanel();
  for (const card of running) {
    Object.assign(card, { output: { firm: "", draft: "", writing: true, figures: [] }, packed: "", tokens: null, shown: null, ran: columnOf(card) });
    write(card);
  }
}

function show(update) {
  if (!update) return;
  if (update.models) { models = update.models; for (const card of cards) modelPicker(card); }
  begin(update.run);
  (update.packed || []).forEach((packed, place) => {
    const card = running[place];
    if (card) { card.packed = packed; card.tokens = null; write(card); }
  });
  (update.columns || []).forEach((output, place) => {
    const card = running[place];
    if (card) { card.output = output; write(card); }
  });
  if (update.lay) { keep(); lay(update.lay); publish(); }
  if (update.add && cards.length < MOST) { insert({ model: "", ...update.add, title: say.by_authors }).node.scrollIntoView({ block: "nearest" }); publish(); }
}

window.tunescopeBoard = { show };
lay((props.value && props.value.columns) || props.presets[0].columns);
publish();
for (const update of Object.values(window.tunescopeFeeds || {})) show(update);

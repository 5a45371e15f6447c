// Updates from the server: what columns write, their tokens, the models to choose from, answers to what was asked.
function begin(run) {
  if (run === undefined || run === seen) return;
  seen = run; running = cards.slice();
  tip.hidden = true; closePanel();
  for (const card of running) {
    Object.assign(card, { output: { firm: "", draft: "", writing: true, figures: [] }, packed: "", tokens: null, shown: null, ran: columnOf(card) });
  }
  paint(running);
}

// A comparison that ended with an error: a card that has no text yet is as it was before.
function leave(card) {
  if (!card.output?.writing) return;
  card.output = card.output.firm || card.output.draft ? { ...card.output, writing: false } : null;
  write(card);
}

function show(update) {
  if (!update) return;
  if (update.models) { models = update.models; for (const card of cards) modelPicker(card); }
  begin(update.run);
  (update.packed || []).forEach((packed, place) => { if (running[place]) Object.assign(running[place], { packed, tokens: null }); });
  (update.columns || []).forEach((output, place) => { if (running[place]) running[place].output = output; });
  if (update.packed || update.columns?.length) soon(running.filter((card) => cards.includes(card)));
  if (update.over) for (const card of running) leave(card);
  if (update.lay) { keep(); lay(update.lay); publish(); }
  if (update.add && cards.length < MOST) { insert({ model: "", ...update.add, title: say.by_authors }).node.scrollIntoView({ block: "nearest" }); publish(); }
}

window.tunescopeBoard = { show };
lay((props.value && props.value.columns) || props.presets[0].columns);
publish();
for (const update of Object.values(window.tunescopeFeeds || {})) show(update);

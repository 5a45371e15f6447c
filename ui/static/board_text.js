// What a card shows: text with its draft, or coloured tokens; below it figures, notes and other texts.
function write(card) {
  const out = card.output, box = card.text;
  figures(card, out?.figures || []); aside(card, out);
  card.node.classList.toggle("ts-writing", Boolean(out?.writing));
  if (!out) { hint(card); return; }
  const low = box.scrollHeight - box.scrollTop - box.clientHeight < 30;
  const colours = view !== "text" && !out.error && tokensOf(card);
  box.classList.toggle("ts-colours", Boolean(colours));
  box.tabIndex = colours ? -1 : 0;
  if (out.error) { box.replaceChildren(make("span", "ts-fail", out.error)); card.shown = null; }
  else if (colours) { if (card.shown !== view) colour(card); return; }
  else text(card, out);
  if (low) box.scrollTop = box.scrollHeight;
}

// Firm text only grows, so what is new is put behind what stands.
function text(card, out) {
  let [firm, draft] = card.text.children;
  if (card.shown !== "text" || !firm) {
    firm = make("span", "ts-firm"); draft = make("span", "ts-draft");
    card.text.replaceChildren(firm, draft);
    card.shown = "text"; card.firm = "";
  }
  if (!out.writing || !out.firm.startsWith(card.firm)) { if (firm.textContent !== out.firm) firm.textContent = out.firm; }
  else if (out.firm.length > card.firm.length) firm.append(out.firm.slice(card.firm.length));
  card.firm = out.firm;
  if (draft.textContent !== out.draft) draft.textContent = out.draft;
}

function hint(card) {
  const waiting = cards.some((other) => other.output) || card.knobs.start, box = card.text;
  box.classList.remove("ts-colours");
  box.replaceChildren(make("p", "ts-hint", waiting ? say.not_written : say.hint));
  if (waiting) box.append(button(say.run, say.run, run, "ts-small ts-run"));
  card.shown = null;
}
function run() { document.querySelector("#compare-start")?.click(); }

// The labels stand there from the beginning, so that a card is as high before as after.
function figures(card, list) {
  const state = JSON.stringify(list);
  if (card.figures.dataset.state === state) return;
  card.figures.dataset.state = state;
  const shown = list.length ? list : props.figures.map((label) => ["–", label]);
  card.figures.replaceChildren(...shown.map(([value, label], place) => {
    const pair = make("span", place === 1 ? "ts-wider" : ""); pair.title = `${label}: ${value}`;
    pair.append(make("b", "", value), make("i", "", label));
    return pair;
  }));
}

// Notes and the other hypotheses: one line, whether there is something to tell or not; open by hand.
function aside(card, out) {
  const notes = out?.notes || [], others = out?.others || [], state = JSON.stringify([notes, others, out?.groups]);
  if (card.aside.dataset.state === state) return;
  card.aside.dataset.state = state;
  const shown = others.length > 1 ? others : [];
  const said = [...notes, ...(shown.length ? [`${out.groups ? say.group_best : say.others}: ${shown.length}`] : [])];
  const list = make("ol", "ts-others");
  list.append(...shown.map(([score, written]) => {
    const item = make("li"), value = make("b", "", score);
    value.title = say.score;
    item.append(value, make("span", "", written));
    return item;
  }));
  card.aside.classList.toggle("ts-empty-aside", !said.length);
  card.aside.replaceChildren(make("summary", "", said.join(" · ")), ...notes.map((note) => make("p", "", note)), ...(shown.length ? [list] : []));
  if (!said.length) card.aside.open = false;
}

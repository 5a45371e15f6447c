// What a card shows: text with its draft, or coloured tokens; below it figures, notes and other texts.
function write(card) { paint([card]); }

// Places are read first and written last, since each change between them would lay the page out anew.
function paint(list) {
  const low = list.map(({ text }) => text.scrollHeight - text.scrollTop - text.clientHeight < 30);
  list.forEach(draw);
  const heights = list.map(({ text }) => text.scrollHeight);
  list.forEach((card, place) => { if (low[place] && card.shown === "text") card.text.scrollTop = heights[place]; });
}

// Updates while text streams: painting takes at most a fifth of the time, however long the texts and slow the machine.
const waiting = new Set();
let rested = 0, due = 0;
function soon(list) {
  for (const card of list) waiting.add(card);
  if (!due) due = setTimeout(paintWaiting, Math.max(0, rested - performance.now()));
}
function paintWaiting() {
  const began = performance.now();
  due = 0;
  paint([...waiting]); waiting.clear();
  rested = performance.now() + 4 * (performance.now() - began);
}

function draw(card) {
  const out = card.output;
  figures(card, out?.figures || []); aside(card, out);
  card.node.classList.toggle("ts-writing", Boolean(out?.writing));
  if (!out) { hint(card); return; }
  const colours = view !== "text" && !out.error && tokensOf(card);
  card.text.classList.toggle("ts-colours", Boolean(colours));
  card.text.tabIndex = colours ? -1 : 0;
  if (out.error) { card.text.replaceChildren(make("span", "ts-fail", out.error)); card.shown = null; }
  else if (!colours) text(card, out);
  else if (card.shown !== view) colour(card);
}

function text(card, out) {
  let [firm, draft] = card.text.children;
  if (card.shown !== "text" || !firm) {
    firm = make("span", "ts-firm"); draft = make("span", "ts-draft");
    card.text.replaceChildren(firm, draft);
    card.shown = "text"; card.firm = "";
  }
  if (out.firm.startsWith(card.firm)) grow(firm, out.firm.slice(card.firm.length));
  else { firm.textContent = ""; grow(firm, out.firm); }
  card.firm = out.firm;
  if (draft.textContent !== out.draft) draft.textContent = out.draft;
}

// Firm text only grows, so what is new is put behind what stands. Paragraphs that are whole become blocks of their own:
// then only the last one is laid out again.
const BLOCK = 500;
function grow(firm, piece) {
  if (!piece) return;
  const tail = firm.lastChild?.nodeType === Node.TEXT_NODE ? firm.lastChild : firm.appendChild(document.createTextNode(""));
  tail.appendData(piece);
  const whole = tail.data.lastIndexOf("\n") + 1;
  if (whole <= BLOCK) return;
  firm.insertBefore(make("div", "", tail.data.slice(0, whole)), tail);
  tail.deleteData(0, whole);
}

function hint(card) {
  const again = cards.some((other) => other.output) || card.knobs.start, box = card.text;
  box.classList.remove("ts-colours");
  box.replaceChildren(make("p", "ts-hint", again ? say.not_written : say.hint));
  if (again) box.append(button(say.run, say.run, run, "ts-small ts-run"));
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
  const summary = make("summary", "", said.join(" · "));
  summary.title = summary.textContent;
  card.aside.replaceChildren(summary, ...notes.map((note) => make("p", "", note)), ...(shown.length ? [list] : []));
  if (!said.length) card.aside.open = false;
}

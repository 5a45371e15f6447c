// What a card shows of its column: the text and its draft or colored tokens, and below it figures, notes and other
// hypotheses. `goOn(card, column, from)` adds a column that continues from another token (shown as `from`).
/* exported boardOutput */
function boardOutput(state, frame, goOn) {
  const { words } = state, { make, button, fill } = frame;

  // Scroll positions are read first and written last: each change between two reads would lay the page out again.
  function paint(cards) {
    const low = cards.map(({ text }) => text.scrollHeight - text.scrollTop - text.clientHeight < 30);
    cards.forEach(draw);
    const heights = cards.map(({ text }) => text.scrollHeight);
    cards.forEach((card, index) => { if (low[index] && card.shown === "text") card.text.scrollTop = heights[index]; });
  }

  // Updates while text streams: painting takes at most a fifth of the time, however long the texts and slow the machine.
  const waiting = new Set();
  let rested = 0, due = 0;
  function soon(cards) {
    for (const card of cards) waiting.add(card);
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
    const colors = state.view !== "text" && !out.error && tokensOf(card);
    card.text.classList.toggle("ts-colours", Boolean(colors));
    card.text.tabIndex = colors ? -1 : 0;
    if (out.error) { card.text.replaceChildren(make("span", "ts-fail", out.error)); card.shown = null; }
    else if (!colors) text(card, out);
    else if (card.shown !== state.view) color(card);
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

  // Committed text only grows, so new text is appended. Whole paragraphs become blocks of their own: then the browser
  // lays out only the last one again.
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
    const again = state.cards.some((column) => column.output) || card.knobs.start, box = card.text;
    box.classList.remove("ts-colours");
    box.replaceChildren(make("p", "ts-hint", again ? words.not_written : words.hint));
    if (again) box.append(button(words.run, words.run, run, "ts-small ts-run"));
    card.shown = null;
  }
  function run() { document.querySelector("#compare-start")?.click(); }

  // The labels are there from the beginning, so that a card has the same height before and after.
  function figures(card, list) {
    const now = JSON.stringify(list);
    if (card.figures.dataset.state === now) return;
    card.figures.dataset.state = now;
    const shown = list.length ? list : state.figures.map((label) => ["–", label]);
    card.figures.replaceChildren(...shown.map(([value, label], index) => {
      const pair = make("span", index === 1 ? "ts-wider" : "");
      pair.title = `${label}: ${value}`;
      pair.append(make("b", "", value), make("i", "", label));
      return pair;
    }));
  }

  // Notes and the other hypotheses: one line, empty or not; the user opens it.
  function aside(card, out) {
    const notes = out?.notes || [], others = out?.others || [], now = JSON.stringify([notes, others, out?.groups]);
    if (card.aside.dataset.state === now) return;
    card.aside.dataset.state = now;
    const shown = others.length > 1 ? others : [];
    const said = [...notes, ...(shown.length ? [`${out.groups ? words.group_best : words.others}: ${shown.length}`] : [])];
    const list = make("ol", "ts-others");
    list.append(...shown.map(([score, written]) => {
      const item = make("li"), value = make("b", "", score);
      value.title = words.score;
      item.append(value, make("span", "", written));
      return item;
    }));
    card.aside.classList.toggle("ts-empty-aside", !said.length);
    const summary = make("summary", "", said.join(" · "));
    summary.title = summary.textContent;
    card.aside.replaceChildren(summary, ...notes.map((note) => make("p", "", note)), ...(shown.length ? [list] : []));
    if (!said.length) card.aside.open = false;
  }

  // The token views: six steps from expected to surprising.
  const VIEWS = {
    probability: {
      of: (token) => -token.p, bounds: [-0.9, -0.5, -0.2, -0.05, -0.01],
      names: ["≥ 90 %", "50–90 %", "20–50 %", "5–20 %", "1–5 %", "< 1 %"],
    },
    rank: { of: (token) => token.rank - 0.5, bounds: [1, 2, 5, 20, 100], names: ["1", "2", "3–5", "6–20", "21–100", "> 100"] },
    entropy: {
      of: (token) => token.entropy, bounds: [0.5, 1, 2, 4, 6],
      names: ["< 0.5", "0.5–1", "1–2", "2–4", "4–6", "≥ 6"], unit: true,
    },
    surprise: {
      of: (token) => token.surprise, bounds: [0.5, 1, 2, 4, 7],
      names: ["< 0.5", "0.5–1", "1–2", "2–4", "4–7", "≥ 7"], unit: true,
    },
  };
  function stepOf(token) {
    const { of, bounds } = VIEWS[state.view], value = of(token), index = bounds.findIndex((bound) => value <= bound);
    return index < 0 ? bounds.length : index;
  }

  function drawLegend() {
    const scale = VIEWS[state.view], { legend } = frame;
    legend.hidden = !scale;
    if (!scale) return;
    const title = words["view_" + state.view] + (scale.unit ? ` (${words.bits})` : "");
    const swatches = scale.names.map((name, index) => make("span", `ts-swatch ts-s${index}`, name));
    legend.replaceChildren(make("span", "", title), ...swatches);
  }

  // A run's tokens arrive packed; they are unpacked the first time that they are shown.
  function tokensOf(card) {
    if (card.tokens || !card.packed) return card.tokens;
    const { pieces, tokens } = JSON.parse(card.packed);
    const option = (id, p, after) => ({ id, piece: pieces[id], p, after });
    card.tokens = tokens.map(([id, p, rank, entropy, after, kept, ids, before, later, added]) => ({
      ...option(id, p, after), text: added ?? pieces[id], rank, kept,
      entropy: entropy / Math.LN2, surprise: p > 0 ? Math.abs(Math.log2(p)) : Infinity,
      top: ids.map((alternative, index) => option(alternative, before[index], later ? later[index] : null)),
    }));
    return card.tokens;
  }

  // What cannot be seen is shown by a sign: spaces alone, line breaks, tabs, nothing at all.
  function visible(piece) {
    const signs = piece.replace(/\r/g, "␍").replace(/\n/g, "⏎").replace(/\t/g, "⇥");
    return signs === "" ? "∅" : signs.trim() === "" ? signs.replace(/ /g, "␣") : signs;
  }
  // What a token adds to the text: of a character in several tokens the last one shows it, the others a dot.
  const partial = (token) => token.text === "" && token.piece !== "";
  const shownOf = (token) => (partial(token) ? "·" : visible(token.text));
  const namedAs = (token) => (partial(token) ? words.part : `“${visible(token.text)}”`);
  const figure = (value) => (Number.isFinite(value) ? value.toFixed(value < 10 ? 2 : 1) : "∞");
  function percent(share) {
    return (share >= 0.0995 ? (100 * share).toFixed(0) : share >= 0.00005 ? (100 * share).toPrecision(2) : "< 0.01") + " %";
  }

  // The space before a word stays without color, so that a line that ends there does not end in a stray block.
  function color(card) {
    const nodes = card.tokens.flatMap((token, index) => {
      const signs = shownOf(token), gap = signs.match(/^ */)[0], breaks = token.text.includes("\n");
      const node = make("span", `ts-token ts-s${stepOf(token)}`, signs.slice(gap.length) + (breaks ? "\n" : ""));
      node.dataset.place = index; node.tabIndex = index ? -1 : 0;
      node.setAttribute("role", "button");
      node.setAttribute("aria-label", `${namedAs(token)}, ${percent(token.p)}`);
      return gap ? [gap, node] : [node];
    });
    card.text.replaceChildren(...nodes);
    card.shown = state.view;
  }

  // One listener a card: the pointer or the focus on a token explains the token, a click or Enter opens its menu.
  function listen(card) {
    const box = card.text, at = (event) => event.target.closest(".ts-token");
    const show = (event) => { const node = at(event); if (node) explain(card, node); };
    box.addEventListener("pointerover", (event) => { if (event.pointerType !== "touch") show(event); });
    box.addEventListener("focusin", (event) => { if (at(event)?.matches(":focus-visible")) show(event); });
    for (const left of ["pointerout", "focusout", "scroll"]) box.addEventListener(left, frame.hideTip);
    box.addEventListener("click", (event) => { const node = at(event); if (node) { focusToken(node); menu(card, node); } });
    box.addEventListener("keydown", (event) => { const node = at(event); if (node) press(card, node, event); });
  }

  function focusToken(node) {
    for (const token of node.parentNode.querySelectorAll('[tabindex="0"]')) token.tabIndex = -1;
    node.tabIndex = 0; node.focus();
  }

  function press(card, node, event) {
    const moves = {
      ArrowRight: () => node.nextElementSibling, ArrowLeft: () => node.previousElementSibling,
      Home: () => node.parentNode.firstElementChild, End: () => node.parentNode.lastElementChild,
      ArrowDown: () => lineAway(node, 1), ArrowUp: () => lineAway(node, -1),
    };
    if (event.key in moves) { const next = moves[event.key](); if (next) focusToken(next); }
    else if (event.key === "Enter" || event.key === " ") menu(card, node);
    else if (event.key === "Escape") frame.hideTip();
    else return;
    event.preventDefault();
  }

  // The token nearest above or below.
  function lineAway(node, way) {
    const side = way > 0 ? "nextElementSibling" : "previousElementSibling", top = node.offsetTop;
    let best = null;
    for (let sibling = node[side]; sibling; sibling = sibling[side]) {
      if (sibling.offsetTop === top) continue;
      if (best && sibling.offsetTop !== best.offsetTop) break;
      if (!best || Math.abs(sibling.offsetLeft - node.offsetLeft) < Math.abs(best.offsetLeft - node.offsetLeft)) best = sibling;
    }
    return best;
  }

  // The alternatives with their probability before and after the processors; the chosen token is always among them.
  function alternatives(token) {
    return token.top.some((option) => option.id === token.id) ? token.top : [...token.top, token];
  }

  function table(token, choose) {
    const processed = token.after !== null || token.top.some((option) => option.after !== null), list = make("div", "ts-tiprows");
    list.classList.toggle("ts-plainly", !processed);
    const most = Math.max(...alternatives(token).map((option) => Math.max(option.p, option.after ?? 0))) || 1;
    const head = make("div", "ts-tiprow ts-tipnames");
    head.append(make("span"), make("span"), make("span", "", words.before));
    if (processed) head.append(make("span", "", words.after));
    list.append(head, ...alternatives(token).map((option) => tableRow(option, option.id === token.id, { processed, most, choose })));
    return list;
  }

  function tableRow(option, taken, { processed, most, choose }) {
    const row = make(choose ? "button" : "div", "ts-tiprow" + (taken ? " ts-taken" : "") + (option.after === 0 ? " ts-cutoff" : ""));
    const bars = make("span", "ts-bars"), before = make("i", "ts-bar-before"), after = make("i", "ts-bar-after");
    before.style.width = 100 * option.p / most + "%"; after.style.width = 100 * (option.after ?? 0) / most + "%";
    bars.append(before, ...(processed ? [after] : []));
    row.append(make("code", "", visible(option.piece)), bars, make("span", "", percent(option.p)));
    if (processed) row.append(make("span", "", option.after === null ? "–" : option.after === 0 ? words.cut : percent(option.after)));
    if (choose) {
      row.type = "button"; row.disabled = taken || state.cards.length >= state.most;
      row.addEventListener("click", () => choose(option));
    }
    return row;
  }

  function headOf(token) {
    const kept = token.kept === null ? "" : ` · ${fill(words.kept, { count: token.kept })}`;
    const entropy = `${words.view_entropy} ${figure(token.entropy)} ${words.bits}`;
    const surprise = `${words.view_surprise} ${figure(token.surprise)} ${words.bits}`;
    const facts = `${words.rank} ${token.rank} · ${entropy} · ${surprise}${kept}`;
    return [make("div", "ts-tiphead", `${namedAs(token)} ${percent(token.p)}`), make("div", "ts-tipfacts", facts)];
  }

  function explain(card, node) {
    const token = card.tokens[node.dataset.place];
    frame.showTip(node, ...headOf(token), table(token));
  }

  // Another token chosen here starts a new column, which continues the text from that token.
  function menu(card, node) {
    const token = card.tokens[node.dataset.place], full = state.cards.length >= state.most;
    const list = table(token, (choice) => branch(card, Number(node.dataset.place), choice));
    list.addEventListener("keydown", (event) => {
      const rows = [...list.querySelectorAll("button:not(:disabled)")], way = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!way) return;
      rows[(rows.indexOf(document.activeElement) + way + rows.length) % rows.length].focus();
      event.preventDefault();
    });
    const sentence = make("div", "ts-tipask", full ? fill(words.menu_full, { most: state.most }) : words.menu);
    frame.openPanel(node, words.menu, ...headOf(token), sentence, list);
  }

  // The new column begins with the ids, then the text of each token and, where it reads differently, that text, too: a
  // model with another tokenizer takes ids of its own from it.
  function branch(card, index, choice) {
    const begun = [...card.tokens.slice(0, index), choice], joined = (part) => escaped(begun.map(part).join(""));
    const pieces = joined((token) => token.piece), read = joined((token) => token.text ?? token.piece);
    const start = begun.map((token) => token.id).join(",") + ":" + pieces + (read === pieces ? "" : "|" + read);
    goOn(card, { ...card.ran, knobs: { ...card.ran.knobs, start } }, choice.piece);
  }
  function escaped(piece) { return piece.replace(/[\\|]/g, "\\$&").replace(/\n/g, "\\n").replace(/\t/g, "\\t"); }

  return { paint, soon, listen, drawLegend, visible };
}

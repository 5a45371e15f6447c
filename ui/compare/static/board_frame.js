// The frame of the Compare board: bar, color legend, grid of cards, one tip and one panel (a small dialog), and the
// helpers that make nodes. Every text enters the page as text (textContent), never as markup.
/* exported boardFrame */
function boardFrame(element) {
  function make(tag, className, text) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  function option(value, label) {
    const node = make("option", "", label);
    node.value = value;
    return node;
  }

  function button(label, title, action, className) {
    const node = make("button", className || "ts-small", label);
    node.type = "button"; node.title = title;
    if (!label) node.setAttribute("aria-label", title);
    node.addEventListener("click", action);
    return node;
  }

  // A sentence with each <name> replaced by the fact of that name.
  function fill(sentence, facts) {
    return sentence.replace(/<(\w+)>/g, (hole, name) => (name in facts ? facts[name] : hole));
  }

  const root = element.querySelector(".ts-board");
  const bar = make("div", "ts-boardbar"), legend = make("div", "ts-scale"), grid = make("div", "ts-grid");
  const tip = make("div", "ts-tip"), panel = make("div", "ts-tip ts-panel");
  tip.hidden = panel.hidden = legend.hidden = true;
  tip.setAttribute("role", "tooltip");
  root.replaceChildren(bar, legend, grid, tip, panel);

  // Places a box under a node, or above it where there is more room; always within the board's width.
  function place(box, node) {
    box.hidden = false;
    const at = node.getBoundingClientRect(), home = root.getBoundingClientRect();
    const below = window.innerHeight - at.bottom, high = box.offsetHeight + 8;
    box.style.left = Math.max(0, Math.min(at.left - home.left, home.width - box.offsetWidth)) + "px";
    box.style.top = (below < high && at.top > high ? at.top - home.top - high + 4 : at.bottom - home.top + 4) + "px";
  }

  // No tip is shown while the panel is open.
  function showTip(node, ...content) {
    if (!panel.hidden) return;
    tip.replaceChildren(...content);
    place(tip, node);
  }
  function hideTip() { tip.hidden = true; }

  // The node that opened the panel gets the focus back.
  let opener = null;
  function openPanel(node, label, ...content) {
    hideTip();
    opener = node;
    panel.setAttribute("role", "dialog"); panel.setAttribute("aria-label", label);
    panel.replaceChildren(...content);
    place(panel, node);
    panel.querySelector("button:not(:disabled), select, input")?.focus({ preventScroll: true });
  }
  function closePanel() {
    if (panel.hidden) return;
    const within = panel.contains(document.activeElement);
    panel.hidden = true;
    if (within && opener?.isConnected) opener.focus({ preventScroll: true });
  }
  panel.addEventListener("keydown", (event) => { if (event.key === "Escape") { event.stopPropagation(); closePanel(); } });
  document.addEventListener("pointerdown", (event) => {
    if (!panel.hidden && !panel.contains(event.target) && !opener?.contains(event.target)) closePanel();
  });

  return { make, option, button, fill, bar, legend, grid, showTip, hideTip, openPanel, closePanel };
}

// Tables that sort by their headers, beam trees that arrow keys walk through, and a tip with the facts behind either.
// The tip's text is set as text; the markup comes whole from the server and may be replaced at any time.
/* global sortTable */
const tip = document.createElement("div");
tip.className = "ts-tip ts-fact"; tip.id = "tip-" + Math.random().toString(36).slice(2); tip.hidden = true;
tip.setAttribute("role", "tooltip");
document.body.append(tip);

const fact = (node) => node.closest("[data-tip], [data-node]");
let described = null;

function tell(node) {
  hush();
  described = node;
  tip.textContent = node.dataset.tip || node.getAttribute("aria-label");
  if (node.dataset.tip) node.setAttribute("aria-describedby", tip.id);
  tip.hidden = false;
  const at = node.getBoundingClientRect(), own = tip.getBoundingClientRect();
  const below = at.bottom + 6 + own.height < innerHeight;
  tip.style.left = Math.max(6, Math.min(at.left, innerWidth - own.width - 6)) + "px";
  tip.style.top = (below ? at.bottom + 6 : at.top - own.height - 6) + "px";
}
function hush() { tip.hidden = true; if (described) described.removeAttribute("aria-describedby"); described = null; }

for (const [name, leave] of [["mouseover", "mouseout"], ["focusin", "focusout"]]) {
  element.addEventListener(name, (event) => { const node = fact(event.target); if (node) tell(node); });
  element.addEventListener(leave, hush);
}
addEventListener("scroll", hush, { capture: true, passive: true });
addEventListener("keydown", (event) => { if (event.key === "Escape") hush(); });

element.addEventListener("click", (event) => {
  const head = event.target.closest("[data-sortable] thead button");
  if (head) sortTable(head.closest("th"));
  const node = event.target.closest("[data-node]");
  if (node) stand(node);
});

// Tab reaches one hypothesis of a tree; from it the arrow keys move: left to its parent, right to its continuations, up
// and down within the step.
function stand(node) {
  for (const branch of node.parentNode.querySelectorAll("[data-node][tabindex='0']")) branch.setAttribute("tabindex", -1);
  node.setAttribute("tabindex", 0);
  node.focus();
}
function beside(node, key) {
  const tree = node.parentNode, { step, row } = node.dataset;
  const find = (query) => tree.querySelector(query);
  if (key === "ArrowLeft") return find(`[data-node="${node.dataset.parent}"]`);
  if (key === "ArrowRight") return find(`[data-parent="${node.dataset.node}"]`);
  if (key === "ArrowUp" || key === "ArrowDown") return find(`[data-step="${step}"][data-row="${+row + (key === "ArrowUp" ? -1 : 1)}"]`);
  return key === "Home" ? find("[data-node]") : null;
}
element.addEventListener("keydown", (event) => {
  const node = event.target.closest("[data-node]"), next = node && beside(node, event.key);
  if (!next) return;
  event.preventDefault();
  next.scrollIntoView({ block: "nearest", inline: "nearest" });
  stand(next);
});

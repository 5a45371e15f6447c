// A table of models: its headers sort it, the name of a model chooses it. The markup comes whole from the server.
element.addEventListener("click", (event) => {
  const head = event.target.closest("thead button"), chosen = event.target.closest("[data-choose]");
  if (head) sort(head.closest("th"));
  if (chosen) choose(chosen);
});

function choose(button) {
  for (const other of element.querySelectorAll("[data-choose]")) mark(other, other === button);
  window.tunescopeChoose?.[element.closest(".ts-pickerbox").id]?.(button.dataset.choose);
}
function mark(button, on) {
  button.setAttribute("aria-pressed", on);
  button.closest("tr").classList.toggle("ts-chosen", on);
}

// Numbers by size, names by the alphabet; what has no value last; equals as they stood.
function sort(head) {
  const heads = [...head.parentNode.children], place = heads.indexOf(head), body = head.closest("table").tBodies[0];
  const down = head.getAttribute("aria-sort") === "ascending";
  const value = (row) => {
    const { text, value } = row.children[place].dataset;
    return text !== undefined ? text.toLowerCase() : value === "" ? "" : Number(value);
  };
  const rows = [...body.rows].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (a === "" || b === "") return (a === "") - (b === "");
    const order = a < b ? -1 : a > b ? 1 : 0;
    return down ? -order : order;
  });
  for (const other of heads) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows);
}

// A table of models: its headers sort it, the name of a model chooses it. The markup comes whole from the server.
/* global sortTable */
element.addEventListener("click", (event) => {
  const head = event.target.closest("thead button"), chosen = event.target.closest("[data-choose]");
  if (head) sortTable(head.closest("th"));
  if (chosen) choose(chosen);
});

function choose(button) {
  for (const choice of element.querySelectorAll("[data-choose]")) mark(choice, choice === button);
  window.tunescopeChoose?.[element.closest(".ts-pickerbox").id]?.(button.dataset.choose);
}
function mark(button, on) {
  button.setAttribute("aria-pressed", on);
  button.closest("tr").classList.toggle("ts-chosen", on);
}

// Hands the model that was chosen in the table on to the server; numbered, since the same one may be chosen twice.
let number = 0;
(window.tunescopeChoose ??= {})[props.panel] = (name) => {
  props.value = { name, number: ++number };
  setTimeout(() => { trigger("submit"); });
};

// Hands what the server sends on to the board, whichever of the two is there first.
function hand() {
  (window.tunescopeFeeds ??= {})[props.feed] = props.value;
  window.tunescopeBoard?.show(props.value);
}
watch("value", hand);
hand();

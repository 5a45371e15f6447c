// Hands what the server sends on to the board, whichever of the two is there first.
const hand = () => { (window.tunescopeFeeds ??= {})[props.feed] = props.value; if (window.tunescopeBoard) window.tunescopeBoard.show(props.value); };
watch("value", hand);
hand();

// Makes the link and copies it. The address is known to the browser alone, since the server may be behind a proxy. Where
// the clipboard is refused, the field that shows the link has a button of its own.
(text) => {
  const address = location.origin + location.pathname + "?c=" + text;
  navigator.clipboard?.writeText(address).catch(() => {});
  return [address];
}

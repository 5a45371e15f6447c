// Sorts a table by the column of a header cell, ascending first: numbers by size (`data-value`), names by the alphabet
// (`data-text`), empty values last, and equal rows in the order that they had.
/* exported sortTable */
function sortTable(head) {
  const heads = [...head.parentNode.children], column = heads.indexOf(head), body = head.closest("table").tBodies[0];
  const down = head.getAttribute("aria-sort") === "ascending";
  const valueOf = (row) => {
    const { text, value } = row.children[column].dataset;
    return text !== undefined ? text.toLowerCase() : value === "" ? "" : Number(value);
  };
  const rows = [...body.rows].sort((first, second) => {
    const [a, b] = [valueOf(first), valueOf(second)];
    if (a === "" || b === "") return (a === "") - (b === "");
    const order = a < b ? -1 : a > b ? 1 : 0;
    return down ? -order : order;
  });
  for (const heading of heads) heading.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows);
}

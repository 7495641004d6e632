// Sort a table by the column whose head is clicked, and show everything in print.
document.querySelectorAll("th").forEach((head) => {
  head.tabIndex = 0;
  head.title = "Sort by this column";
  const sort = () => {
    const body = head.closest("table").tBodies[0];
    const column = head.cellIndex;
    const key = (row) => {
      const text = row.cells[column].textContent.trim().replace(/\u2212/g, "-").replace(/,/g, "");
      const number = parseFloat(text);
      return Number.isNaN(number) ? text : number;
    };
    const down = head.ariaSort !== "descending";
    head.parentNode.querySelectorAll("th").forEach((other) => { other.ariaSort = null; });
    head.ariaSort = down ? "descending" : "ascending";
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
      return (x < y ? 1 : x > y ? -1 : 0) * (down ? 1 : -1);
    };
    [...body.rows].sort(compare).forEach((row) => body.append(row));
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
});
if (window.matchMedia("(max-width: 70rem)").matches) document.getElementById("contents").open = false;
window.addEventListener("beforeprint", () => {
  document.querySelectorAll("main details").forEach((part) => { part.open = true; });
});

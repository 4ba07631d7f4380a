"use strict";
// The page is whole without this: it only lets columns be sorted and rows be filtered.
for (const table of document.querySelectorAll("table.board")) {
  const body = table.tBodies[0];
  const said = document.getElementById(table.id + "-said");
  const value = (row, column) => {
    const cell = row.cells[column];
    const number = cell.dataset.v;
    return number === undefined ? cell.textContent.trim().toLowerCase() : number === "" ? null : Number(number);
  };
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const first = head.dataset.first || "descending";
      const order = now === "ascending" ? "descending" : now === "descending" ? "ascending" : first;
      const sign = order === "ascending" ? 1 : -1;
      const rows = Array.from(body.rows, (row) => [value(row, column), row]);
      // What was not measured stands last in either order.
      rows.sort(([a], [b]) => (a === null) - (b === null) || sign * ((a > b) - (a < b)));
      body.append(...rows.map(([, row]) => row));
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      said.textContent = "Sorted by " + button.textContent.trim() + ", " + order + ".";
    });
  });
  const form = document.getElementById(table.id + "-filter");
  if (!form) continue;
  form.hidden = false;
  const apply = () => {
    const words = form.elements.words.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word)) || (form.elements.unseen.checked && "seen" in row.dataset);
      shown += !row.hidden;
    }
    said.textContent = shown + " of " + body.rows.length + " submissions shown.";
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
}

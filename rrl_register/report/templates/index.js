
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const body = byId("scenes").tBodies[0];
  const step = Number(byId("more").dataset.step);
  let limit = step;
  const rows = Array.from(body.rows, (row) => ({ row, text: row.textContent.toLowerCase() }));

  /* Unknown values come last in either order. */
  function comparison(name, kind, direction) {
    const read = (row) => (kind === "text" ? row.dataset[name] : row.dataset[name] === "" ? null : Number(row.dataset[name]));
    const order = kind === "text" ? new Intl.Collator(undefined, { numeric: true }).compare : (a, b) => a - b;
    const unknown = (value) => value === null || value === "";
    return (one, other) => {
      const [a, b] = [read(one.row), read(other.row)];
      if (unknown(a) || unknown(b)) return unknown(a) - unknown(b);
      return direction * order(a, b);
    };
  }

  function sortBy(button) {
    const head = button.closest("th");
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    rows.sort(comparison(button.dataset.sort, button.dataset.kind, descending ? -1 : 1));
    body.append(...rows.map(({ row }) => row));
    limit = step;
    show();
  }

  /* Layout of thousands of rows takes seconds: only the first rows are shown. */
  function show() {
    const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const state = byId("state").value;
    let fitting = 0;
    for (const { row, text } of rows) {
      const fits = (!state || row.dataset.state === state) && words.every((word) => text.includes(word));
      fitting += fits;
      row.hidden = !fits || fitting > limit;
    }
    byId("count").textContent = `${fitting} of ${rows.length}`;
    byId("none").hidden = fitting > 0;
    byId("more").hidden = fitting <= limit;
    byId("more").textContent = `Show ${Math.min(step, fitting - limit)} more`;
  }

  function filter() {
    limit = step;
    show();
  }

  for (const button of document.querySelectorAll("[data-sort]")) button.addEventListener("click", () => sortBy(button));
  byId("filter").addEventListener("input", filter);
  byId("state").addEventListener("change", filter);
  byId("more").addEventListener("click", () => { limit += step; show(); });
  filter();
})();

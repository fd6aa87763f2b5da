// Tables that stay fast with many rows: a page of them at a time, sorted by any
// column, narrowed down by a word.

const PAGE_ROWS = 25;

// Returns a table of `rows`.
//
// columns: of each `name`, `value` (row -> what it sorts by), optionally `cell`
//   (row -> text or element), `text` (words, to the left), `wide`.
// options: `key` names it, `label` says what it is, `foot` are texts of a last
//   row, `words` (row -> what the filter looks in), `rowClass` (row -> class).
function pagedTable(columns, rows, options) {
  const { key, label } = options;
  let order = memory.get(`${key}.order`, null);
  let start = memory.get(`${key}.start`, 0);
  const filter =
    rows.length > PAGE_ROWS && options.words
      ? filterField(`${key}-filter`, "Filter", () => {
          start = 0;
          draw();
        })
      : null;
  const body = el("tbody");
  const heads = columns.map((column, i) => {
    const button = el(
      "button",
      {
        type: "button",
        click() {
          const down = order && order[0] === i ? !order[1] : !column.text;
          order = [i, down];
          memory.set(`${key}.order`, order);
          start = 0;
          draw();
        },
      },
      column.name,
    );
    return el(
      "th",
      { scope: "col", class: column.text ? "text" : null },
      rows.length > 1 ? button : column.name,
    );
  });
  const table = el(
    "table",
    { class: options.kind },
    el("thead", {}, el("tr", {}, heads)),
    body,
  );
  if (options.foot) {
    const cells = options.foot.map((text, i) =>
      i ? el("td", {}, text) : el("th", { scope: "row" }, text),
    );
    table.append(el("tfoot", {}, el("tr", {}, cells)));
  }
  const region = el(
    "div",
    {
      class: "wide",
      role: "region",
      "aria-label": `Table: ${label}`,
      tabindex: "0",
    },
    table,
  );
  const told = el("span", { role: "status" });
  const turn = (step) => () => {
    start += step;
    memory.set(`${key}.start`, start);
    draw();
  };
  const before = el(
    "button",
    { type: "button", click: turn(-PAGE_ROWS) },
    "Previous",
  );
  const after = el(
    "button",
    { type: "button", click: turn(PAGE_ROWS) },
    "Next",
  );
  before.setAttribute("aria-label", `Previous rows of ${label}`);
  after.setAttribute("aria-label", `Next rows of ${label}`);
  const pager = el("div", { class: "pager" }, before, after, told);

  function draw() {
    let shown = filter
      ? rows.filter((row) => filter.matches(options.words(row)))
      : rows;
    if (order && columns[order[0]]) {
      const { value } = columns[order[0]];
      shown = [...shown].sort((a, b) => compared(value(a), value(b), order[1]));
    }
    start = Math.max(0, Math.min(start, shown.length - 1));
    start -= start % PAGE_ROWS;
    body.replaceChildren(
      ...shown.slice(start, start + PAGE_ROWS).map((row) => line(row)),
    );
    heads.forEach((head, i) => {
      if (order && order[0] === i) {
        head.setAttribute("aria-sort", order[1] ? "descending" : "ascending");
      } else head.removeAttribute("aria-sort");
    });
    const last = Math.min(start + PAGE_ROWS, shown.length);
    pager.hidden = rows.length <= PAGE_ROWS;
    before.disabled = start === 0;
    after.disabled = last >= shown.length;
    told.textContent = shown.length
      ? `${count(start + 1)} to ${count(last)} of ${count(shown.length)}`
      : "nothing matches";
  }

  function line(row) {
    const cells = columns.map((column, i) => {
      const content = column.cell ? column.cell(row) : column.value(row);
      return i
        ? el("td", { class: column.text ? "text" : null }, content)
        : el("th", { scope: "row" }, content);
    });
    return el(
      "tr",
      { class: options.rowClass ? options.rowClass(row) : null },
      cells,
    );
  }

  draw();
  return {
    element: el("div", {}, filter && filter.element, region, pager),
    redraw: draw,
    replace(newRows) {
      rows = newRows;
      start = 0;
      draw();
    },
  };
}

// Orders texts, numbers and what is missing, which comes last either way.
function compared(a, b, down) {
  const missing = (v) => v === null || v === undefined;
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  const order = isNumber(a) && isNumber(b) ? a - b : `${a}` < `${b}` ? -1 : 1;
  return a === b ? 0 : down ? -order : order;
}

// What the tree draws: which rows, where each stands, its lines, its points and
// the table that holds the same.

const TREE_SMALL_MIN = 500;

// Returns the names that do not lie on one another, the later ones first.
function apart(names, perX, perY) {
  const kept = [];
  for (const name of [...names].reverse()) {
    const clear = kept.every(
      (other) =>
        Math.abs(name[1] - other[1]) * perY > 11 ||
        (other[0] - name[0]) * perX > name[2].length * CHAR_PIXELS ||
        (name[0] - other[0]) * perX > other[2].length * CHAR_PIXELS,
    );
    if (clear) kept.push(name);
  }
  return kept;
}

function clipped(text, length) {
  return text.length <= length ? text : `${text.slice(0, length - 2)}..`;
}

function taskOptions() {
  return [["", "All tasks"], ...taskNames.map((name, i) => [String(i), name])];
}

// Returns the rows to show, where each stands, and what holds them all.
function arranged(show, task) {
  const wanted = new Set();
  const of = (i) => task === "" || points.task[i] === Number(task);
  for (let i = 0; i < numPoints; i += 1) {
    const status = points.status[i];
    const shows =
      show === "all" ||
      (show === "paths" ? status <= KEPT : status === PUBLISHED);
    if (!shows || !of(i)) continue;
    for (let at = i; at >= 0 && !wanted.has(at); at = points.parent[at]) {
      wanted.add(at);
    }
  }
  if (!wanted.size) wanted.add(0);
  const rows = [...wanted].sort((a, b) => a - b);
  const roots = rows.filter((row) => !wanted.has(points.parent[row]));
  const spots = new Map();
  const order = [];
  const stack = [...roots].reverse().map((row) => [row, -1]);
  // A stack and no recursion: a lineage may be as long as there are paths.
  while (stack.length) {
    const [row, above] = stack.pop();
    const born = points.generation[row];
    spots.set(row, { x: born >= 0 ? born + 1 : above + 1, y: 0 });
    order.push(row);
    const below = childRows[row].filter((child) => wanted.has(child));
    for (const child of below.reverse()) stack.push([child, spots.get(row).x]);
  }
  placeLines(order, spots);
  let [right, bottom] = [1, 1];
  for (const { x, y } of spots.values()) {
    right = Math.max(right, x);
    bottom = Math.max(bottom, y);
  }
  // Room on the right for the names of the newest paths.
  const whole = { x: [-0.05 * right, right * 1.25], y: [bottom + 1, -1] };
  return { rows, roots, spots, order, whole };
}

// Gives every row its line: leaves one after another, the others between the
// first and the last of what stands on them.
function placeLines(order, spots) {
  const spans = new Map();
  let line = 0;
  // A row with children stands in `order` before them, so from the end.
  const leaves = new Set(order);
  for (const row of order) leaves.delete(points.parent[row]);
  for (const row of order) {
    if (leaves.has(row)) {
      spots.get(row).y = line;
      line += 1;
    }
  }
  for (const row of [...order].reverse()) {
    const span = spans.get(row);
    if (span) spots.get(row).y = (span[0] + span[1]) / 2;
    const { y } = spots.get(row);
    const above = spans.get(points.parent[row]);
    if (above) {
      above[0] = Math.min(above[0], y);
      above[1] = Math.max(above[1], y);
    } else spans.set(points.parent[row], [y, y]);
  }
}

function edgeTraces(shown, kind) {
  const important = new Set();
  for (const row of publishedRow) {
    for (let at = row; at >= 0 && !important.has(at); at = points.parent[at]) {
      important.add(at);
    }
  }
  const chosen = new Set(selection.row < 0 ? [] : lineage(selection.row));
  const line = (rows, colourName, width, name) => {
    const [x, y] = [[], []];
    for (const row of rows) {
      const to = shown.spots.get(row);
      const from = shown.spots.get(points.parent[row]);
      if (!from) continue;
      x.push(from.x, from.x, to.x, null);
      y.push(from.y, to.y, to.y, null);
    }
    return {
      type: kind,
      mode: "lines",
      x,
      y,
      name,
      line: { color: colour(colourName), width },
      hoverinfo: "skip",
      showlegend: false,
    };
  };
  const { rows } = shown;
  return [
    line(
      rows.filter((row) => !important.has(row)),
      "faint",
      1,
      "others",
    ),
    line(
      rows.filter((row) => important.has(row)),
      "branch",
      1.5,
      "lines",
    ),
    line(
      rows.filter((row) => chosen.has(row)),
      "accent",
      3,
      "chosen",
    ),
  ];
}

function nodeTraces(shown, kind) {
  const style = {
    [NOT_BETTER]: ["circle-open", "series-none", 5],
    [DIVERGED]: ["x-thin", "series-bad", 6],
    [UNKNOWN]: ["diamond-open", "quiet", 7],
    [KEPT]: ["circle", "series-kept", 6],
    [REPLACED]: ["circle-open", "series0", 9],
    [PUBLISHED]: ["circle", "series0", 10],
    [ROOT]: ["square", "ink", 10],
  };
  // Many stand close to one another.
  const scale = shown.rows.length > TREE_SMALL_MIN ? 0.6 : 1;
  const traces = Object.entries(style).map(([status, [symbol, name, full]]) => {
    const size = full * scale;
    const rows = shown.rows.filter((row) => points.status[row] === status * 1);
    return nodeTrace(rows, shown, kind, STATUS_TEXT[status], {
      symbol,
      size,
      color: colour(name),
      line: { width: symbol === "x-thin" ? 1.5 : 1, color: colour(name) },
    });
  });
  const chosen = shown.rows.filter((row) => row === selection.row);
  traces.push({
    ...nodeTrace(chosen, shown, "scatter", "chosen", {
      symbol: "circle-open",
      size: 17,
      color: colour("accent"),
      line: { width: 3, color: colour("accent") },
    }),
    hoverinfo: "skip",
  });
  return traces.filter((trace) => trace.x.length);
}

function nodeTrace(rows, shown, kind, name, marker) {
  return {
    type: kind,
    mode: "markers",
    name,
    x: rows.map((row) => shown.spots.get(row).x),
    y: rows.map((row) => shown.spots.get(row).y),
    customdata: rows,
    text: hoverTexts(rows),
    hovertemplate: "%{text}<extra></extra>",
    showlegend: true,
    marker,
  };
}

function textTrace(name, texts, textposition) {
  return {
    type: "scatter",
    mode: "text",
    name,
    x: texts.map((text) => text[0]),
    y: texts.map((text) => text[1]),
    text: texts.map((text) => plain(text[2])),
    textposition,
    textfont: {
      size: 11,
      color: colour("ink"),
      // So that it can be read where it lies on lines.
      shadow: `0 0 3px ${colour("card")}, 0 0 3px ${colour("card")}`,
    },
    hoverinfo: "skip",
    showlegend: false,
    cliponaxis: true,
  };
}

function pathTable() {
  const rows = points.id
    .map((_, i) => i)
    .filter((i) => points.status[i] <= KEPT);
  const parentText = (i) => {
    const parent = points.parent[i];
    if (parent < 0) return NONE;
    return points.status[parent] === ROOT
      ? "root"
      : `${taskName(points.task[parent])}, ${pointName(parent)}`;
  };
  return pagedTable(
    [
      {
        name: "path",
        value: (i) => i,
        cell: (i) => pathButton(i, pointName(i)),
        text: true,
      },
      { name: "task", value: (i) => taskName(points.task[i]), text: true },
      {
        name: "status",
        value: (i) => STATUS_TEXT[points.status[i]],
        text: true,
      },
      {
        name: "score",
        value: (i) => points.score[i],
        cell: (i) => fraction(points.score[i]),
      },
      { name: "born", value: (i) => trainedOrder[i], cell: born },
      { name: "parent", value: parentText, text: true },
      { name: "mutations", value: mutationText, text: true },
    ],
    rows,
    {
      key: "paths",
      label: "Paths",
      words: (i) =>
        `${taskName(points.task[i])} ${pointName(i)} ` +
        STATUS_TEXT[points.status[i]],
    },
  ).element;
}

// What one path or child is: its mutations, lineage, curves, components,
// hyperparameters and, where its answers are known, its confusion matrix.

const LINEAGE_STEPS_MAX = 12;

const selection = {
  row: -1,
  listeners: [],
  choose(i, { focus = false } = {}) {
    this.row = i;
    memory.set("selected", i < 0 ? null : selectionKey(i));
    for (const listener of this.listeners) listener(i, focus);
  },
};

// A row's number changes while a job runs; this does not.
function selectionKey(i) {
  return points.id[i] || [points.generation[i], points.child[i]].join("/");
}

function selectionFromMemory() {
  const key = memory.get("selected", null);
  if (key === null) return -1;
  if (rowById.has(key)) return rowById.get(key);
  return points.id.findIndex((id, i) => selectionKey(i) === key);
}

// Returns a button that chooses a path.
function pathButton(i, text) {
  const name = `${taskName(points.task[i])}, ${pointName(i)}`;
  return el(
    "button",
    {
      type: "button",
      class: "link",
      click: () => selection.choose(i, { focus: true }),
    },
    breakable(text || name),
  );
}

function detailsOf(host) {
  const heading = el("h3", { tabindex: "-1" });
  const body = el("div");
  host.append(heading, body);
  selection.listeners.push((i, focus) => {
    show(i);
    if (focus) {
      host.scrollIntoView({ block: "nearest" });
      heading.focus({ preventScroll: true });
    }
  });

  function show(i) {
    forgetCharts("details-");
    if (i < 0) {
      heading.textContent = "No path chosen";
      body.replaceChildren(
        el(
          "p",
          { class: "quiet" },
          "Click a point of the tree, or choose a ",
          "row of a table. In the tree, the arrow keys walk along it.",
        ),
      );
      return;
    }
    heading.textContent =
      points.status[i] === ROOT
        ? "The root"
        : `${taskName(points.task[i])}, ${pointName(i)}`;
    body.replaceChildren(
      ...[
        facts(i),
        mutationList(i),
        curves(i),
        confusion(i),
        lineageTable(i),
        componentTable(i),
        hparamTable(i),
      ].filter((part) => part !== null),
    );
  }
  show(-1);
}

function facts(i) {
  const pairs = [["status", STATUS_TEXT[points.status[i]]]];
  if (isNumber(points.score[i]))
    pairs.push(["score", fraction(points.score[i])]);
  const task = data.tasks[points.task[i]];
  if (task && points.status[i] === PUBLISHED) {
    const measure = task.measure;
    const decides = measure === "accuracy" ? data.quality : measure;
    pairs.push([`validation ${decides}`, fraction(task.validation)]);
    pairs.push([`test ${measure}`, fraction(task.test)]);
    pairs.push(["parameters", count(task.params)]);
  }
  if (points.status[i] === ROOT) {
    pairs.push(["source", data.root.source]);
    pairs.push(["parameters", count(data.root.num_params)]);
  }
  if (born(i)) {
    pairs.push(["born", born(i)]);
    pairs.push(...recordedFacts(recordOf(i)));
  }
  if (points.id[i]) pairs.push(["id", points.id[i]]);
  pairs.push(["children", count(childRows[i].length)]);
  return pairList(pairs);
}

function recordedFacts(record) {
  const text = (name, shown) =>
    record === null ? UNKNOWN_TEXT : shown(record[name]);
  const pairs = [
    ["quality", text("quality", fraction)],
    ["size factor", text("size_factor", fraction)],
    ["accounted parameters", text("accounted_params", count)],
  ];
  if (record !== null && record.duplicate_of !== null) {
    pairs.push(["equals, and was trained as", `child ${record.duplicate_of + 1}`]);
  }
  return pairs;
}

function mutationList(i) {
  if (points.status[i] === ROOT) return null;
  const found = mutations(i);
  if (found === null) {
    return el(
      "div",
      {},
      el("h4", {}, "Mutations"),
      el("p", { class: "quiet" }, "Unknown: no event records them."),
    );
  }
  return el(
    "div",
    {},
    el("h4", {}, "Mutations"),
    found.length
      ? el(
          "ul",
          { class: "plain" },
          found.map((text) => el("li", {}, text)),
        )
      : el("p", { class: "quiet" }, "None: it is its parent, trained further."),
    alwaysTrained.size
      ? el(
          "p",
          { class: "quiet" },
          `Every child trains ${[...alwaysTrained].join(", ")}.`,
        )
      : null,
  );
}

function lineageTable(i) {
  const rows = lineage(i).slice(1);
  if (!rows.length) return null;
  const shown = rows.slice(0, LINEAGE_STEPS_MAX);
  const items = shown.map((row) => {
    const changes = mutationText(row);
    return el(
      "li",
      {},
      pathButton(row, points.status[row] === ROOT ? "the root" : null),
      changes ? el("span", { class: "quiet" }, ` ${changes}`) : null,
    );
  });
  if (rows.length > shown.length) {
    items.push(el("li", {}, `and ${rows.length - shown.length} more`));
  }
  return el(
    "div",
    {},
    el("h4", {}, "Lineage, nearest first"),
    el("ol", { class: "plain" }, items),
  );
}

function curves(i) {
  const [scores, losses] = [points.scores[i], points.losses[i]];
  if (!scores.length) return null;
  const cycles = scores.map((_, n) => n + 1);
  const line = (y, name, axis, n) => ({
    type: "scatter",
    mode: "lines+markers",
    x: cycles,
    y,
    yaxis: axis,
    name,
    line: { color: seriesColour(n), width: 2, dash: n ? "dot" : "solid" },
    marker: { size: 6 },
    hovertemplate: `cycle %{x}: %{y:.4f}<extra>${name}</extra>`,
  });
  const make = () => ({
    data: [
      line(scores, "score", "y", 0),
      line(losses, "training loss", "y2", 1),
    ],
    layout: {
      showlegend: true,
      margin: { l: 48, r: 48, t: 30, b: 40 },
      xaxis: { title: "cycle", dtick: Math.ceil(cycles.length / 8) },
      yaxis: { title: "score", rangemode: "tozero" },
      yaxis2: {
        title: { text: "loss", font: { color: colour("quiet"), size: 12 } },
        overlaying: "y",
        side: "right",
        rangemode: "tozero",
        showgrid: false,
        zeroline: false,
        automargin: true,
        tickfont: { color: colour("quiet") },
      },
    },
  });
  const label = scores
    .map((s, n) => `cycle ${n + 1} ${fraction(s)}, loss ${fraction(losses[n])}`)
    .join("; ");
  return el(
    "div",
    {},
    el("h4", {}, "Curves"),
    chart("details-curves", make, {
      label: `Score and training loss: ${label}`,
      height: 220,
    }),
  );
}

function componentTable(i) {
  const recorded = origins(i);
  const names = recorded ? recorded.map((part) => part.name) : places(i);
  if (!names.length) return null;
  const used = new Map();
  if (points.status[i] === PUBLISHED) {
    for (const place of data.places) {
      const own = place.components.find((c) =>
        c.tasks.includes(points.task[i]),
      );
      if (own) used.set(place.name, own);
    }
  }
  const unknown = points.status[i] === ROOT ? NONE : UNKNOWN_TEXT;
  const frozen = (trains) => (trains ? "trained" : "frozen");
  const origin = ({ name, part }) => {
    if (part) return `${data.inits[part.init]}, ${frozen(part.trainable)}`;
    // Earlier events say which were trained, and no more.
    return points.generation[i] >= 0
      ? `${unknown}, ${frozen(trained(i).includes(name))}`
      : unknown;
  };
  const source = (row) => {
    if (!row.part) return unknown;
    if (row.part.source === null) return NONE;
    return `${row.part.task} ${row.part.source}`;
  };
  const rows = names.map((name, n) => ({
    name,
    own: used.get(name),
    part: recorded ? recorded[n] : null,
  }));
  const columns = [
    { name: "component", value: (row) => row.name, text: true },
    { name: "origin", value: origin, text: true },
    { name: "from", value: source, text: true },
  ];
  const params = (row) =>
    row.part ? row.part.params : row.own ? row.own.params : null;
  if (recorded || used.size) {
    columns.push({
      name: "parameters",
      value: params,
      cell: (row) => count(params(row)),
    });
  }
  if (used.size) {
    columns.push({
      name: "tasks",
      value: (row) => (row.own ? row.own.tasks.length : null),
      cell: (row) => (row.own ? count(row.own.tasks.length) : NONE),
    });
  }
  const table = pagedTable(columns, rows, {
    key: "details-components",
    label: "Components of the path",
    kind: "small",
  });
  return el("div", {}, el("h4", {}, "Components"), table.element);
}

function hparamTable(i) {
  const parent = points.parent[i];
  const rows = Object.keys(points.hparams)
    .map((name) => ({
      name,
      own: hparam(i, name),
      before: parent < 0 ? undefined : hparam(parent, name),
    }))
    .filter((row) => row.own !== undefined);
  if (!rows.length) return null;
  const columns = [
    { name: "hyperparameter", value: (row) => row.name, text: true },
    {
      name: "value",
      value: (row) => row.own,
      cell: (row) => valueText(row.own),
    },
    {
      name: "parent's",
      value: (row) => (row.before === undefined ? null : row.before),
      cell: (row) => (row.before === undefined ? NONE : valueText(row.before)),
    },
  ];
  const table = pagedTable(columns, rows, {
    key: "details-hparams",
    label: "Hyperparameters of the path",
    kind: "small",
    rowClass: (row) =>
      row.before !== undefined && row.before !== row.own ? "changed" : null,
  });
  return el("div", {}, el("h4", {}, "Hyperparameters"), table.element);
}

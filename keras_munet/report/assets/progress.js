// The leaderboard, and what every child scored.

const TASK_COLOURS_MAX = 7;
const BEST_LINES_MAX = 60;

function leaderboardPanel(host) {
  const secs = taskNames.map(() => 0);
  data.generations.task.forEach((task, g) => {
    if (task >= 0) secs[task] += data.generations.secs[g];
  });
  const rows = data.tasks.map((task, i) => ({
    ...task,
    row: i,
    secs: secs[i],
  }));
  const number = (name, key, text) => ({
    name,
    value: (row) => row[key],
    cell: (row) => text(row[key]),
  });
  const columns = [
    {
      name: "task",
      value: (row) => row.name,
      cell: (row) => taskCell(row),
      text: true,
    },
    {
      name: "test",
      value: (row) => row.test,
      cell: (row) => meterCell(row.test),
    },
    number(
      data.quality === "accuracy" ? "validation" : `validation ${data.quality}`,
      "validation",
      fraction,
    ),
    number("score", "score", fraction),
    number("classes", "num_classes", count),
    number("layers", "num_layers", count),
    number("parameters", "params", count),
    number("accounted", "accounted", count),
    number("time", "secs", (value) => (value ? duration(value) : NONE)),
    { name: "parent", value: (row) => row.parent, text: true },
  ];
  const mean = [
    "mean",
    fraction(data.means.test),
    fraction(data.means.validation),
  ];
  while (mean.length < columns.length) mean.push("");
  host.append(
    pagedTable(columns, rows, {
      key: "leaderboard",
      label: "Leaderboard",
      foot: mean,
      words: (row) => `${row.name} ${row.parent}`,
    }).element,
  );
}

function taskCell(row) {
  const at = publishedRow[row.row];
  const name = at >= 0 ? pathButton(at, row.name) : row.name;
  return row.private
    ? el("span", {}, name, " ", el("span", { class: "tag" }, "private"))
    : name;
}

// Returns a number with a bar from 0 to 1 below it.
function meterCell(value) {
  if (!isNumber(value)) return NONE;
  const share = 100 * Math.min(1, Math.max(0, value));
  return el(
    "div",
    { class: "meter" },
    fraction(value),
    el(
      "div",
      { class: "bar thin", "aria-hidden": "true" },
      el("i", { class: "shared", style: `width:${share.toFixed(1)}%` }),
    ),
  );
}

function progressPanel(host) {
  const task = choice("progress-task", "Task", taskOptions(), "", () =>
    redraw("progress-chart"),
  );
  const axis = choice(
    "progress-axis",
    "Along",
    [
      ["children", "Children trained"],
      ["time", "Time"],
    ],
    "children",
    () => redraw("progress-chart"),
  );
  const place = chart(
    "progress-chart",
    () => progressFigure(task.value, axis.value),
    {
      label: "Scores of all children; the table below holds them",
      height: 420,
    },
  );
  place.classList.add("clickable");
  const table = opening("open-generations", "Generations as a table", (body) =>
    body.append(generationTable()),
  );
  host.append(
    el("div", { class: "row" }, task.element, axis.element),
    place,
    table,
  );
}

function progressFigure(task, axis) {
  const at = alongAxis(axis);
  const wanted = (t) => t >= 0 && (task === "" || t === Number(task));
  const rows = [];
  for (let i = 0; i < numPoints; i += 1) {
    if (points.generation[i] >= 0 && wanted(points.task[i])) rows.push(i);
  }
  const kind = scatterKind(rows.length);
  const named = [...new Set(rows.map((row) => points.task[row]))];
  const coloured = named.length <= TASK_COLOURS_MAX + 1;
  const colourOf = (t) =>
    coloured ? seriesColourOf(named.indexOf(t)) : colour("series0");
  const traces = [];
  const add = (name, symbol, of, size, fixed) => {
    const chosen = rows.filter(of);
    if (!chosen.length) return;
    const colours = chosen.map((row) => fixed || colourOf(points.task[row]));
    traces.push({
      type: kind,
      mode: "markers",
      name,
      x: chosen.map(at),
      y: chosen.map((row) => points.score[row] ?? 0),
      customdata: chosen,
      text: hoverTexts(chosen),
      hovertemplate: "%{text}<extra></extra>",
      showlegend: false,
      marker: {
        symbol,
        size,
        color: colours,
        line: { width: 1, color: colours },
      },
    });
  };
  add("discarded", "circle-open", (r) => points.status[r] === NOT_BETTER, 5);
  add("paths", "circle", (r) => points.status[r] <= KEPT, 6);
  add(
    "diverged",
    "x-thin",
    (r) => points.status[r] === DIVERGED,
    6,
    colour("series-bad"),
  );
  if (named.length <= BEST_LINES_MAX) {
    for (const t of named) traces.push(bestLine(t, rows, at, colourOf(t)));
  }
  const legend = coloured && named.length > 1;
  return {
    data: traces,
    height: heightWith(420, legend ? named.length : 0),
    layout: {
      showlegend: legend,
      margin: { l: 56, r: 16, t: coloured ? 56 : 12, b: 44 },
      xaxis: {
        title:
          axis === "time" ? "time of training, minutes" : "children trained",
      },
      yaxis: { title: "best validation score of a child" },
    },
    drawn(place) {
      if (place.dataset.listens) return;
      place.dataset.listens = "yes";
      place.on("plotly_click", (event) => {
        const row = event.points[0].customdata;
        if (row >= 0) selection.choose(row, { focus: true });
      });
    },
  };
}

// One colour more than `seriesColour` has: ink is the eighth.
function seriesColourOf(i) {
  return i < TASK_COLOURS_MAX ? seriesColour(i) : colour("ink");
}

function alongAxis(axis) {
  if (axis !== "time") return (row) => trainedOrder[row];
  const { secs, num_children: counts } = data.generations;
  const first = new Map();
  for (let i = 0; i < numPoints; i += 1) {
    const g = points.generation[i];
    if (g >= 0 && !first.has(g)) first.set(g, trainedOrder[i]);
  }
  // The children of a generation train together: they are spread over it.
  return (row) => {
    const g = points.generation[row];
    const part = (trainedOrder[row] - first.get(g) + 1) / counts[g];
    return (endedSecs[g] - secs[g] * (1 - part)) / 60;
  };
}

function bestLine(task, rows, at, lineColour) {
  const [x, y] = [[], []];
  let best = -Infinity;
  for (const row of rows) {
    if (points.task[row] !== task) continue;
    const score = points.score[row];
    // What did not become a path is no best of the task.
    if (isNumber(score) && points.status[row] <= KEPT) {
      best = Math.max(best, score);
    }
    if (best > -Infinity) {
      x.push(at(row));
      y.push(best);
    }
  }
  return {
    type: "scatter",
    mode: "lines",
    name: plain(shortened(taskNames[task], 28)),
    x,
    y,
    line: { color: lineColour, width: 1.5, shape: "hv" },
    hoverinfo: "skip",
    showlegend: true,
  };
}

function generationTable() {
  const g = data.generations;
  return pagedTable(
    [
      {
        name: "task",
        value: (i) => taskName(g.task[i]),
        text: true,
      },
      { name: "iteration", value: (i) => g.iteration[i] + 1 },
      { name: "generation", value: (i) => g.number[i] },
      {
        name: "children",
        value: (i) => g.num_children[i],
        cell: (i) => count(g.num_children[i]),
      },
      {
        name: "improved",
        value: (i) => g.num_improved[i],
        cell: (i) => count(g.num_improved[i]),
      },
      {
        name: "best score",
        value: (i) => g.best[i],
        cell: (i) => fraction(g.best[i]),
      },
      {
        name: "time",
        value: (i) => g.secs[i],
        cell: (i) => duration(g.secs[i]),
      },
    ],
    g.task.map((_, i) => i),
    {
      key: "generations",
      label: "Generations",
      words: (i) => taskName(g.task[i]),
    },
  ).element;
}

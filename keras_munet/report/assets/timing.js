// Where the wall time of the generations went.

const TIME_ROWS_MAX = 16;
const TIME_ROW_PIXELS = 30;

function timePanel(host) {
  const kinds = Object.keys(data.kinds);
  const { task, secs, clock } = data.generations;
  const total = secs.reduce((a, b) => a + b, 0);
  const ofKind = kinds.map((kind) => clock[kind].reduce((a, b) => a + b, 0));
  const rows = timeRows(kinds);
  host.append(
    chart("time-chart", () => timeFigure(kinds, rows), {
      label: "Time by task and kind of work; the table below sums it up",
      height: 130 + TIME_ROW_PIXELS * rows.length,
    }),
    pagedTable(
      [
        {
          name: "kind of work",
          value: (k) => data.kinds[kinds[k]],
          text: true,
        },
        {
          name: "time",
          value: (k) => ofKind[k],
          cell: (k) => duration(ofKind[k]),
        },
        {
          name: "share",
          value: (k) => ofKind[k],
          cell: (k) => percent(ofKind[k], total),
        },
        {
          name: "per generation",
          value: (k) => ofKind[k],
          cell: (k) => duration(ofKind[k] / task.length),
        },
      ],
      kinds.map((_, k) => k),
      {
        key: "time",
        label: "Time",
        foot: ["all", duration(total), "", duration(total / task.length)],
      },
    ).element,
  );
}

// Returns the tasks that took most and the others together.
function timeRows(kinds) {
  const { task, secs, clock } = data.generations;
  const byTask = new Map();
  task.forEach((t, g) => {
    const row = byTask.get(t) || { name: taskName(t), total: 0, of: {} };
    row.total += secs[g];
    for (const kind of kinds) {
      row.of[kind] = (row.of[kind] || 0) + clock[kind][g];
    }
    byTask.set(t, row);
  });
  const rows = [...byTask.values()];
  if (rows.length <= TIME_ROWS_MAX) return rows;
  rows.sort((a, b) => b.total - a.total);
  const rest = rows.splice(TIME_ROWS_MAX - 1);
  const others = { name: numberOf(rest.length, "other task"), of: {} };
  for (const kind of kinds) {
    others.of[kind] = rest.reduce((sum, row) => sum + row.of[kind], 0);
  }
  return [...rows, others];
}

function timeFigure(kinds, rows) {
  const longest = Math.max(
    ...rows.map((row) => Object.values(row.of).reduce((a, b) => a + b, 0)),
  );
  const [unit, name] =
    longest > 7200
      ? [3600, "hours"]
      : longest > 180
        ? [60, "minutes"]
        : [1, "seconds"];
  return {
    height: heightWith(130 + TIME_ROW_PIXELS * rows.length, kinds.length),
    data: kinds.map((kind, i) => ({
      type: "bar",
      orientation: "h",
      name: data.kinds[kind],
      x: rows.map((row) => row.of[kind] / unit),
      y: rows.map((_, n) => n),
      width: 0.62,
      marker: { color: seriesColourOf(i) },
      hovertemplate: `%{x:.2f} ${name} ${plain(data.kinds[kind])}<extra></extra>`,
    })),
    layout: {
      barmode: "stack",
      dragmode: false,
      showlegend: true,
      legend: {
        orientation: "h",
        x: 0,
        y: 1.02,
        yanchor: "bottom",
        traceorder: "normal",
        itemclick: false,
        itemdoubleclick: false,
      },
      margin: { l: 20, r: 12, t: 70, b: 40 },
      xaxis: { title: `wall time, ${name}` },
      yaxis: {
        tickvals: rows.map((_, n) => n),
        ticktext: rows.map((row) => plain(shortened(row.name, 24))),
        showgrid: false,
        range: [rows.length - 0.5, -0.5],
      },
    },
  };
}

// Which task uses which component, place by place, and what that saves.

const SHARING_ROWS = 24;
const [OF_ROOT, SEVERAL, OWN] = [0, 1, 2];

function sharingPanel(host) {
  const matrix = sharingMatrix();
  const { in_use: inUse, separate } = data.params;
  const filter = filterField("sharing-filter", "Tasks with", () => {
    start = 0;
    renew();
  });
  let start = memory.get("sharing-start", 0);
  const told = el("span", { role: "status" });
  const step = (by) => () => {
    start += by;
    renew();
  };
  const before = el(
    "button",
    { type: "button", click: step(-SHARING_ROWS) },
    "Previous tasks",
  );
  const after = el(
    "button",
    { type: "button", click: step(SHARING_ROWS) },
    "Next tasks",
  );
  const many = data.tasks.length > SHARING_ROWS;
  let rows = chosen();

  function chosen() {
    const found = data.tasks
      .map((_, i) => i)
      .filter((i) => !many || filter.matches(taskNames[i]));
    start = Math.max(0, Math.min(start, found.length - 1));
    start -= start % SHARING_ROWS;
    memory.set("sharing-start", start);
    const last = Math.min(start + SHARING_ROWS, found.length);
    before.disabled = start === 0;
    after.disabled = last === found.length;
    told.textContent =
      `${count(Math.min(start + 1, last))} to ${count(last)} of ` +
      numberOf(found.length, "task");
    return found.slice(start, last);
  }

  function renew() {
    rows = chosen();
    redraw("sharing-chart");
    redraw("saved-chart");
  }

  const key = (name, text) =>
    el("span", { class: "keyed" }, el("i", { class: `key ${name}` }), text);
  const height = (n) => 90 + 26 * Math.max(1, n);
  host.append(
    el(
      "p",
      { class: "saying" },
      `${count(inUse)} parameters in use instead of ${count(separate)} in ` +
        `separate models: ${percent(separate - inUse, separate)} saved.`,
    ),
    el(
      "p",
      { class: "legend" },
      key("ofroot", "the root's own"),
      key("several", "used by several tasks"),
      key("alone", "used by this task alone"),
    ),
    many
      ? el(
          "div",
          { class: "row" },
          filter.element,
          el("div", { class: "buttons" }, before, after, told),
        )
      : "",
    el(
      "div",
      { class: "split even" },
      chart(
        "sharing-chart",
        () => ({ ...sharingFigure(matrix, rows), height: height(rows.length) }),
        {
          label: "Components of every task; the table below holds the same",
          height: height(rows.length),
        },
      ),
      chart(
        "saved-chart",
        () => ({ ...savedFigure(rows), height: height(rows.length) }),
        {
          label: "Shared and own parameters of every task, as in the table",
          height: height(rows.length),
        },
      ),
    ),
    opening("open-components", "Components in use as a table", (body) =>
      body.append(componentsInUse()),
    ),
    opening("open-parameters", "Parameters by task as a table", (body) =>
      body.append(parametersByTask()),
    ),
  );
}

// Returns the component of every task in every place.
function sharingMatrix() {
  const rows = data.tasks.map(() => data.places.map(() => null));
  data.places.forEach((place, column) => {
    for (const component of place.components) {
      for (const task of component.tasks) rows[task][column] = component;
    }
  });
  return rows;
}

function kindOf(component) {
  if (component.label === "root") return OF_ROOT;
  return component.tasks.length > 1 ? SEVERAL : OWN;
}

function sharingFigure(matrix, tasks) {
  const names = tasks.map((t) => plain(shortened(taskNames[t], 22)));
  const columns = data.places.map((place) => plain(place.name));
  const cells = tasks.map((t) => matrix[t]);
  const rowsOf = (value) => cells.map((row) => row.map(value));
  const fill = [colour("ofroot"), colour("several"), colour("alone")];
  const steps = fill.flatMap((c, i) => [
    [i / 3, c],
    [(i + 1) / 3, c],
  ]);
  const told = (c) =>
    c
      ? `${count(c.params)} parameters, used by ` +
        `${numberOf(c.tasks.length, "task")}:<br>` +
        plain(someNames(c.tasks)) +
        `<br>${plain(c.id)}`
      : "";
  return {
    data: [
      {
        type: "heatmap",
        z: rowsOf((c) => (c ? kindOf(c) : null)),
        text: rowsOf((c) => (c ? plain(c.label) : "")),
        texttemplate: "%{text}",
        textfont: { size: 11, color: colour("ink") },
        customdata: rowsOf(told),
        x: columns.map((_, i) => i),
        y: names.map((_, i) => i),
        zmin: 0,
        zmax: 2,
        xgap: 2,
        ygap: 2,
        colorscale: steps,
        showscale: false,
        hoverongaps: false,
        hovertemplate: "%{customdata}<extra></extra>",
      },
    ],
    layout: {
      dragmode: false,
      margin: { l: 20, r: 4, t: 8, b: 80 },
      xaxis: {
        tickvals: columns.map((_, i) => i),
        ticktext: columns,
        tickangle: -40,
        showgrid: false,
        range: [-0.5, columns.length - 0.5],
      },
      yaxis: {
        tickvals: names.map((_, i) => i),
        ticktext: names,
        showgrid: false,
        range: [names.length - 0.5, -0.5],
      },
    },
  };
}

function someNames(tasks) {
  const names = tasks.slice(0, 6).map((t) => taskNames[t]);
  if (tasks.length > names.length) names.push(`${tasks.length - 6} more`);
  return names.join(", ");
}

function savedFigure(tasks) {
  const names = tasks.map((t) => plain(shortened(taskNames[t], 22)));
  const bars = (key, name, fill) => ({
    type: "bar",
    orientation: "h",
    name,
    x: tasks.map((t) => data.tasks[t][key]),
    y: names.map((_, i) => i),
    width: 0.62,
    marker: { color: colour(fill) },
    hovertemplate: `%{x:,} ${name}<extra></extra>`,
  });
  return {
    data: [bars("shared", "shared", "several"), bars("own", "own", "alone")],
    layout: {
      barmode: "stack",
      dragmode: false,
      margin: { l: 20, r: 12, t: 8, b: 80 },
      xaxis: { title: "parameters, shared and own", nticks: 5 },
      yaxis: {
        tickvals: names.map((_, i) => i),
        ticktext: names,
        showgrid: false,
        range: [names.length - 0.5, -0.5],
      },
    },
  };
}

function componentsInUse() {
  const rows = data.places.flatMap((place, at) =>
    place.components.map((component) => ({ ...component, place, at })),
  );
  const users = (row) => someNames(row.tasks);
  return pagedTable(
    [
      {
        name: "component",
        value: (row) => row.at,
        cell: (row) => row.place.name,
        text: true,
      },
      { name: "mark", value: (row) => row.label, text: true },
      {
        name: "parameters",
        value: (row) => row.params,
        cell: (row) => count(row.params),
      },
      {
        name: "tasks",
        value: (row) => row.tasks.length,
        cell: (row) => count(row.tasks.length),
      },
      { name: "used by", value: users, text: true },
      { name: "id", value: (row) => row.id, text: true },
    ],
    rows,
    {
      key: "components",
      label: "Components in use",
      words: (row) =>
        `${row.place.name} ${row.label} ${row.id} ` +
        row.tasks.map((t) => taskNames[t]).join(" "),
    },
  ).element;
}

function parametersByTask() {
  const number = (name, key) => ({
    name,
    value: (row) => row[key],
    cell: (row) => count(row[key]),
  });
  return pagedTable(
    [
      { name: "task", value: (row) => row.name, text: true },
      number("shared", "shared"),
      number("own", "own"),
      number("all", "params"),
      number("accounted", "accounted"),
      {
        name: "saved",
        value: (row) => 1 - row.accounted / row.params,
        cell: (row) => percent(row.params - row.accounted, row.params),
      },
    ],
    data.tasks,
    {
      key: "by-task",
      label: "Parameters by task",
      words: (row) => row.name,
      foot: [
        "sum",
        "",
        "",
        count(data.params.separate),
        count(data.params.in_use),
        percent(
          data.params.separate - data.params.in_use,
          data.params.separate,
        ),
      ],
    },
  ).element;
}

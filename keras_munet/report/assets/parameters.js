// Accuracy against accounted parameters, beside other methods where a
// comparison was given.

const SAVED_LINES_MAX = 60;

function parametersPanel(host) {
  const { baselines } = data;
  const options = [["tasks", "Every task of this system"]];
  if (baselines && baselines.runs.length) {
    options.unshift(["mean", `Means, with ${baselines.name}`]);
    baselines.tasks.forEach((name, i) => options.push([String(i), name]));
  }
  const view = choice("parameters-view", "Show", options, options[0][0], () =>
    redraw("parameters-chart"),
  );
  host.append(
    options.length > 1 ? el("div", { class: "row" }, view.element) : "",
    chart("parameters-chart", () => parametersFigure(view.value), {
      label: "Parameters against test accuracy; the tables hold the same",
      height: 400,
    }),
    baselines
      ? opening("open-baselines", "The compared methods as a table", (body) =>
          body.append(
            el("p", { class: "quiet" }, "Their runs may have another budget."),
            baselineTable(),
          ),
        )
      : el(
          "p",
          { class: "quiet" },
          "launch/report.py --comparison=FOLDER adds the baselines of a ",
          "comparison made by launch/compare.py.",
        ),
  );
}

function mean(values) {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

function parametersFigure(view) {
  const traces = view === "tasks" ? taskTraces() : methodTraces(view);
  const xs = traces.flatMap((trace) => trace.x).filter(isNumber);
  const spread = Math.max(...xs) / Math.min(...xs);
  return {
    data: traces,
    layout: {
      showlegend: traces.length > 1,
      margin: { l: 56, r: 16, t: 40, b: 48 },
      xaxis: {
        title:
          view === "mean"
            ? "accounted parameters, mean of the tasks"
            : "accounted parameters",
        // Beyond it small ones would lie on one another.
        type: spread > 20 ? "log" : "linear",
        rangemode: "tozero",
      },
      yaxis: {
        title:
          view === "mean"
            ? "test accuracy, mean of the tasks"
            : "test accuracy",
      },
    },
  };
}

function taskTraces() {
  const tasks = data.tasks.filter((task) => isNumber(task.test));
  const told = (task) =>
    `<b>${plain(task.name)}</b><br>test ${fraction(task.test)}<br>` +
    `${count(task.accounted)} accounted of ${count(task.params)} parameters`;
  const labelled = tasks.length <= 12;
  const traces = [
    {
      type: scatterKind(tasks.length),
      mode: labelled ? "markers+text" : "markers",
      name: "as the system has it",
      x: tasks.map((task) => task.accounted),
      y: tasks.map((task) => task.test),
      text: tasks.map((task) => plain(shortened(task.name, 22))),
      textposition: tasks.map((_, i) => `${i % 2 ? "top" : "bottom"} center`),
      textfont: { size: 11 },
      hovertext: tasks.map(told),
      hovertemplate: "%{hovertext}<extra></extra>",
      marker: {
        size: tasks.length > SAVED_LINES_MAX ? 6 : 10,
        opacity: tasks.length > SAVED_LINES_MAX ? 0.6 : 1,
        color: colour("series0"),
      },
    },
  ];
  if (tasks.length <= SAVED_LINES_MAX) {
    traces.unshift({
      type: "scatter",
      mode: "lines",
      name: "what sharing saves",
      x: tasks.flatMap((task) => [task.accounted, task.params, null]),
      y: tasks.flatMap((task) => [task.test, task.test, null]),
      line: { color: colour("faint"), width: 1.5 },
      hoverinfo: "skip",
    });
    traces.push({
      type: "scatter",
      mode: "markers",
      name: "as a model of its own",
      x: tasks.map((task) => task.params),
      y: tasks.map((task) => task.test),
      hovertext: tasks.map(told),
      hovertemplate: "%{hovertext}<extra></extra>",
      marker: {
        size: 8,
        symbol: "diamond-open",
        color: colour("quiet"),
        line: { width: 1.5 },
      },
    });
  }
  return traces;
}

function methodTraces(view) {
  const { runs, tasks } = data.baselines;
  const valueOf = (values) => (view === "mean" ? mean(values) : values[view]);
  const own = data.tasks.filter(
    (task) =>
      isNumber(task.test) &&
      (view === "mean" ? tasks.includes(task.name) : task.name === tasks[view]),
  );
  const methods = [...new Set(runs.map((run) => run.method))];
  const symbols = ["circle", "square", "diamond", "triangle-up", "cross"];
  const traces = methods.map((method, i) => {
    const of = runs.filter((run) => run.method === method);
    return {
      type: "scatter",
      mode: "markers",
      name: plain(method),
      x: of.map((run) => valueOf(run.params)),
      y: of.map((run) => valueOf(run.test)),
      hovertext: of.map((run) => plain(`${method}, seed ${run.seed}`)),
      hovertemplate:
        "%{hovertext}<br>%{x:,.0f} parameters, test %{y:.4f}<extra></extra>",
      marker: {
        size: 10,
        symbol: symbols[i % symbols.length],
        color: seriesColour(i + 1),
      },
    };
  });
  if (own.length) {
    traces.push({
      type: "scatter",
      mode: "markers",
      name: "this system",
      x: [mean(own.map((task) => task.accounted))],
      y: [mean(own.map((task) => task.test))],
      hovertemplate:
        "this system<br>%{x:,.0f} parameters, test %{y:.4f}<extra></extra>",
      marker: { size: 16, symbol: "star", color: colour("series0") },
    });
  }
  return traces;
}

function baselineTable() {
  const { runs, tasks } = data.baselines;
  return pagedTable(
    [
      { name: "method", value: (run) => run.method, text: true },
      { name: "seed", value: (run) => run.seed },
      {
        name: "mean test",
        value: (run) => mean(run.test),
        cell: (run) => fraction(mean(run.test)),
      },
      {
        name: "mean accounted parameters",
        value: (run) => mean(run.params),
        cell: (run) => count(mean(run.params)),
      },
      ...tasks.map((name, i) => ({
        name,
        value: (run) => run.test[i],
        cell: (run) => fraction(run.test[i]),
      })),
    ],
    runs,
    {
      key: "baselines",
      label: "Compared methods",
      words: (run) => run.method,
    },
  ).element;
}

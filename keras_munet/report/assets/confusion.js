// What a published path answers on test images: its measures, those of each
// class, and which classes it takes for which others.

const CONFUSION_CLASSES_MAX = 120;
const CONFUSION_COUNTS_MAX = 12;

function confusion(i) {
  if (points.status[i] !== PUBLISHED) return null;
  const task = data.tasks[points.task[i]];
  const known = data.test_figures[task.name];
  const heading = el("h4", {}, "Test figures");
  if (!known) {
    return el(
      "div",
      {},
      heading,
      el(
        "p",
        { class: "quiet" },
        "Not measured; launch/report.py --predictions measures it.",
      ),
    );
  }
  const className = (n) => task.classes[n] || String(n);
  const told = el(
    "p",
    { class: "quiet" },
    `${count(known.num_correct)} of ${numberOf(known.num_examples, "test image")}`,
    known.per_label ? " with exactly their labels." : " right.",
  );
  const parts = [heading, told, pairList(known.figures), perClass(task, known)];
  // An image with several labels is not taken for one other class.
  if (!known.confusion) return el("div", {}, parts);
  if (task.num_classes <= CONFUSION_CLASSES_MAX) {
    parts.push(
      el("h4", {}, "Confusion matrix"),
      el(
        "p",
        { class: "quiet" },
        "Rows are the classes, columns what the path says; colours are shares ",
        "of a row.",
      ),
      chart("details-confusion", () => confusionFigure(task, known), {
        label: "Confusion matrix; the table below names the confusions",
        height: 360,
      }),
    );
  }
  const wrong = known.confusion
    .filter(([label, predicted]) => label !== predicted)
    .sort((a, b) => b[2] - a[2]);
  const table = () =>
    pagedTable(
      [
        { name: "class", value: (c) => className(c[0]), text: true },
        { name: "taken for", value: (c) => className(c[1]), text: true },
        { name: "images", value: (c) => c[2], cell: (c) => count(c[2]) },
      ],
      wrong,
      {
        key: "details-confusions",
        label: "Confusions",
        kind: "small",
        words: (c) => `${className(c[0])} ${className(c[1])}`,
      },
    ).element;
  parts.push(
    wrong.length
      ? opening("open-confusions", "Confusions as a table", (body) =>
          body.append(table()),
        )
      : el("p", { class: "quiet" }, "No image was taken for another class."),
  );
  return el("div", {}, parts);
}

function perClass(task, known) {
  const more = known.per_label || [];
  const rows = known.per_class.map((row, n) => [n, ...row, ...(more[n] || [])]);
  const className = (row) => task.classes[row[0]] || String(row[0]);
  const share = (name, i) => ({
    name,
    value: (row) => row[i],
    cell: (row) => fraction(row[i]),
  });
  return opening("open-per-class", "Figures of each class", (body) =>
    body.append(
      pagedTable(
        [
          { name: "class", value: className, text: true },
          share("precision", 1),
          share("recall", 2),
          share("F1", 3),
          { name: "images", value: (r) => r[4], cell: (r) => count(r[4]) },
          ...(known.per_label
            ? [share("average precision", 5), share("threshold", 6)]
            : []),
        ],
        rows,
        {
          key: "details-classes",
          label: "Figures of each class",
          kind: "small",
          words: className,
        },
      ).element,
    ),
  );
}

function confusionFigure(task, known) {
  const num = task.num_classes;
  const names = Array.from({ length: num }, (_, n) =>
    plain(shortened(task.classes[n] || String(n), 14)),
  );
  const counts = Array.from({ length: num }, () => new Array(num).fill(0));
  for (const [label, predicted, images] of known.confusion) {
    if (label < num && predicted < num) counts[label][predicted] = images;
  }
  const shares = counts.map((row) => {
    const sum = row.reduce((a, b) => a + b, 0);
    return row.map((n) => (sum ? n / sum : 0));
  });
  const ticks = { tickvals: names.map((_, n) => n), ticktext: names };
  // Every name only where there is room for it.
  const axis = num <= 40 ? { ...ticks, tickangle: 0 } : { nticks: 8 };
  return {
    data: [
      {
        type: "heatmap",
        z: shares,
        customdata: counts,
        text: counts.map((row) => row.map((n) => (n ? String(n) : ""))),
        texttemplate: num <= CONFUSION_COUNTS_MAX ? "%{text}" : undefined,
        x: names.map((_, n) => n),
        y: names.map((_, n) => n),
        zmin: 0,
        zmax: 1,
        xgap: num <= 40 ? 1 : 0,
        ygap: num <= 40 ? 1 : 0,
        showscale: false,
        colorscale: [
          [0, colour("head")],
          [1, colour("series0")],
        ],
        hovertemplate:
          "%{customdata} images, %{z:.0%} of the row<extra></extra>",
      },
    ],
    layout: {
      dragmode: false,
      margin: { l: 40, r: 8, t: 8, b: 40 },
      xaxis: {
        title: "predicted",
        showgrid: false,
        ...axis,
        range: [-0.5, num - 0.5],
      },
      yaxis: {
        title: "class",
        showgrid: false,
        ...axis,
        range: [num - 0.5, -0.5],
      },
    },
  };
}

// Pictures: test images with what the published paths say of them, or else the
// classes of the tasks that come with the install.

function samplesPanel(host) {
  const shown = data.tasks.filter((task) => data.predictions[task.name]);
  if (shown.length) {
    const body = el("div", { class: "pictures" });
    const draw = () =>
      body.replaceChildren(
        ...shown
          .filter((_, i) => all(shown) || String(i) === task.value)
          .map(predictionRow),
      );
    const task = choice(
      "samples-task",
      "Task",
      shown.map((one, i) => [String(i), one.name]),
      "0",
      draw,
    );
    if (!all(shown)) host.append(el("div", { class: "row" }, task.element));
    host.append(body);
    draw();
  } else {
    host.append(
      el(
        "p",
        { class: "quiet" },
        "launch/report.py --predictions adds what the published paths say of ",
        "test images. Here is the first training image of each class.",
      ),
    );
  }
  for (const strip of data.strips) host.append(stripFigure(strip));
  const known = new Set(data.strips.map((strip) => strip.task));
  const others = data.tasks
    .map((task) => task.name)
    .filter((name) => !data.predictions[name] && !known.has(name));
  if (others.length) {
    const named = others.slice(0, 12).join(", ");
    const more = others.length > 12 ? ` and ${others.length - 12} more` : "";
    host.append(
      el("p", { class: "quiet" }, `Without pictures: ${named}${more}.`),
    );
  }
}

// Whether there is room for the pictures of every task at once.
function all(shown) {
  return shown.length <= 12;
}

function predictionRow(task) {
  const known = data.predictions[task.name];
  // A class, or all labels of a picture that has any number of them.
  const named = (label) =>
    [label].flat().map((n) => task.classes[n] || String(n)).join(", ") ||
    "no label";
  const tiles = known.samples.map(([address, label, predicted, prob]) => {
    const right = String(label) === String(predicted);
    const said = right
      ? `${named(label)}, found`
      : `${named(label)}, taken for ${named(predicted)}`;
    const share = Array.isArray(predicted)
      ? ""
      : ` ${Math.round(100 * prob)}%`;
    return el(
      "figure",
      { class: right ? "tile" : "tile wrong" },
      el("img", { src: address, alt: said, loading: "lazy" }),
      el(
        "figcaption",
        {},
        el("span", { class: "mark", "aria-hidden": "true" }, right ? "✓" : "✗"),
        ` ${named(predicted)}${share}`,
        right ? "" : el("small", {}, `is ${named(label)}`),
      ),
    );
  });
  return el(
    "div",
    {},
    el(
      "h3",
      {},
      task.name,
      el(
        "span",
        { class: "quiet" },
        ` ${percent(known.num_correct, known.num_examples)} of ` +
          `${numberOf(known.num_examples, "test image")} right`,
      ),
    ),
    el("div", { class: "tiles" }, tiles),
  );
}

function stripFigure(strip) {
  if (strip.problem) return el("p", {}, `${strip.task}: ${strip.problem}.`);
  return el(
    "figure",
    {},
    el("img", {
      src: strip.address,
      width: strip.width,
      alt: `${strip.task}: ${strip.classes.join(", ")}`,
    }),
    el("figcaption", {}, strip.task),
  );
}

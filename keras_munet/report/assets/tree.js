// The evolutionary tree: every row of `points` that is asked for, to the right
// of the one it was cloned from.

const TREE_PATHS_MAX = 250;
const TREE_PIXELS = 540;
const TREE_LABELS_MAX = 40;
// Text is readable with this many pixels for a line and for a character.
const LINE_PIXELS = 15;
const CHAR_PIXELS = 6.2;

function treePanel(host) {
  const hint = el(
    "p",
    { class: "quiet", id: "tree-hint" },
    "Drag over a part to zoom in, double-click to zoom out. With the keyboard: ",
    "arrow keys walk along the tree, + and - zoom, 0 shows all of it.",
  );
  const kept = points.status.filter((s) => s <= KEPT).length;
  const show = choice(
    "tree-show",
    "Show",
    [
      ["lines", "Lines of published paths"],
      ["paths", "Every path"],
      ["all", "Every child"],
    ],
    kept <= TREE_PATHS_MAX ? "paths" : "lines",
    () => renew(),
  );
  const task = choice("tree-task", "Task", taskOptions(), "", () => renew());
  const button = (text, click) => el("button", { type: "button", click }, text);
  let shown = arranged(show.value, task.value);
  let view = memory.get("tree-view", null);
  const place = chart("tree-chart", figure, {
    label: "Evolutionary tree; the table below holds the same",
    height: TREE_PIXELS,
    role: "application",
  });
  place.setAttribute("tabindex", "0");
  place.setAttribute("aria-describedby", "tree-hint");
  place.addEventListener("keydown", walk);
  const details = el("div", { class: "details", id: "details" });
  const table = opening("open-paths", "The paths as a table", (body) =>
    body.append(pathTable()),
  );
  host.append(
    el(
      "div",
      { class: "row" },
      show.element,
      task.element,
      el(
        "div",
        { class: "buttons" },
        button("Zoom in", () => zoom(0.5)),
        button("Zoom out", () => zoom(2)),
        button("Whole tree", () => setView(null)),
      ),
    ),
    el("div", { class: "split" }, el("div", {}, place, hint, table), details),
  );
  detailsOf(details);
  selection.listeners.push((i, focus) => {
    if (i >= 0 && !shown.spots.has(i)) {
      // It is not among what is shown: show what it belongs to.
      show.value = "all";
      task.value = points.task[i] < 0 ? "" : String(points.task[i]);
      shown = arranged(show.value, task.value);
      view = null;
    }
    if (i >= 0 && view && !focus) bringIntoView(i);
    redraw("tree-chart");
  });

  function renew() {
    shown = arranged(show.value, task.value);
    setView(null);
  }

  function ranges() {
    return view || { x: [...shown.whole.x], y: [...shown.whole.y] };
  }

  function setView(next) {
    view = next;
    memory.set("tree-view", view);
    redraw("tree-chart");
  }

  function zoom(factor) {
    const at = ranges();
    const scaled = ([a, b]) => {
      const [middle, half] = [(a + b) / 2, ((b - a) / 2) * factor];
      return [middle - half, middle + half];
    };
    setView({ x: scaled(at.x), y: scaled(at.y) });
  }

  function bringIntoView(i) {
    const spot = shown.spots.get(i);
    const moved = ([a, b], value) => {
      const [low, high] = [Math.min(a, b), Math.max(a, b)];
      if (value >= low && value <= high) return [a, b];
      const by = value - (a + b) / 2;
      return [a + by, b + by];
    };
    view = { x: moved(view.x, spot.x), y: moved(view.y, spot.y) };
    memory.set("tree-view", view);
  }

  function walk(event) {
    const { key } = event;
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const at = selection.row;
    const inTree = (rows) => rows.filter((row) => shown.spots.has(row));
    let to = -1;
    if (key === "+" || key === "=") zoom(0.5);
    else if (key === "-") zoom(2);
    else if (key === "0") setView(null);
    else if (!key.startsWith("Arrow")) return;
    else if (at < 0 || !shown.spots.has(at)) to = shown.rows[0];
    else if (key === "ArrowLeft") to = points.parent[at];
    else if (key === "ArrowRight") [to] = inTree(childRows[at]);
    else {
      const parent = points.parent[at];
      const sisters = inTree(parent < 0 ? shown.roots : childRows[parent]);
      to = sisters[sisters.indexOf(at) + (key === "ArrowDown" ? 1 : -1)];
    }
    event.preventDefault();
    if (to >= 0) selection.choose(to);
  }

  function figure() {
    const kind = scatterKind(shown.rows.length);
    const { x, y } = ranges();
    const { edges, names } = texts();
    return {
      data: [
        ...edgeTraces(shown, kind),
        ...nodeTraces(shown, kind),
        textTrace("tree-edges", edges, "top center"),
        textTrace("tree-names", names, "middle right"),
      ],
      layout: {
        showlegend: true,
        margin: { l: 8, r: 8, t: 30, b: 40 },
        xaxis: {
          title: "generation, in the order of training",
          range: x,
          showgrid: true,
        },
        yaxis: { range: y, showgrid: false, showticklabels: false },
      },
      doubleClick: false,
      drawn,
    };
  }

  function drawn(at) {
    if (at.dataset.listens) return;
    at.dataset.listens = "yes";
    at.on("plotly_click", (event) => {
      const row = event.points[0].customdata;
      if (row >= 0) selection.choose(row);
    });
    at.on("plotly_doubleclick", () => setView(null));
    at.on("plotly_relayout", (change) => {
      if (!Object.keys(change).some((key) => key.includes("axis.range")))
        return;
      const { xaxis, yaxis } = at.layout;
      setView({ x: [...xaxis.range], y: [...yaxis.range] });
    });
  }

  // Returns the names of published paths, and the mutations of what is in
  // sight, where there is room to read them: `[x, y, text]` each.
  function texts() {
    const { x, y } = ranges();
    const [low, high] = [Math.min(...y), Math.max(...y)];
    const perX = (place.clientWidth - 16) / (x[1] - x[0]);
    const perY = (TREE_PIXELS - 70) / (high - low);
    const inside = shown.rows.filter((row) => {
      const spot = shown.spots.get(row);
      return spot.y >= low && spot.y <= high && spot.x >= x[0];
    });
    const readable =
      perY >= LINE_PIXELS && inside.length <= TREE_LABELS_MAX * 2;
    const [edges, names] = [[], []];
    for (const row of inside) {
      const spot = shown.spots.get(row);
      const parent = shown.spots.get(points.parent[row]);
      if (readable && parent) {
        const [from, to] = [Math.max(parent.x, x[0]), Math.min(spot.x, x[1])];
        const room = Math.floor(((to - from) * perX - 12) / CHAR_PIXELS);
        const text = (mutations(row) || []).join(", ");
        if (text && room >= 6) {
          edges.push([(from + to) / 2, spot.y, clipped(text, room)]);
        }
      }
      if (points.status[row] === PUBLISHED || points.status[row] === ROOT) {
        const name = clipped(taskName(points.task[row]), 26);
        names.push([spot.x, spot.y, `\u00a0\u00a0${name}`]);
      }
    }
    const few = names.length <= TREE_LABELS_MAX;
    return { edges, names: few ? apart(names, perX, perY) : [] };
  }
}

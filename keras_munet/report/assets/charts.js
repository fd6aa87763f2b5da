// How charts look and when they are drawn: first when they come near the
// window, again when the colours change.

const charts = new Map();
let plotting = null;

const hasWebgl = (() => {
  let found = null;
  return () => {
    if (found === null) {
      const context = document.createElement("canvas").getContext("webgl");
      found = Boolean(context);
      if (context) context.getExtension("WEBGL_lose_context")?.loseContext();
    }
    return found;
  };
})();

// Whether points are so many that the graphics processor draws them, where
// there is one.
function isMany(numPoints) {
  return data.svg_points_max !== null && numPoints > data.svg_points_max;
}

function scatterKind(numPoints) {
  return isMany(numPoints) && hasWebgl() ? "scattergl" : "scatter";
}

// Returns the value of a colour of the style sheet.
function colour(name) {
  const style = getComputedStyle(document.documentElement);
  return style.getPropertyValue(`--${name}`).trim();
}

function seriesColour(i) {
  return colour(`series${i % 7}`);
}

// Returns a place for a chart that draws itself.
//
// make: returns `data` and `layout`, and optionally `drawn`, which is given the
//   place once the chart stands there.
// options: `label` says what one sees, `height` in pixels, `role`.
function chart(key, make, options) {
  const place = el("div", {
    id: key,
    class: "chart",
    role: options.role || "img",
    "aria-label": options.label,
    style: `min-height: ${options.height}px`,
  });
  const known = { place, make, near: false, drawn: false, options };
  charts.set(key, known);
  watcher.observe(place);
  return place;
}

const watcher = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const known = charts.get(entry.target.id);
      if (known) {
        known.near = entry.isIntersecting;
        if (known.near && !known.drawn) draw(entry.target.id);
      }
    }
  },
  { rootMargin: "300px" },
);

// Draws a chart anew if it has been drawn, else when it comes near.
function redraw(key) {
  const known = charts.get(key);
  if (!known) return;
  known.drawn = false;
  known.place.dataset.drawn = "no";
  if (known.near) draw(key);
}

function redrawAll() {
  for (const key of charts.keys()) redraw(key);
}

// Forgets the charts of a place that is emptied.
function forgetCharts(prefix) {
  for (const [key, known] of charts) {
    if (key.startsWith(prefix)) {
      watcher.unobserve(known.place);
      charts.delete(key);
      // One that is being drawn is taken apart when it stands.
      if (known.drawn && !known.busy) plotting.purge(known.place);
      known.gone = true;
    }
  }
}

function draw(key) {
  const known = charts.get(key);
  if (!plotting || !known) return;
  known.drawn = true;
  // The library may not be asked for another chart before this one stands.
  known.again = known.busy;
  if (known.busy) return;
  known.busy = true;
  const figure = known.make();
  const height = figure.height || known.options.height;
  known.place.style.minHeight = `${height}px`;
  plotting
    .react(known.place, figure.data, layoutOf(figure.layout, height), {
      displayModeBar: false,
      responsive: true,
      doubleClick: figure.doubleClick ?? "reset",
    })
    .then(() => {
      known.busy = false;
      if (known.gone) plotting.purge(known.place);
      else if (known.again) draw(key);
      else {
        known.place.dataset.drawn = known.drawn ? "yes" : "no";
        if (figure.drawn) figure.drawn(known.place);
      }
    });
}

// Returns a height with room for a legend, whose entries stand one below the
// other where the window is narrow.
function heightWith(height, numEntries) {
  return innerWidth < 640 ? height + 19 * numEntries : height;
}

function layoutOf(layout, height) {
  const axis = {
    gridcolor: colour("grid"),
    linecolor: colour("line"),
    zeroline: false,
    automargin: true,
    ticks: "",
    tickfont: { color: colour("quiet") },
  };
  const { xaxis, yaxis, ...rest } = layout;
  const title = (own) =>
    own && own.title
      ? {
          text: own.title,
          standoff: 10,
          font: { color: colour("quiet"), size: 12 },
        }
      : undefined;
  return {
    height,
    margin: { l: 48, r: 16, t: 12, b: 40 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: colour("ink") },
    hovermode: "closest",
    hoverlabel: {
      bgcolor: colour("card"),
      bordercolor: colour("line"),
      font: { color: colour("ink"), size: 12 },
      align: "left",
    },
    showlegend: false,
    legend: {
      orientation: "h",
      x: 0,
      y: 1.02,
      yanchor: "bottom",
      itemclick: false,
      itemdoubleclick: false,
      font: { color: colour("ink") },
    },
    // A finger should move the page, not the chart.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    ...rest,
    xaxis: { ...axis, ...xaxis, title: title(xaxis) },
    yaxis: { ...axis, ...yaxis, title: title(yaxis) },
  };
}

// Unpacks the plotting library and runs it: the policy of the page knows its
// digest.
async function startPlotting() {
  const packed = atob(document.getElementById("plotly").textContent);
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes])
    .stream()
    .pipeThrough(new DecompressionStream("deflate"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  plotting = window.Plotly;
  for (const [key, known] of charts) if (known.near) draw(key);
}

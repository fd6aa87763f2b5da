// Puts the panels into the page, and keeps it up to date while a job runs.

const THEMES = ["auto", "light", "dark"];

function themeControl() {
  const button = el("button", {
    type: "button",
    click() {
      const next = THEMES.indexOf(memory.get("theme", "auto")) + 1;
      memory.set("theme", THEMES[next % THEMES.length]);
      apply();
      redrawAll();
    },
  });
  const apply = () => {
    const theme = memory.get("theme", "auto");
    document.documentElement.dataset.theme = theme;
    button.textContent = `Colours: ${theme}`;
  };
  apply();
  matchMedia("(prefers-color-scheme: dark)").addEventListener(
    "change",
    redrawAll,
  );
  return button;
}

// Loads the page again every so often, unless the reader is in the middle of
// something or has stopped it.
function liveControl() {
  if (!data.live_secs) return null;
  let lastTouch = 0;
  for (const kind of ["keydown", "pointerdown", "pointermove", "wheel"]) {
    addEventListener(kind, () => (lastTouch = Date.now()), { passive: true });
  }
  const said = el("span", {}, `Live, every ${data.live_secs} s`);
  const button = el("button", {
    type: "button",
    click() {
      memory.set("paused", !memory.get("paused", false));
      apply();
    },
  });
  const apply = () => {
    const paused = memory.get("paused", false);
    button.textContent = paused ? "Go on" : "Pause";
    said.classList.toggle("paused", paused);
  };
  apply();
  setInterval(() => {
    const busy =
      Date.now() - lastTouch < 2000 ||
      document.activeElement?.matches("select, input");
    if (!document.hidden && !busy && !memory.get("paused", false)) {
      memory.set("scroll", scrollY);
      memory.set("focus", document.activeElement?.id || "");
      location.reload();
    }
  }, data.live_secs * 1000);
  return el("div", { class: "live" }, said, button);
}

function settingsPanel(host) {
  const table = (key, label, names, rows) =>
    pagedTable(
      names.map((name, i) => ({ name, value: (row) => row[i], text: true })),
      rows,
      { key, label, kind: "words", words: (row) => row.join(" ") },
    ).element;
  host.append(
    opening("open-settings", "Settings as a table", (body) =>
      body.append(
        table(
          "settings-table",
          "Settings",
          ["setting", "value"],
          data.settings,
        ),
      ),
    ),
  );
  const named = data.tasks.filter((task) => task.classes.length);
  if (!named.length) return;
  host.append(
    opening("open-classes", "Class names", (body) =>
      body.append(
        table(
          "classes-table",
          "Class names",
          ["task", "classes, in the order of the outputs"],
          named.map((task) => [task.name, task.classes.join(", ")]),
        ),
      ),
    ),
  );
}

const PANELS = {
  leaderboard: leaderboardPanel,
  progress: progressPanel,
  tree: treePanel,
  sharing: sharingPanel,
  parameters: parametersPanel,
  time: timePanel,
  samples: samplesPanel,
  settings: settingsPanel,
};

function start() {
  const controls = document.getElementById("controls");
  controls.append(...[liveControl(), themeControl()].filter(Boolean));
  for (const [id, make] of Object.entries(PANELS)) {
    const host = panelOf(id);
    if (host) make(host);
  }
  const remembered = selectionFromMemory();
  const first = publishedRow.find((row) => row >= 0);
  const chosen = remembered >= 0 ? remembered : first;
  if (chosen >= 0) selection.choose(chosen);
  history.scrollRestoration = "manual";
  addEventListener("scroll", () => memory.set("scroll", scrollY), {
    passive: true,
  });
  scrollTo(0, memory.get("scroll", 0));
  const focused = memory.get("focus", "");
  if (focused) {
    document.getElementById(focused)?.focus({ preventScroll: true });
    memory.set("focus", "");
  }
  startPlotting().then(() => {
    document.documentElement.dataset.ready = "yes";
  });
}

start();

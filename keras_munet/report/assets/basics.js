// Elements, numbers and what the page remembers. Every text of a system enters
// the page as a text node or an attribute, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const NONE = "-";

// Returns a new element. Attributes that are functions are listeners.
function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.flat().filter((child) => child !== null));
  return element;
}

// Returns a text for a chart: the plotting library reads some markup in texts.
function plain(text) {
  return String(text)
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;");
}

// Returns a name that may break where its parts join.
function breakable(text) {
  return text
    .split(/(?<=[/_])/)
    .flatMap((part, i) => (i ? [document.createElement("wbr"), part] : [part]));
}

function shortened(text, length) {
  return text.length <= length ? text : ".." + text.slice(2 - length);
}

function isNumber(value) {
  return typeof value === "number";
}

function fraction(value) {
  return isNumber(value) ? value.toFixed(4) : NONE;
}

function count(value) {
  return isNumber(value) ? Math.round(value).toLocaleString("en-US") : NONE;
}

function percent(part, whole) {
  return whole ? `${((100 * part) / whole).toFixed(1)}%` : NONE;
}

function numberOf(num, noun, plural = noun + "s") {
  return `${count(num)} ${num === 1 ? noun : plural}`;
}

// Returns a duration as the text report has it.
function duration(secs) {
  if (secs < 99.95) return `${secs.toFixed(1)} s`;
  const twoDigits = (n) => String(n).padStart(2, "0");
  const whole = Math.round(secs);
  if (whole < 3600) {
    return `${Math.floor(whole / 60)} min ${twoDigits(whole % 60)} s`;
  }
  const minutes = Math.round(secs / 60);
  return `${count(Math.floor(minutes / 60))} h ${twoDigits(minutes % 60)} min`;
}

// Returns a hyperparameter's value.
function valueText(value) {
  if (value === null) return "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (isNumber(value)) return String(Number(value.toPrecision(6)));
  return String(value);
}

// What the reader chose, kept in the tab so that a page that loads itself again
// looks as it was left. A browser may refuse to keep it.
const memory = (() => {
  const key = `keras_munet report ${location.pathname} ${data.name}`;
  let values = {};
  try {
    values = JSON.parse(sessionStorage.getItem(key)) || {};
  } catch {
    values = {};
  }
  return {
    get: (name, otherwise) => (name in values ? values[name] : otherwise),
    set(name, value) {
      values[name] = value;
      try {
        sessionStorage.setItem(key, JSON.stringify(values));
      } catch {
        // Then the next page starts afresh.
      }
    },
  };
})();

// Returns a labelled choice; `chosen` is told each new value.
function choice(key, label, options, otherwise, chosen) {
  const values = options.map(([value]) => value);
  const kept = memory.get(key, otherwise);
  const select = el(
    "select",
    {
      id: key,
      change() {
        memory.set(key, select.value);
        chosen(select.value);
      },
    },
    options.map(([value, text]) => el("option", { value }, text)),
  );
  select.value = values.includes(kept) ? kept : otherwise;
  return {
    element: el("label", { class: "control" }, el("span", {}, label), select),
    get value() {
      return select.value;
    },
    set value(value) {
      select.value = value;
      memory.set(key, value);
    },
  };
}

// Returns a labelled field that narrows something down as one types.
function filterField(key, label, changed) {
  const input = el("input", {
    type: "search",
    id: key,
    autocomplete: "off",
    spellcheck: "false",
    value: memory.get(key, ""),
    input() {
      memory.set(key, input.value);
      changed();
    },
  });
  return {
    element: el("label", { class: "control" }, el("span", {}, label), input),
    matches(text) {
      return text.toLowerCase().includes(input.value.trim().toLowerCase());
    },
    get value() {
      return input.value.trim();
    },
    set value(value) {
      input.value = value;
      memory.set(key, value);
    },
  };
}

// Returns a part that opens; its content is made when it first does.
function opening(key, title, fill) {
  const body = el("div");
  const details = el(
    "details",
    {
      open: memory.get(key, false),
      toggle() {
        memory.set(key, details.open);
        show();
      },
    },
    el("summary", {}, title),
    body,
  );
  const show = () => {
    if (details.open && !body.childNodes.length) fill(body);
  };
  show();
  return details;
}

function pairList(pairs) {
  return el(
    "dl",
    { class: "pairs" },
    pairs.map(([name, value]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, value)),
    ),
  );
}

function panelOf(id) {
  const section = document.getElementById(id);
  return section && section.querySelector(".panel");
}

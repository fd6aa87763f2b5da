// The system as the panels ask for it: points, their mutations, their names.

const points = data.points;
const numPoints = points.id.length;
const [ROOT, PUBLISHED, REPLACED, KEPT, NOT_BETTER, DIVERGED, UNKNOWN] = [
  0, 1, 2, 3, 4, 5, 6,
];
const STATUS_TEXT = {
  [ROOT]: "root",
  [PUBLISHED]: "published",
  [REPLACED]: "published, replaced since",
  [KEPT]: "kept as a path",
  [NOT_BETTER]: "not better, discarded",
  [DIVERGED]: "diverged, discarded",
  [UNKNOWN]: "only its name is known",
};
const UNKNOWN_TEXT = "unknown";
const taskNames = [...data.tasks.map((task) => task.name), ...data.other_tasks];
const rowById = new Map();
points.id.forEach((id, i) => {
  if (id !== null) rowById.set(id, i);
});
const childRows = points.id.map(() => []);
points.parent.forEach((parent, i) => {
  if (parent >= 0) childRows[parent].push(i);
});
// Child after child in the order of training, from 1.
const trainedOrder = new Int32Array(numPoints);
{
  let order = 0;
  for (let i = 0; i < numPoints; i += 1) {
    if (points.generation[i] >= 0) trainedOrder[i] = order += 1;
  }
}
const endedSecs = [];
data.generations.secs.reduce((sum, secs) => {
  endedSecs.push(sum + secs);
  return sum + secs;
}, 0);

function taskName(task) {
  return task >= 0 ? taskNames[task] : "root";
}

function pointName(i) {
  if (points.status[i] === ROOT) return "root";
  const id = points.id[i];
  return id === null ? "child" : `path ${id.slice(0, 8)}`;
}

function born(i) {
  const g = points.generation[i];
  if (g < 0) return "";
  const { iteration, number } = data.generations;
  return (
    `iteration ${iteration[g] + 1}, generation ${number[g]}` +
    (points.child[i] >= 0 ? `, child ${points.child[i] + 1}` : "")
  );
}

function places(i) {
  return points.place_lists[points.places[i]];
}

function trained(i) {
  return points.place_lists[points.trained[i]];
}

function hparam(i, name) {
  const [values, numbers] = points.hparams[name];
  return numbers[i] < 0 ? undefined : values[numbers[i]];
}

// Places that every child trains say nothing about one of them.
const alwaysTrained = (() => {
  const lists = new Set();
  for (let i = 0; i < numPoints; i += 1) {
    if (points.generation[i] >= 0) lists.add(points.trained[i]);
  }
  const all = [...lists].map((list) => points.place_lists[list]);
  return new Set(
    (all[0] || []).filter((name) => all.every((list) => list.includes(name))),
  );
})();

// Returns what the events record of a child, or null: earlier ones do not.
function recordOf(i) {
  const number = points.record[i];
  if (number < 0) return null;
  const [components, mutations, inserted, removed, ...reached] =
    points.records[number];
  const [size_factor, accounted_params, quality, duplicate_of] = reached;
  return {
    ...{ components, mutations, inserted, removed },
    ...{ size_factor, accounted_params, quality, duplicate_of },
  };
}

// Returns where the components of a child come from, or null.
function origins(i) {
  const record = recordOf(i);
  if (record === null) return null;
  return record.components.map((number) => {
    const [name, init, trainable, params, source, task] =
      points.origins[number];
    return { name, init, trainable, params, source, task };
  });
}

// Returns what changed from the parent, as short texts, or null if no event
// records it.
function mutations(i) {
  if (points.status[i] === ROOT) return [];
  const record = recordOf(i);
  if (record === null) return null;
  const found = record.mutations.map(
    ([name, before, after]) =>
      `${name} ${valueText(before)} → ${valueText(after)}`,
  );
  for (const name of record.inserted) found.push(`+ ${name}`);
  for (const name of record.removed) found.push(`- ${name}`);
  const drawn = origins(i).filter(
    (part) => part.trainable && !alwaysTrained.has(part.name),
  );
  for (const [init, verb] of [
    ["copy", "clones"],
    ["resample", "resamples and trains"],
  ]) {
    const names = drawn.filter((part) => part.init === init);
    if (names.length) {
      found.push(`${verb} ${names.map((part) => part.name).join(", ")}`);
    }
  }
  const solved = origins(i).filter((part) => part.init === "solved");
  for (const part of solved) found.push(`solves ${part.name}, trains nothing`);
  return found;
}

function mutationText(i) {
  const found = mutations(i);
  return found === null ? UNKNOWN_TEXT : found.join(", ");
}

// Returns the rows from a point up to where its lineage is known.
function lineage(i) {
  const rows = [];
  const seen = new Set();
  for (let at = i; at >= 0 && !seen.has(at); at = points.parent[at]) {
    seen.add(at);
    rows.push(at);
  }
  return rows;
}

// Returns the texts that a chart shows beside the pointer. Of many points they
// leave out the mutations, which take longer to find than the chart to draw.
function hoverTexts(rows) {
  const many = isMany(rows.length);
  return rows.map((row) => hoverText(row, !many));
}

function hoverText(i, withMutations) {
  const lines = [
    `<b>${plain(taskName(points.task[i]))}</b> ${plain(pointName(i))}`,
    plain(
      `${STATUS_TEXT[points.status[i]]}` +
        (isNumber(points.score[i])
          ? `, score ${fraction(points.score[i])}`
          : ""),
    ),
  ];
  if (born(i)) lines.push(plain(born(i)));
  const changes = (withMutations && mutations(i)) || [];
  for (const text of changes.slice(0, 5)) lines.push(plain(text));
  if (changes.length > 5) lines.push(`and ${changes.length - 5} more`);
  return lines.join("<br>");
}

// Task -> its rows, and task -> the row of its published path.
const rowsOfTask = taskNames.map(() => []);
const publishedRow = taskNames.map(() => -1);
points.task.forEach((task, i) => {
  if (task < 0) return;
  rowsOfTask[task].push(i);
  if (points.status[i] === PUBLISHED) publishedRow[task] = i;
});

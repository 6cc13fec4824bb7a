// What changed between two texts, line by line: the shortest edit (Myers), then folded around what stayed.

export interface Line {
  kind: "same" | "added" | "removed";
  text: string;
  /** Line numbers, from 1, in the old and the new text. */
  old?: number;
  new?: number;
}

export interface Fold {
  kind: "fold";
  count: number;
}

/** Beyond this many edits the texts have little in common: all of the old goes, all of the new comes. */
const EDITS_MAX = 2000;

export function diff(before: string, after: string): Line[] {
  const a = before === "" ? [] : before.split("\n");
  const b = after === "" ? [] : after.split("\n");
  const trail = edits(a, b);
  const lines: Line[] = [];
  let [x, y] = [0, 0];
  const same = () => lines.push({ kind: "same", text: a[x] ?? "", old: ++x, new: ++y });
  for (const [edit, at] of trail) {
    while (edit === "removed" ? x < at : y < at) same();
    if (edit === "removed") lines.push({ kind: "removed", text: a[x] ?? "", old: ++x });
    else lines.push({ kind: "added", text: b[y] ?? "", new: ++y });
  }
  while (x < a.length && y < b.length) same();
  return lines;
}

type Edit = ["removed" | "added", number];

/** The edits in order, each with the line (from 0) of the text that it is about. */
function edits(a: string[], b: string[]): Edit[] {
  const whole = (): Edit[] => [
    ...a.map((_, index): Edit => ["removed", index]),
    ...b.map((_, index): Edit => ["added", index]),
  ];
  const most = Math.min(a.length + b.length, EDITS_MAX);
  let reach = new Map<number, number>([[1, 0]]);
  const history: Map<number, number>[] = [];
  for (let depth = 0; depth <= most; depth += 1) {
    history.push(new Map(reach));
    for (let k = -depth; k <= depth; k += 2) {
      const down = k === -depth || (k !== depth && (reach.get(k - 1) ?? -1) < (reach.get(k + 1) ?? -1));
      let x = down ? (reach.get(k + 1) ?? 0) : (reach.get(k - 1) ?? 0) + 1;
      let y = x - k;
      while (x < a.length && y < b.length && a[x] === b[y]) {
        x += 1;
        y += 1;
      }
      reach.set(k, x);
      if (x >= a.length && y >= b.length) return walkBack(history, a.length, b.length);
    }
    reach = new Map(reach);
  }
  return whole();
}

function walkBack(history: Map<number, number>[], x: number, y: number): Edit[] {
  const found: Edit[] = [];
  for (let depth = history.length - 1; depth > 0; depth -= 1) {
    const reach = history[depth] ?? new Map<number, number>();
    const k = x - y;
    const down = k === -depth || (k !== depth && (reach.get(k - 1) ?? -1) < (reach.get(k + 1) ?? -1));
    const from = down ? k + 1 : k - 1;
    const fromX = reach.get(from) ?? 0;
    const fromY = fromX - from;
    found.push(down ? ["added", fromY] : ["removed", fromX]);
    [x, y] = [fromX, fromY];
  }
  return found.reverse();
}

/** Leaves `context` lines around each change and folds the rest. */
export function folded(lines: Line[], context = 3): (Line | Fold)[] {
  const near = lines.map((_, index) =>
    lines.slice(Math.max(0, index - context), index + context + 1).some((line) => line.kind !== "same"),
  );
  const shown: (Line | Fold)[] = [];
  for (const [index, line] of lines.entries()) {
    const last = shown.at(-1);
    if (near[index]) shown.push(line);
    else if (last?.kind === "fold") last.count += 1;
    else shown.push({ kind: "fold", count: 1 });
  }
  return shown;
}

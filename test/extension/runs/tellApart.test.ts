import { expect, it } from "vitest";
import { tellApart } from "../../../src/extension/runs/tellApart";

type Row = [name: string, method: string | null, createdAt: string, directory: string];
const reap: Row = ["fine", "reap", "2026-11-30T10:00:00Z", "/r/a"];

it.each<[string, Row[], string[]]>([
  ["of their own names keep them", [reap, ["other", "reap", reap[2], "/r/b"]], ["fine", "other"]],
  ["of two methods", [reap, ["fine", "frequency", reap[2], "/r/b"]], ["fine · reap", "fine · frequency"]],
  [
    "of one method",
    [reap, ["fine", "reap", "2026-11-29T09:30:00Z", "/r/b"]],
    ["fine · 2026-11-30 10:00", "fine · 2026-11-29 09:30"],
  ],
  [
    "two of a method at one time, a third without",
    [reap, ["fine", "reap", "2026-11-29T10:00:00Z", "/r/b"], ["fine", null, "2026-11-29T10:00:00Z", "/r/c"]],
    ["fine · reap · 2026-11-30 10:00", "fine · reap · 2026-11-29 10:00", "fine · 2026-11-29 10:00"],
  ],
  ["alike in everything", [reap, [...reap.slice(0, 3), "/r/b"] as unknown as Row], ["fine · a", "fine · b"]],
])("runs %s", (_, rows, names) => {
  const runs = rows.map(([name, method, createdAt, directory]) => ({ name, method, createdAt, directory }));
  expect(tellApart(runs).map(({ name }) => name)).toEqual(names);
});

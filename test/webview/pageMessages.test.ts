import { describe, expect, it } from "vitest";
import { parseFromPage, parsePageState, parseToPage } from "../../src/protocol/pageMessages";

const context = { title: "t", source: { kind: "run", runDirectory: "r" }, live: false, colourScale: "viridis" };
const matrix = { rows: 1, columns: 2, values: [0.25, null] };
const similarity = {
  layers: [0],
  layer: 0,
  metric: "weight-cosine",
  available: ["weight-cosine"],
  numExperts: 1,
  matrix: { rows: 1, columns: 1, values: [1] },
  dendrogramOrder: [0],
  groups: [],
  dropped: [],
};
const divergence = {
  teacher: "a",
  student: "b",
  layers: [3],
  numExperts: 2,
  mapping: { kind: "kept", description: "d" },
  before: { kl: matrix, byLayer: [] },
  after: null,
};

describe("messages from a page", () => {
  const rows: [string, unknown, boolean][] = [
    ["ready", { type: "ready", page: "routing", state: null }, true],
    [
      "ready with state",
      {
        type: "ready",
        page: "routing",
        state: { version: 1, page: "routing", source: null, view: { metric: "share" } },
      },
      true,
    ],
    ["ready of an unknown page", { type: "ready", page: "shell", state: null }, false],
    [
      "similarity request",
      { type: "request", id: 1, method: "similarity", params: { layer: 2, metric: "weight-cosine" } },
      true,
    ],
    ["unknown metric", { type: "request", id: 1, method: "similarity", params: { layer: 2, metric: "rm" } }, false],
    [
      "allowed command",
      { type: "request", id: 2, method: "command", params: { command: "cancelRun", runDirectory: null } },
      true,
    ],
    [
      "any other command",
      {
        type: "request",
        id: 2,
        method: "command",
        params: { command: "workbench.action.terminal.new", runDirectory: null },
      },
      false,
    ],
    [
      "a path instead of a known file",
      { type: "request", id: 3, method: "openFile", params: { file: "../../etc/passwd" } },
      false,
    ],
    ["unknown method", { type: "request", id: 3, method: "exec", params: {} }, false],
    ["selection", { type: "select", layer: 1, expert: null }, true],
    ["selection of a string", { type: "select", layer: "1", expert: null }, false],
    ["not an object", "ready", false],
  ];
  it.each(rows)("%s", (_, message, ok) => {
    expect(parseFromPage(message).ok).toBe(ok);
  });
});

describe("messages to a page", () => {
  const hydrate = (page: string, data: unknown) => ({ type: "hydrate", page, context, data, empty: null });
  const rows: [string, unknown, boolean][] = [
    ["divergence", hydrate("divergence", divergence), true],
    ["similarity", hydrate("similarity", similarity), true],
    ["another page's data", hydrate("routing", similarity), false],
    ["a matrix of the wrong size", hydrate("similarity", { ...similarity, matrix: { ...matrix, rows: 2 } }), false],
    [
      "a matrix with text",
      hydrate("similarity", { ...similarity, matrix: { rows: 1, columns: 1, values: ["1"] } }),
      false,
    ],
    ["empty", { ...hydrate("routing", null), empty: { message: "no profile", command: "profileRouting" } }, true],
    [
      "metrics",
      {
        type: "update",
        page: "calibration",
        lines: [{ kind: "held-out", step: 1, kl: 0.5, nll: 2, best: true }],
      },
      true,
    ],
    ["metrics for a page without stream", { type: "update", page: "routing", lines: [] }, false],
    ["response", { type: "response", id: 1, ok: true, result: null }, true],
    ["failed response", { type: "response", id: 1, ok: false, error: { code: "internal", message: "m" } }, true],
    ["failed response without error", { type: "response", id: 1, ok: false }, false],
    ["error", { type: "error", message: "m", code: "run/invalid" }, true],
  ];
  it.each(rows)("%s", (_, message, ok) => {
    expect(parseToPage(message).ok).toBe(ok);
  });

  it("says which field does not fit", () => {
    const result = parseToPage(hydrate("divergence", { ...divergence, numExperts: "2" }));
    expect(result).toMatchObject({ ok: false, reason: expect.stringContaining("numExperts") as string });
  });
});

it("ignores the state of another version", () => {
  expect(parsePageState({ version: 2, page: "routing", source: null, view: {} })).toBeNull();
  expect(parsePageState({ version: 1, page: "routing", source: null, view: {} })).not.toBeNull();
});

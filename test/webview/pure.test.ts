import { describe, expect, it } from "vitest";
import { mergeMetrics } from "../../webview/calibration/merge";
import { colourDomain, paintCells } from "../../webview/common/charts/colourDomain";
import { lookupTable, lutSize } from "../../webview/common/charts/colourScale";
import { tickLabels, ticksApart, uprightTitle } from "../../webview/common/charts/axis";
import * as format from "../../webview/common/format";
import { toCsv } from "../../webview/common/tableModel";
import { cutMiddle, showInvisible } from "../../webview/common/text";
import { cellValues, neverUsedText } from "../../webview/routing/measures";
import { isPermutation, reorder } from "../../webview/similarity/reorder";
import { arrangeRows } from "../../webview/tensors/rows";
import * as samples from "./samples";

/** CIE lightness of linear RGB. */
function lightness(rgb: readonly number[]): number {
  const y = 0.2126 * rgb[0]! + 0.7152 * rgb[1]! + 0.0722 * rgb[2]!;
  return y > 0.008856 ? 116 * Math.cbrt(y) - 16 : 903.3 * y;
}
const linear = (c: number): number => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
/** Viénot, Brettel and Mollon 1999, on linear RGB. */
const sight: Record<string, number[][]> = {
  full: [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ],
  protanopia: [
    [0.11238, 0.88762, 0],
    [0.11238, 0.88762, 0],
    [0.00401, -0.00401, 1],
  ],
  deuteranopia: [
    [0.29275, 0.70725, 0],
    [0.29275, 0.70725, 0],
    [-0.02234, 0.02234, 1],
  ],
};

it.each([
  ["numbers that differ", [2, 2.1, 2.2], ["2", "2.1", "2.2"]],
  ["numbers that differ late", [2.08152, 2.08154, 2.08156], ["2.08152", "2.08154", "2.08156"]],
  ["around nought", [0, 1.00001, 1.00002], ["0.00000", "1.00001", "1.00002"]],
] as const)("ticks of %s are told apart", (_, values, labels) => {
  const label = tickLabels((value) => String(Number(value.toPrecision(4))));
  const ticks = values.map((value) => ({ value }));
  expect(values.map((value, i) => label(value, i, ticks))).toEqual(labels);
});

it("ticks with a unit stay as they are", () => {
  expect(tickLabels((value) => `${value.toFixed(0)} MiB`)(1.1, 0, [{ value: 1.1 }, { value: 1.2 }])).toBe("1 MiB");
});

it("ticks of a logarithmic axis whose labels would lie on each other are left out", () => {
  const ticks = [0.27, 0.28, 0.29, 0.3, 0.35, 0.4, 0.5, 0.7, 1].map((value) => ({ value }));
  expect(ticksApart(ticks, 335).map(({ value }) => value)).toEqual([0.28, 0.3, 0.35, 0.4, 0.5, 0.7, 1]);
  expect(ticksApart(ticks, 40).map(({ value }) => value)).toEqual([0.29, 0.5, 1]);
});

describe("colour scales", () => {
  const cases = (["viridis", "cividis", "greys"] as const).flatMap((scale) =>
    Object.keys(sight).map((kind) => [scale, kind] as const),
  );
  it.each(cases)("%s rises in lightness for %s", (scale, kind) => {
    const table = lookupTable(scale);
    const matrix = sight[kind]!;
    let last = -1;
    for (let i = 0; i < lutSize; i += 32) {
      const colour = [0, 1, 2].map((c) => linear(table[i * 3 + c]!));
      const seen = matrix.map((row) => Math.max(0, row[0]! * colour[0]! + row[1]! * colour[1]! + row[2]! * colour[2]!));
      const value = lightness(seen);
      expect(value).toBeGreaterThan(last);
      last = value;
    }
    expect(last).toBeGreaterThan(75);
  });

  it("paints one pixel a cell: ends, middle and transparent nulls", () => {
    const domain = colourDomain([0, null, 5, 10], { colours: "viridis" });
    const pixels = new Uint8ClampedArray(16);
    paintCells([0, null, 5, 10], domain, pixels);
    expect([...pixels.slice(0, 4)]).toEqual([0x44, 0x01, 0x54, 255]);
    expect(pixels[7]).toBe(0);
    expect([...pixels.slice(12)]).toEqual([0xfd, 0xe7, 0x25, 255]);
    expect(pixels[8 + 1]).toBeCloseTo(0x91, -1);
  });

  const positions: [string, (number | null)[], Parameters<typeof colourDomain>[1], [number, number][]][] = [
    [
      "linear",
      [2, 4],
      { colours: "viridis" },
      [
        [2, 0],
        [3, 0.5],
        [4, 1],
        [9, 1],
      ],
    ],
    [
      "from zero",
      [2, 4],
      { colours: "viridis", min: 0 },
      [
        [0, 0],
        [2, 0.5],
      ],
    ],
    [
      "signed",
      [-1, 4],
      { colours: "viridis", diverging: true },
      [
        [-4, 0],
        [0, 0.5],
        [4, 1],
      ],
    ],
    [
      "logarithmic",
      [0, 0.01, 100],
      { colours: "viridis", log: true },
      [
        [0, 0],
        [0.01, 0],
        [1, 0.5],
        [100, 1],
      ],
    ],
    [
      "logarithmic over four decades at most",
      [1e-12, 1],
      { colours: "viridis", log: true },
      [
        [1e-4, 0],
        [0.01, 0.5],
      ],
    ],
    ["logarithmic without positive values stays linear", [-2, 0], { colours: "viridis", log: true }, [[-1, 0.5]]],
    ["all equal", [3, 3], { colours: "viridis" }, [[3, 0.5]]],
    [
      "nothing",
      [null],
      { colours: "viridis" },
      [
        [0, 0],
        [1, 1],
      ],
    ],
  ];
  it.each(positions)("position: %s", (_, values, options, expected) => {
    const domain = colourDomain(values, options);
    for (const [value, position] of expected) expect(domain.position(value)).toBeCloseTo(position, 10);
  });
});

describe("format", () => {
  const rows: [string, string][] = [
    [format.decimal(null), "–"],
    [format.decimal(0), "0"],
    [format.decimal(0.012345), "0.01235"],
    [format.decimal(-0.00012345), "-1.23·10⁻⁴"],
    [format.decimal(1234567.8), "1,235,000"],
    [format.decimal(1.5e9), "1.5·10⁹"],
    [format.decimal(123456.25, 8), "123,456.25"],
    [format.count(1536000), "1,536,000"],
    [format.count(-1234), "-1,234"],
    [format.percent(0.0078125), "0.781 %"],
    [format.bytes(1023), "1023 B"],
    [format.bytes(1024), "1.00 KiB"],
    [format.bytes(61_064_245_248), "56.9 GiB"],
    [format.parameters(30_532_122_624), "30.5 B"],
    [format.parameters(12), "12"],
    [format.bytes(null), "–"],
    [format.decimal(1.43e-17), "0 (< 10⁻¹²)"],
    [format.duration(59.6), "1 min"],
    [format.duration(7800), "2 h 10 min"],
  ];
  it.each(rows)("%s", (actual, expected) => {
    expect(actual).toBe(expected);
  });
});

describe("untrusted text", () => {
  it("writes invisible and direction-changing characters out", () => {
    expect(showInvisible("a\u202eb\u0000c\u2066d\u200be")).toBe("a⟨U+202E⟩b⟨U+0000⟩c⟨U+2066⟩d⟨U+200B⟩e");
    expect(showInvisible("שלום 模型 é 🧠")).toBe("שלום 模型 é 🧠");
  });
  it("cuts the middle, never inside a character", () => {
    expect(cutMiddle("abcdefgh", 5)).toBe("ab…gh");
    expect(cutMiddle("abc", 5)).toBe("abc");
    expect(cutMiddle("🧠🧠🧠🧠", 4)).toBe("🧠…");
  });
  it("is quoted in CSV and never a formula", () => {
    const cells = ["=1+1", "a,b", 'say "x"', "@cmd", "-2", "plain"];
    const csv = toCsv({
      caption: "",
      columns: [{ label: "name" }, { label: "value" }],
      rowCount: cells.length,
      cell: (r, c) => (c === 0 ? cells[r]! : r === 1 ? null : -r / 3),
    });
    expect(csv.split("\r\n")).toEqual([
      "name,value",
      "'=1+1,0",
      '"a,b",',
      `"say ""x""",${-2 / 3}`,
      "'@cmd,-1",
      `'-2,${-4 / 3}`,
      `plain,${-5 / 3}`,
      "",
    ]);
  });
});

describe("tensor rows", () => {
  const rows = ["layers.10.a", "layers.2.a", "layers.2.b"].map((name, i) => ({
    name,
    dtype: i === 1 ? "F32" : "BF16",
    shape: [i + 1, 10 - 3 * i],
    bytes: 100 - i,
    shard: "s",
  }));
  const cases: [string, Parameters<typeof arrangeRows>[2], number[]][] = [
    ["", null, [0, 1, 2]],
    ["", { column: "name", descending: false }, [1, 2, 0]],
    ["", { column: "bytes", descending: true }, [0, 1, 2]],
    ["", { column: "shape", descending: false }, [0, 2, 1]],
    ["LAYERS.2 bf16", null, [2]],
    ["nothing", null, []],
  ];
  it.each(cases)("filter %j, order %j", (filter, ordering, expected) => {
    expect([...arrangeRows(rows, filter, ordering)]).toEqual(expected);
  });
});

it.each([
  ["short", 160, ["short"]],
  ["KL of the teacher's own routers to theirs", 160, ["KL of the teacher's own", "routers to theirs"]],
  ["anunbrokenwordofmorethantwelve letters", 20, ["anunbrokenwordofmorethantwelve", "letters"]],
])("an upright title fits its plot: %s", (title, height, lines) => {
  expect(uprightTitle(title, height, { fontSize: 12 })).toEqual(lines);
});

it("reorders a matrix on both axes", () => {
  const values = [0, 1, 2, 10, 11, 12, 20, 21, 22];
  expect(reorder(values, [2, 0, 1])).toEqual([22, 20, 21, 2, 0, 1, 12, 10, 11]);
  expect(isPermutation([2, 0, 1], 3)).toBe(true);
  expect(isPermutation([2, 2, 1], 3)).toBe(false);
  expect(isPermutation([0, 1], 3)).toBe(false);
});

it("merges streamed metrics: later lines replace the same step, order follows steps", () => {
  const start = { ...samples.calibration(2), heldOut: [], bestStep: null };
  const merged = mergeMetrics(start, [
    { kind: "update", step: 4, loss: 4, learningRate: 0, gradientNorm: 0, tokens: 1, seconds: 1 },
    { kind: "update", step: 2, loss: 2, learningRate: 0, gradientNorm: 0, tokens: 1, seconds: 1 },
    { kind: "held-out", step: 2, kl: 0.5, nll: 1, best: true },
    { kind: "held-out", step: 4, kl: 0.6, nll: 1, best: false },
  ]);
  expect(merged.updates.map(({ step }) => step)).toEqual([1, 2, 4]);
  expect(merged.updates[1]!.loss).toBe(2);
  expect(merged.bestStep).toBe(2);
  expect(merged.heldOut.map(({ kl }) => kl)).toEqual([0.5, 0.6]);
});

it("differences of a domain need both sides; coverage names layers", () => {
  const data = samples.routing(4, 8);
  const [prose, all] = [data.byDomain["prose"]!, data.byDomain[""]!];
  const difference = cellValues(prose, all, "meanRoutingWeight");
  expect(difference[3]).toBeNull();
  expect(difference[10]).toBeCloseTo(prose.meanRoutingWeight.values[10]! - all.meanRoutingWeight.values[10]!, 12);
  expect(cellValues(prose, null, "frequency")).toBe(prose.frequency.values);
  expect(
    neverUsedText({
      ...data,
      neverUsed: [
        [1, 3],
        [1, 7],
        [4, 0],
      ],
    }),
  ).toBe("layer 1: experts 3, 7; layer 4: expert 0");
  expect(
    neverUsedText(
      {
        ...data,
        neverUsed: [
          [1, 3],
          [2, 0],
          [4, 0],
        ],
      },
      1,
    ),
  ).toBe("layer 1: expert 3; and 2 more layers");
});

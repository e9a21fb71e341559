import { createHash } from "node:crypto";
import { quote } from "../../checkpoint/quote";
import type { IntegerArray } from "./npy";
import {
  ExpertCounter,
  invalidTrace,
  maxTraceExperts,
  maxTraceLayers,
  type TraceCounts,
  type TraceLayer,
} from "./traceCounts";

/** First line of the recorder's CSV files. */
export const csvHeader = "layer_id,expert_id,count";

/**
 * SGLang's expert distribution recorder, as CSV: `/dump_expert_distribution_record` wrote
 * `expert_distribution_rank<r>_timestamp<t>.csv`, one file a rank, with the experts that were used (`dump_record` in
 * python/sglang/srt/managers/expert_distribution.py of sgl-project/sglang, until April 2025). Ranks that share their
 * tokens (tensor parallelism) write the same counts and are counted once; ranks with tokens of their own add up.
 *
 * @throws RerouteError trace/invalid
 */
export function countCsv(files: readonly { name: string; text: string }[]): { counts: TraceCounts; notes: string[] } {
  const layers = new Map<number, ExpertCounter>();
  const seen = new Set<string>();
  let same = 0;
  for (const { name, text } of files) {
    const rows = parseCsv(text, name);
    const digest = createHash("sha256").update(rows.map(String).sort().join("\n")).digest("hex");
    if (seen.has(digest)) {
      same++;
      continue;
    }
    seen.add(digest);
    for (const [layer, expert, count] of rows) {
      const counter = layers.get(layer) ?? new ExpertCounter();
      layers.set(layer, counter);
      counter.add(expert, count);
    }
  }
  const notes = sameCounts(same, files.length);
  const counted = [...layers]
    .sort(([a], [b]) => a - b)
    .map(([number, { frequency }]) => ({ number, frequency, tokens: null }));
  if (counted.length === 0) throw invalidTrace(`${files.map(({ name }) => quote(name)).join(", ")} holds no counts`);
  return { counts: { layers: counted, numbering: "decoder", hasAllExperts: false }, notes };
}

function parseCsv(text: string, name: string): [layer: number, expert: number, count: number][] {
  const [header, ...lines] = text.split(/\r?\n/);
  if (header?.trim() !== csvHeader) {
    throw invalidTrace(
      `${quote(name)} begins with ${quote(header ?? "")}, SGLang's recorder writes ${quote(csvHeader)}`,
    );
  }
  return lines.flatMap((line, i): [number, number, number][] => {
    if (line.trim() === "") return [];
    const [layer, expert, count] = line.split(",").map((cell) => (/^\s*\d{1,15}\s*$/.test(cell) ? Number(cell) : NaN));
    const isRow = line.split(",").length === 3 && layer! < maxTraceLayers && expert! < maxTraceExperts && count! >= 0;
    if (isRow) return [[layer!, expert!, count!]];
    throw invalidTrace(`line ${i + 2} of ${quote(name)} is ${quote(line)}, expected a layer, an expert and a count`);
  });
}

/**
 * `logical_count` of SGLang's recorder in its later form: token counts [steps, layers, experts], or [layers, experts]
 * once summed (`_StatAccumulator.dump` in python/sglang/srt/eplb/expert_distribution.py), from the recorder's .pt or a .npy
 * or .json file. Dense layers count nothing.
 *
 * @throws RerouteError trace/invalid
 */
export function countLogical({ shape, values }: IntegerArray, name: string): TraceCounts {
  const [layers = 0, experts = 0] = shape.slice(-2);
  const isCounts = (shape.length === 2 || shape.length === 3) && layers > 0 && experts > 0;
  if (!isCounts || layers > maxTraceLayers || experts > maxTraceExperts) {
    throw invalidTrace(
      `${quote(name)} has shape [${shape.join(", ")}], logical_count is [steps, layers, experts] or [layers, experts]`,
    );
  }
  const sums = new Float64Array(layers * experts);
  for (let i = 0; i < values.length; i++) {
    const count = values[i]!;
    if (!Number.isSafeInteger(count) || count < 0)
      throw invalidTrace(`${quote(name)} holds ${count}, which is no count`);
    sums[i % sums.length]! += count;
  }
  const all = Array.from({ length: layers }, (_, number) => ({
    number,
    frequency: sums.slice(number * experts, (number + 1) * experts),
    tokens: null,
  }));
  return {
    layers: all.filter(({ frequency }) => frequency.some((count) => count > 0)),
    numbering: "decoder",
    hasAllExperts: true,
  };
}

/**
 * What several files of the recorder hold together, as with its CSV files: ranks that share their tokens hold the same counts and
 * are counted once, all others add up.
 *
 * @throws RerouteError trace/invalid for files of different models
 */
export function addRecorders(files: readonly { name: string; counts: TraceCounts }[]): {
  counts: TraceCounts;
  notes: string[];
} {
  const experts = ({ layers }: TraceCounts) => layers[0]?.frequency.length ?? 0;
  const first = files[0]!;
  const other = files.find(({ counts }) => experts(counts) !== experts(first.counts) && counts.layers.length > 0);
  if (other && first.counts.layers.length > 0) {
    throw invalidTrace(
      `${quote(other.name)} counts ${experts(other.counts)} experts, ${quote(first.name)} ${experts(first.counts)}; give files of one model`,
    );
  }
  const different = new Map(files.map(({ counts: { layers } }) => [digestOf(layers), layers]));
  const sums = new Map<number, TraceLayer>();
  for (const { number, frequency, tokens } of [...different.values()].flat()) {
    const known = sums.get(number);
    if (known) frequency.forEach((count, expert) => (known.frequency[expert]! += count));
    else sums.set(number, { number, frequency: frequency.slice(), tokens });
  }
  const same = files.length - different.size;
  return {
    counts: { ...first.counts, layers: [...sums.values()].sort((a, b) => a.number - b.number) },
    notes: sameCounts(same, files.length),
  };
}

function digestOf(layers: readonly TraceLayer[]): string {
  const lines = layers.map(({ number, frequency }) => `${number}: ${frequency.join(" ")}`);
  return createHash("sha256").update(lines.join("\n")).digest("hex");
}

function sameCounts(same: number, files: number): string[] {
  return same > 0 ? [`${same} of ${files} ranks hold the same counts as another and are counted once`] : [];
}

/**
 * Counts in the .pt file of the recorder: `logical_count` of the modes stat and stat_approx; in the modes per_pass and
 * per_token `records` of passes, each with `global_physical_count` [layers, physical experts], which
 * `last_physical_to_logical_map` [layers, physical experts] turns into those of logical experts (`_DetailAccumulator.dump`).
 *
 * @throws RerouteError trace/invalid
 */
export function recordedCounts(value: unknown, name: string): Map<string, IntegerArray> {
  const fail = (problem: string): never => {
    throw invalidTrace(`${quote(name)} ${problem}; SGLang's recorder writes logical_count, or records of passes`);
  };
  if (isIntegerArray(value)) return new Map([["logical_count", value]]);
  if (!(value instanceof Map)) return fail("holds no dictionary");
  const counts: unknown = value.get("logical_count");
  if (isIntegerArray(counts)) return new Map([["logical_count", counts]]);
  const records: unknown = value.get("records");
  const map: unknown = value.get("last_physical_to_logical_map");
  if (!Array.isArray(records) || !isIntegerArray(map) || map.shape.length !== 2) {
    return fail(
      `holds ${[...value.keys()]
        .map((key) => quote(String(key)))
        .slice(0, 8)
        .join(", ")}`,
    );
  }
  const [layers = 0, physical = 0] = map.shape;
  const experts = Array.from(map.values).reduce((most, id) => Math.max(most, id + 1), 0);
  if (layers > maxTraceLayers || experts > maxTraceExperts) return fail(`maps to ${experts} experts`);
  const values = new Float64Array(layers * experts);
  for (const record of records as unknown[]) {
    const pass: unknown = record instanceof Map ? record.get("global_physical_count") : null;
    if (!isIntegerArray(pass) || pass.values.length !== layers * physical)
      return fail("has a record without its counts");
    for (let i = 0; i < pass.values.length; i++) {
      const logical = map.values[i]!;
      if (logical >= 0) values[Math.floor(i / physical) * experts + logical]! += pass.values[i]!;
    }
  }
  return new Map([["logical_count", { shape: [layers, experts], values }]]);
}

function isIntegerArray(value: unknown): value is IntegerArray {
  return typeof value === "object" && value !== null && "shape" in value && "values" in value;
}

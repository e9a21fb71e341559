import type { PlanAmount, PlanMap, PlanView } from "../../../protocol/panels";
import type { CompressionPlan } from "../../../protocol/plan";
import type { ModelDescription } from "../../model/description";
import { bitChoices } from "./editPlan";
import { keptAmounts } from "./editPruning";
import { planLayers, type PlanLayer } from "./planLayers";
import { widthOf } from "../neurons/narrowedConfig";

type Shown = Pick<PlanView, "maps" | "amounts" | "counts" | "click" | "groups">;
type Of<P extends CompressionPlan["paradigm"]> = Extract<CompressionPlan, { paradigm: P }>;
type Row = PlanLayer | { layer: number; moe: null };

/** What a page draws of a plan; without the checkpoint's description what the plan alone says. */
export function viewOfPlan(
  plan: CompressionPlan,
  description: ModelDescription | null,
): Omit<PlanView, "checkpoint" | "problem" | "sizes"> {
  const known = description ? planLayers(plan, description) : [];
  const rows: Row[] = Object.keys(plan.layers)
    .map(Number)
    .sort((a, b) => a - b)
    .map((layer) => known.find((one) => one.layer === layer) ?? { layer, moe: null });
  return {
    ...{
      method: plan.method,
      paradigm: plan.paradigm,
      layers: rows.map(({ layer }) => layer),
      notes: plan.notes ?? [],
    },
    ...{ counts: null, click: null, groups: [], ...shownOf(plan, rows, known, description?.hiddenSize ?? 0) },
  };
}

function shownOf(
  plan: CompressionPlan,
  rows: readonly Row[],
  known: readonly PlanLayer[],
  hiddenSize: number,
): Partial<Shown> & Pick<Shown, "maps" | "amounts"> {
  const at = <L>(layers: Record<string, L>, { layer }: Row): L => layers[String(layer)]!;
  switch (plan.paradigm) {
    case "pruning": {
      const maps = pruningMaps(plan, rows);
      return { maps, amounts: keptAmounts(plan, known), counts: plan.counts ?? "uniform", click: "keep" };
    }
    case "merging":
      return { ...mergingShown(plan, rows), amounts: [], click: "group" };
    case "editing": {
      const names = [...new Set(rows.flatMap((row) => Object.keys(at(plan.layers, row).ranks)))];
      const rank = (row: Row) => names.map((name) => at(plan.layers, row).ranks[name] ?? null);
      return {
        maps: [
          {
            ...mapOf("ranks", "Ranks", "rank", rows.map(rank), "not factorised"),
            columnTitle: "Projection",
            columns: names,
          },
        ],
        amounts: rankAmounts(plan, known, hiddenSize),
      };
    }
    case "sparsity":
      return {
        maps: [
          mapOf(
            "keep",
            "Weights that stay",
            "share of weights kept",
            rows.map((row) => at(plan.layers, row).keep),
            null,
          ),
        ],
        amounts:
          plan.pattern === "unstructured"
            ? known.map((row) => shareAmount(row.layer, mean(at(plan.layers, row).keep)))
            : [],
      };
    case "neurons": {
      const widths = (row: Row) =>
        at(plan.layers, row).removed.map((units, e) => (row.moe ? widthOf(row.moe, e) - units.length : -units.length));
      return {
        maps: [
          mapOf(
            "width",
            "Width",
            known.length > 0 ? "units that stay" : "units, less than before",
            rows.map(widths),
            null,
          ),
        ],
        amounts: [],
      };
    }
    case "quantisation": {
      const bits = (row: Row) =>
        at(plan.layers, row).experts ?? new Array<number>(row.moe?.numExperts ?? 1).fill(at(plan.layers, row).bits);
      const choices = [...(bitChoices[plan.format] ?? [])];
      return {
        maps: [mapOf("bits", "Bits", "bits a weight", rows.map(bits), null), ...sensitivityMaps(plan, rows)],
        amounts:
          choices.length === 0
            ? []
            : known.map(({ layer }) => bitsAmount(layer, plan.layers[String(layer)]!.bits, choices)),
        click: choices.length === 0 ? null : "bits",
      };
    }
    case "router":
      return {
        maps: [
          {
            ...mapOf(
              "keep",
              "Router weights that stay",
              "share kept",
              rows.map((row) => [at(plan.layers, row).keep]),
              null,
            ),
            columnTitle: "Part",
            columns: ["router"],
          },
        ],
        amounts: known.map((row) => shareAmount(row.layer, at(plan.layers, row).keep)),
      };
  }
}

function pruningMaps(plan: Of<"pruning">, rows: readonly Row[]): PlanMap[] {
  const entries = rows.map(({ layer }) => plan.layers[String(layer)]!);
  const width = Math.max(
    ...rows.map(
      ({ moe }, i) => moe?.numExperts ?? Math.max(entries[i]!.scores?.length ?? 0, 1 + Math.max(...entries[i]!.kept)),
    ),
  );
  const kept = entries.map((entry) => new Set(entry.kept));
  const stays = kept.map((ids, i) => {
    const { length: scored } = entries[i]!.scores ?? [];
    const experts = rows[i]!.moe?.numExperts ?? (scored || width);
    return Array.from({ length: experts }, (_, e) => (ids.has(e) ? 1 : 0));
  });
  const dropped = stays.flatMap((row, i) => row.flatMap((value, e) => (value === 0 ? [i * width + e] : [])));
  const state = mapOf("kept", "Kept or dropped", "kept", stays, null);
  const crossed = {
    crossed: dropped,
    crossedMeaning: plan.layers[String(rows[0]!.layer)]!.replaceByConstant ? "replaced by its mean output" : "dropped",
  };
  if (!entries.some(({ scores }) => scores)) return [{ ...state, ...crossed }];
  const scores = entries.map((entry) => [...(entry.scores ?? [])]);
  const scoreMap = mapOf(
    "scores",
    `Score (${plan.method})`,
    `score of ${plan.method}`,
    scores,
    "never routed, so no score",
  );
  return [
    { ...scoreMap, ...crossed },
    { ...state, ...crossed },
  ];
}

function mergingShown(plan: Of<"merging">, rows: readonly Row[]): Pick<Shown, "maps" | "groups"> {
  const groups = rows.map(({ layer }) => plan.layers[String(layer)]!.groups);
  const sizes = groups.map((ofLayer) => {
    const row: number[] = [];
    for (const { members } of ofLayer) for (const expert of members) row[expert] = members.length;
    return Array.from(row, (size) => size ?? null);
  });
  const width = Math.max(...sizes.map(({ length }) => length));
  const folded = groups.flatMap((ofLayer, i) =>
    ofLayer.flatMap(({ members, dominant }) => members.filter((e) => e !== dominant).map((e) => i * width + e)),
  );
  const map = mapOf("groups", "Merge groups", "experts in the group", sizes, null);
  return {
    maps: [{ ...map, crossed: folded.sort((a, b) => a - b), crossedMeaning: "merged into another expert" }],
    groups: groups.map((ofLayer) => ofLayer.map(({ members, dominant }) => ({ members, dominant }))),
  };
}

/** What each expert was measured to lose, a map for each number of bits. */
function sensitivityMaps(plan: Of<"quantisation">, rows: readonly Row[]): PlanMap[] {
  const losses = rows.map(({ layer }) => plan.layers[String(layer)]!.losses ?? {});
  const widths = [...new Set(losses.flatMap((ofLayer) => Object.keys(ofLayer)))].sort();
  return widths.map((width) =>
    mapOf(
      `loss-${width}`,
      `Sensitivity at ${width} bits`,
      `loss at ${width} bits`,
      losses.map((ofLayer) => ofLayer[width] ?? []),
      "not measured",
    ),
  );
}

/** Rows of unequal length are filled up with null. */
function mapOf(
  id: string,
  label: string,
  quantity: string,
  rows: readonly (readonly (number | null)[])[],
  nullMeaning: string | null,
): PlanMap {
  const width = Math.max(...rows.map(({ length }) => length));
  const values = rows.flatMap((row) => [...row, ...new Array<null>(width - row.length).fill(null)]);
  const columns = Array.from({ length: width }, (_, e) => String(e));
  const meaning = values.includes(null) ? (nullMeaning ?? "no such expert") : null;
  return {
    id,
    label,
    quantity,
    columnTitle: "Expert",
    columns,
    values,
    nullMeaning: meaning,
    crossed: [],
    crossedMeaning: "",
  };
}

/** Ranks of whole projections; those of a method's own parts are not set by hand. */
function rankAmounts(plan: Of<"editing">, known: readonly PlanLayer[], hiddenSize: number): PlanAmount[] {
  return known.flatMap(({ layer, moe }) => {
    const max = Math.min(hiddenSize, widthOf(moe, 0));
    const whole = Object.entries(plan.layers[String(layer)]!.ranks).filter(([name]) => !name.includes("."));
    return whole.map(([name, value]): PlanAmount => {
      const text = value === 0 ? "as it is" : `rank ${value} of ${max}`;
      return { layer, name, value, min: 0, max, step: 1, choices: null, text };
    });
  });
}

function shareAmount(layer: number, value: number): PlanAmount {
  return {
    layer,
    name: "",
    value,
    min: 0.01,
    max: 1,
    step: 0.01,
    choices: null,
    text: `${Number((100 * value).toFixed(1))} % stay`,
  };
}

function bitsAmount(layer: number, value: number, choices: number[]): PlanAmount {
  return { layer, name: "", value, min: choices[0]!, max: choices.at(-1)!, step: 1, choices, text: `${value} bits` };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

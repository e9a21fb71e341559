import { RerouteError } from "../../../protocol/errors";
import type { PlanEdit } from "../../../protocol/panels";
import { planSchema, type CompressionPlan } from "../../../protocol/plan";
import type { ModelDescription } from "../../model/description";
import { validatePlan } from "../plan/validatePlan";
import { regroup } from "./editMerging";
import { setCount, setCounts, toggleExpert } from "./editPruning";
import { planLayers, type PlanLayer } from "./planLayers";

/** Bits that each layout has. */
export const bitChoices: Record<string, readonly number[]> = { "pack-quantized": [2, 3, 4, 8] };

/** Says in a plan that a person changed it. */
const byHand = "edited by hand";

/**
 * One edit of a plan's text. Keys stay in the order in which they are written.
 * @returns the new text, and what happened in a few words
 * @throws RerouteError `plan/invalid` with the reason why the plan may not become so
 */
export function editPlan(
  text: string,
  edit: PlanEdit,
  { description, fingerprint }: { description: ModelDescription; fingerprint: string },
): { text: string; said: string } {
  const plan = planOfText(text);
  const layers = planLayers(plan, description);
  const said = applied(plan, edit, layers);
  if (!plan.notes?.includes(byHand)) plan.notes = [...(plan.notes ?? []), byHand];
  validatePlan(planSchema.parse(plan), description, fingerprint);
  return { text: `${JSON.stringify(plan, null, 2)}\n`, said };
}

/**
 * The plan as it is written, its keys in the file's order, checked against the schema.
 * @throws RerouteError `plan/invalid`
 */
export function planOfText(text: string): CompressionPlan {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw invalid(`The plan is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  const parsed = planSchema.safeParse(value);
  if (parsed.success) return value as CompressionPlan;
  const issue = parsed.error.issues[0]!;
  throw invalid(`The plan does not follow its schema at ${issue.path.join(".") || "its top"}: ${issue.message}`);
}

function applied(plan: CompressionPlan, edit: PlanEdit, layers: readonly PlanLayer[]): string {
  const concerned = edit.kind === "counts" ? layers : layersOf(layers, edit.layer);
  switch (edit.kind) {
    case "counts":
      if (plan.paradigm !== "pruning") break;
      setCounts(plan, layers, edit.value);
      return edit.value === "uniform" ? "every layer keeps the same number" : "layers may keep different numbers";
    case "expert":
      if (plan.paradigm === "pruning") return toggleExpert(plan, concerned[0]!, edit.expert);
      if (plan.paradigm === "quantisation") return nextBits(plan, edit.layer, edit.expert);
      break;
    case "regroup":
      if (plan.paradigm !== "merging") break;
      return regroup(plan, edit.layer, edit.expert, edit.to);
    case "amount":
      setAmount(plan, concerned, edit.name, edit.value);
      return `${edit.layer === null ? "every layer" : `layer ${edit.layer}`}: ${edit.name} ${edit.value}`.replace(
        "  ",
        " ",
      );
  }
  throw invalid(`A plan of ${plan.paradigm} has nothing to edit there`);
}

function setAmount(plan: CompressionPlan, layers: readonly PlanLayer[], name: string, value: number): void {
  if (plan.paradigm === "pruning") {
    setCount(plan, layers, value);
    return;
  }
  for (const { layer } of layers) {
    const key = String(layer);
    switch (plan.paradigm) {
      case "sparsity":
        plan.layers[key]!.keep = scaledTo(plan.layers[key]!.keep, value);
        break;
      case "quantisation":
        plan.layers[key]!.bits = value;
        delete plan.layers[key]!.experts;
        break;
      case "router":
        plan.layers[key]!.keep = value;
        break;
      case "editing":
        plan.layers[key]!.ranks[name] = value;
        break;
      default:
        throw invalid(`A plan of ${plan.paradigm} has no amount to set`);
    }
  }
}

/** The experts' shares moved together to a mean, each between 0 and 1. */
function scaledTo(shares: readonly number[], mean: number): number[] {
  const now = shares.reduce((sum, share) => sum + share, 0) / shares.length;
  // Towards all or nothing in proportion to the room there is, so that none leaves its range and the mean is met.
  const moved = shares.map((share) =>
    mean <= now ? (share * mean) / now : 1 - ((1 - share) * (1 - mean)) / (1 - now),
  );
  return moved.map((share) => Number(share.toPrecision(6)));
}

function nextBits(plan: Extract<CompressionPlan, { paradigm: "quantisation" }>, layer: number, expert: number): string {
  const choices = bitChoices[plan.format];
  if (!choices) throw invalid(`The layout ${plan.format} has one number of bits`);
  const entry = plan.layers[String(layer)]!;
  const after = (bits: number) => choices[(choices.indexOf(bits) + 1) % choices.length]!;
  if (entry.experts?.[expert] !== undefined) {
    entry.experts[expert] = after(entry.experts[expert]);
    return `expert ${expert} of layer ${layer} gets ${entry.experts[expert]} bits`;
  }
  entry.bits = after(entry.bits);
  return `layer ${layer} gets ${entry.bits} bits`;
}

function layersOf(layers: readonly PlanLayer[], layer: number | null): readonly PlanLayer[] {
  if (layer === null) return layers;
  const found = layers.filter((one) => one.layer === layer);
  if (found.length > 0) return found;
  throw invalid(`The plan says nothing about layer ${layer}`);
}

function invalid(message: string): RerouteError {
  return new RerouteError("plan/invalid", message);
}

import { rm } from "node:fs/promises";
import path from "node:path";
import type { QuantisationPlan } from "../../../protocol/plan";
import { contentKey } from "../../checkpoint/contentKey";
import type { ExpertWeights, MoeDescription } from "../../model/description";
import { moeLayers } from "../../model/moeLayers";
import { measureLayers, type LayerChange } from "../ablation/modelEffects";
import { calibrationOf, hashSequences, type MethodContext } from "../methodContext";
import { SavedValues } from "../savedValues";
import type { Bits } from "../../weights/view";
import type { WidthLosses } from "./mixedWidths";
import type { MixedOptions } from "./options";
import { nearestLayer } from "./nearestLayer";

type Effects = Record<string, number[]>;

/**
 * What the model loses at each width: KL(p || p') of the next token, p the unquantised model, where one layer's experts alone (with the
 * granularity "expert": one expert alone) go to the nearest codes. Nothing is estimated: the layers from that one on run again. A
 * layer's loss is shared out evenly among its experts, which get one width. Finished layers are on disk.
 */
export async function widthEffects(
  context: MethodContext,
  uniform: QuantisationPlan,
  { granularity, sequences: count }: MixedOptions & { sequences: number },
  widths: readonly Bits[],
): Promise<WidthLosses> {
  const { fingerprint, runtime, stateDirectory } = context;
  const sequences = calibrationOf(context, count);
  const { group, symmetric = true } = Object.values(uniform.layers)[0]!;
  const byExpert = granularity === "expert";
  const saved = await SavedValues.open<Effects>(
    path.join(stateDirectory, "widths.json"),
    contentKey({
      ...{ version: 1, fingerprint, group, symmetric, scale: uniform.options?.["scale"] ?? null, byExpert, widths },
      ...{ text: hashSequences(sequences), threads: runtime.threads, provider: runtime.provider },
    }),
  );
  const layers = moeLayers(context.description);
  const steps = ({ numExperts }: MoeDescription) => widths.length * (byExpert ? numExperts : 1);
  const total = layers.reduce((sum, { moe }) => sum + steps(moe), 0);
  let done = 0;
  if (!layers.every(({ layer }) => saved.known(String(layer)))) {
    await measureLayers(context, sequences, async ({ index }, moe, measure) => {
      const before = done;
      if (saved.known(String(index)) === null) {
        const effects: Effects = {};
        for (const bits of widths) {
          const own: number[] = [];
          const directory = path.join(stateDirectory, "widths", `${index}-${bits}`);
          const staged = await stagedAt(context, uniform, index, moe, bits, directory);
          for (const change of byExpert
            ? moe.experts.map((_, e) => staged([e]))
            : [staged(moe.experts.map((_, e) => e))]) {
            // Rounding may leave a divergence of next to nothing below 0.
            own.push(Math.max(0, (await measure(change)).kl));
            const message = "Running the model with each width";
            context.report?.({ stage: "compress", message, done: ++done, total, unit: "steps" });
          }
          await rm(directory, { recursive: true, force: true });
          effects[String(bits)] = byExpert ? own : moe.experts.map(() => own[0]! / moe.numExperts);
        }
        await saved.add(String(index), effects);
      }
      done = before + steps(moe);
    });
  }
  return new Map(layers.map(({ layer }) => [layer, saved.known(String(layer))! as Partial<Record<Bits, number[]>>]));
}

/** The model in which the named experts of one layer at one width are read from where they are staged. */
async function stagedAt(
  context: MethodContext,
  uniform: QuantisationPlan,
  layer: number,
  moe: MoeDescription,
  bits: Bits,
  stateDirectory: string,
): Promise<(experts: readonly number[]) => LayerChange> {
  const quantised = await nearestLayer(context, uniform, layer, moe, bits, stateDirectory);
  return (experts) => {
    const mixed = moe.experts.map((own, e): ExpertWeights => (experts.includes(e) ? quantised.moe.experts[e]! : own));
    const layers = context.description.layers.map((other) =>
      other.index === layer ? { ...other, feedForward: { ...moe, experts: mixed } } : other,
    );
    return { model: { checkpoint: quantised.checkpoint, description: { ...context.description, layers } } };
  };
}

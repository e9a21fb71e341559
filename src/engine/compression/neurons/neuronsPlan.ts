import { RerouteError } from "../../../protocol/errors";
import type { NeuronsPlan } from "../../../protocol/plan";
import type { MoeDescription } from "../../model/description";
import { routedTokens } from "../layer/expertInputs";
import { readExpert } from "../layer/expertMatrices";
import { LayerEngine } from "../layer/layerEngine";
import { collect, type MethodContext } from "../methodContext";
import { moeLayers } from "../../model/moeLayers";
import { evolvedWidths } from "./evolvedWidths";
import { narrowedDescription, widthOf } from "./narrowedConfig";
import { anyNeuronsPlan, multipleOf, requireNeurons, wantedWidths } from "./forecast";
import type { NeuronOptions } from "./options";
import { activationScores, magnitudeScores } from "./scores";
import { secondOrderScores } from "./secondOrder";
import { highest, layerWidths, rankedWidths, type ScoredLayer } from "./widths";

/** Which units of each expert leave, from one pass over the text. */
export async function planNeurons(context: MethodContext, options: NeuronOptions): Promise<NeuronsPlan> {
  const { description } = context;
  requireNeurons(description);
  const wanted = wantedWidths(description, context.options, options);
  // What could not be loaded is refused before the pass.
  if (options.width === "uniform") {
    const { checkpoint, family } = context;
    narrowedDescription(checkpoint, family, description, anyNeuronsPlan(description, context.options));
  }
  const notes: string[] = [];
  const scored =
    options.score === "heapr"
      ? await secondOrderScores(context, options, notes)
      : await scoreUnits(context, options, notes);
  const widths = await widthsOf(context, scored, wanted, options, notes);
  const removed = scored.map(({ layer, scores }, i) => [
    String(layer),
    {
      removed: scores.map((own, e) => {
        const kept = new Set(highest(own, widths[i]![e]!));
        return Array.from(own.keys()).filter((unit) => !kept.has(unit));
      }),
    },
  ]);
  return neuronsPlan(context, options, notes, Object.fromEntries(removed) as NeuronsPlan["layers"]);
}

async function scoreUnits(context: MethodContext, options: NeuronOptions, notes: string[]): Promise<ScoredLayer[]> {
  const found: ScoredLayer[] = [];
  await collect(context, options.sequences, async (collected) => {
    const { moe, layer, numTokens } = collected;
    const engine = new LayerEngine(context.runtime, context.checkpoint, context.description.hiddenSize);
    const routed = routedTokens(collected);
    const unused = routed.flatMap(({ tokens }, e) => (tokens.length === 0 ? [e] : []));
    if (unused.length > 0) {
      notes.push(
        `layer ${layer.index}: ${unused.length} of ${moe.numExperts} experts never routed by ${numTokens} calibration tokens ` +
          `(${unused.join(", ")}); their units are chosen by magnitude`,
      );
    }
    try {
      const scores: Float64Array[] = [];
      for (const [e, weights] of moe.experts.entries()) {
        const expert = await readExpert(context.checkpoint, weights, `expert ${e} of layer ${layer.index}`);
        const alpha = options.score === "camera" ? options.alpha : 0;
        const seen = options.score !== "magnitude" && routed[e]!.tokens.length > 0;
        const own = seen
          ? await activationScores(engine, collected, routed[e]!, expert, alpha)
          : magnitudeScores(expert);
        // Beside experts that are used, one that is not keeps as little as may be.
        const hidden = !seen && options.score !== "magnitude" && options.width === "expert" ? 1e-300 : 1;
        scores.push(own.map((score) => score * hidden));
      }
      found.push({ layer: layer.index, scores });
    } finally {
      await engine.close();
    }
  });
  return found;
}

/** Width of every expert of every layer. */
async function widthsOf(
  context: MethodContext,
  scored: readonly ScoredLayer[],
  wanted: readonly number[],
  options: NeuronOptions,
  notes: string[],
): Promise<number[][]> {
  const same = (width: number, i: number) => scored[i]!.scores.map(() => width);
  switch (options.width) {
    case "uniform":
      return wanted.map(same);
    case "layer": {
      const widths = scored.map(({ scores }) => scores[0]!.length);
      if (wanted.every((width, i) => width === widths[i])) return wanted.map(same);
      if (options.budget === "sensitivity")
        return layerWidths(
          scored,
          wanted,
          widths.map((width) => multipleOf(options, width)),
        ).map(same);
      const found = await evolvedWidths(context, scored, wanted, options);
      notes.push(found.note);
      return found.widths.map(same);
    }
    case "expert": {
      const totals = scored.map(({ scores }, i) => scores.length * wanted[i]!);
      if (options.score !== "heapr") return scored.map(({ scores }, i) => rankedWidths(scores, totals[i]!));
      // A change of the loss is one measure for all layers.
      const total = totals.reduce((sum, count) => sum + count, 0);
      const ranked = rankedWidths(
        scored.flatMap(({ scores }) => scores),
        total,
      );
      return scored.map(({ scores }) => ranked.splice(0, scores.length));
    }
  }
}

/**
 * Refuses units that a layer's experts do not have, and widths that the plan's own words exclude.
 * @throws RerouteError plan/invalid
 */
export function validateNeuronLayer(plan: NeuronsPlan, layer: number, moe: MoeDescription): void {
  const { removed } = plan.layers[String(layer)]!;
  if (removed.length !== moe.numExperts) {
    throw invalid(`The plan lists units of ${removed.length} experts for layer ${layer}, which has ${moe.numExperts}`);
  }
  removed.forEach((units, e) => {
    const width = widthOf(moe, e);
    units.forEach((unit, i) => {
      if (unit >= width)
        throw invalid(`The plan removes unit ${unit} of expert ${e} of layer ${layer}, which has ${width}`);
      if (i > 0 && unit <= units[i - 1]!) {
        throw invalid(
          `The plan lists units ${units[i - 1]!}, ${unit} of expert ${e} of layer ${layer}; list each once, ascending`,
        );
      }
    });
    if (units.length >= width) throw invalid(`The plan removes all ${width} units of expert ${e} of layer ${layer}`);
    const others = plan.width === "uniform" ? Object.values(plan.layers)[0]!.removed[0]! : removed[0]!;
    const isSame = width - units.length === widthOf(moe, 0) - others.length;
    if (plan.width !== "expert" && plan.form === "cut" && !isSame) {
      throw invalid(
        `The plan leaves ${width - units.length} units of expert ${e} of layer ${layer} and other numbers elsewhere, with width "${plan.width}"; ` +
          `leave the same number everywhere, or set width to "expert"`,
      );
    }
  });
  if (plan.width === "expert" && plan.form === "cut" && moe.storage.kind === "fused" && isUneven(removed)) {
    throw new RerouteError(
      "model/unsupported-option",
      `Layer ${layer} stores its experts in fused tensors, which have one width; use width=layer, form=padded, or a checkpoint with one tensor an expert`,
    );
  }
}

function isUneven(removed: readonly number[][]): boolean {
  return removed.some(({ length }) => length !== removed[0]!.length);
}

function neuronsPlan(
  { fingerprint, options: { method, keep }, seed, description }: MethodContext,
  { width, form, ...chosen }: NeuronOptions,
  notes: string[],
  layers: NeuronsPlan["layers"],
): NeuronsPlan {
  const plan: NeuronsPlan = {
    ...{ schemaVersion: 1, paradigm: "neurons", method, teacherFingerprint: fingerprint, seed },
    options: { keep, ...chosen },
    notes: [...notes, ...loadingNotes(width, form, keep)],
    ...{ width, form, layers },
  };
  for (const { layer, moe } of moeLayers(description)) validateNeuronLayer(plan, layer, moe);
  return plan;
}

function loadingNotes(width: NeuronsPlan["width"], form: NeuronsPlan["form"], keep: number): string[] {
  if (keep === 1 || width === "uniform") return [];
  if (form === "padded") {
    return [
      `experts narrower than the widest are padded with zeros: the checkpoint loads everywhere and is as large as if all were the widest`,
    ];
  }
  return [`widths differ by ${width}: only Reroute loads the checkpoint; form=padded loads everywhere`];
}

function invalid(message: string): RerouteError {
  return new RerouteError("plan/invalid", message);
}

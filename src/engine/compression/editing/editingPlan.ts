import type { z } from "zod";
import { RerouteError } from "../../../protocol/errors";
import type { EditingPlan } from "../../../protocol/plan";
import type { CompressionMethod } from "../../../protocol/methods";
import type { CompressOptions } from "../../../protocol/recipe";
import type { ModelDescription, MoeDescription } from "../../model/description";
import { projections, projectionShape, type Projection } from "../layer/expertMatrices";
import { LayerEngine } from "../layer/layerEngine";
import { MatrixProducts } from "../../linalg/products";
import { collect, type MethodContext } from "../methodContext";
import { moeLayers } from "../../model/moeLayers";
import { LayerGrams } from "./grams";
import type { deltaOptions, mobeOptions, svdLlmOptions, svdOptions, tuckerOptions } from "./options";
import { defaultBases, deltaRank, mobeRank, svdRank, tuckerRankChoices, type TuckerRanks } from "./ranks";
import { chooseTuckerRanks } from "./tucker";

type Ranks = Record<string, number>;

/** SVD and SVD-LLM: the same rank for every matrix of a shape. */
export function planSvd(
  context: MethodContext,
  options: z.infer<typeof svdOptions> | z.infer<typeof svdLlmOptions>,
): EditingPlan {
  return editingPlan(context, options, ratioRanks(context, {}));
}

export function planDelta(context: MethodContext, options: z.infer<typeof deltaOptions>): EditingPlan {
  return editingPlan(context, options, ratioRanks(context, {}));
}

export function planMobe(context: MethodContext, options: z.infer<typeof mobeOptions>): EditingPlan {
  const { bases, ...rest } = options;
  return editingPlan(context, rest, ratioRanks(context, { bases }));
}

/**
 * Ranks of every MoE layer, by number, as far as the ratio decides them. TD-MoE chooses among ranks that meet the same
 * budget by looking at text; here the first of them stands for all.
 * @throws RerouteError plan/invalid for an impossible `keep`
 */
export function plannedRanks(
  description: ModelDescription,
  method: CompressionMethod,
  keep: number,
  options: Readonly<Record<string, unknown>>,
): Record<string, Ranks> {
  const bases = typeof options["bases"] === "number" ? options["bases"] : 0;
  const ranks = ratioRanks({ description, options: { method, keep } }, { bases });
  return Object.fromEntries(moeLayers(description).map(({ layer, moe }) => [String(layer), ranks(layer, moe)]));
}

type RatioContext = Pick<MethodContext, "description"> & { options: Pick<CompressOptions, "method" | "keep"> };

function ratioRanks(context: RatioContext, { bases = 0 }): (layer: number, moe: MoeDescription) => Ranks {
  const keep = keepShare(context);
  const { method } = context.options;
  return (layer, moe) => {
    const K = moe.numExperts;
    switch (method) {
      case "d2-moe":
        return fromProjections(
          context,
          moe,
          (m, n) => deltaRank(keep, K, m, n) ?? tooSmall(keep, layer, "the shared base"),
        );
      case "mobe":
        return mobeRanks(context, keep, layer, moe, bases === 0 ? defaultBases(K) : bases);
      case "td-moe":
        return tuckerRanks(context, keep, layer, moe);
      default:
        return fromProjections(context, moe, (m, n) => svdRank(keep, m, n));
    }
  };
}

function mobeRanks(
  { description }: RatioContext,
  keep: number,
  layer: number,
  moe: MoeDescription,
  bases: number,
): Ranks {
  const [m, n] = projectionShape({ ...moe, hiddenSize: description.hiddenSize }, "gateProj");
  const rank =
    mobeRank(keep, moe.numExperts, m, n, bases) ?? tooSmall(keep, layer, "the down projections, which MoBE keeps");
  const shared: Ranks = rank === 0 ? {} : { "gateProj.bases": bases, "upProj.bases": bases };
  return { gateProj: rank, upProj: rank, ...shared, downProj: 0 };
}

function tuckerRanks({ description }: RatioContext, keep: number, layer: number, moe: MoeDescription): Ranks {
  if (keep >= 1) return { gateProj: 0, upProj: 0, downProj: 0 };
  const found: Ranks = {};
  for (const projection of projections) {
    const [m, n] = projectionShape({ ...moe, hiddenSize: description.hiddenSize }, projection);
    const choice =
      tuckerRankChoices(keep, moe.numExperts, m, n)[0] ?? tooSmall(keep, layer, "the smallest Tucker form");
    setTuckerRanks(found, projection, choice);
  }
  return found;
}

function setTuckerRanks(ranks: Ranks, projection: Projection, { experts, outputs, inputs }: TuckerRanks): void {
  ranks[`${projection}.experts`] = experts;
  ranks[`${projection}.outputs`] = outputs;
  ranks[`${projection}.inputs`] = inputs;
}

/** TD-MoE: ranks depend on the whitened spectra, so planning looks at the text. */
export async function planTucker(context: MethodContext, options: z.infer<typeof tuckerOptions>): Promise<EditingPlan> {
  const keep = keepShare(context);
  if (keep >= 1) return editingPlan(context, options, ratioRanks(context, {}));
  const ranks = new Map<number, Ranks>();
  const products = new MatrixProducts(context.runtime);
  const { hiddenSize } = context.description;
  try {
    await collect(context, options.sequences, async (collected) => {
      const { layer, moe } = collected;
      const engine = new LayerEngine(context.runtime, context.checkpoint, hiddenSize);
      const grams = new LayerGrams(engine, collected, 0);
      const workspace = { context, engine, products, layer: layer.index, moe, hiddenSize, collected, grams, notes: [] };
      const found: Ranks = {};
      try {
        for (const projection of projections) {
          const chosen =
            (await chooseTuckerRanks(workspace, projection, keep, options.exponent)) ??
            tooSmall(keep, layer.index, "the smallest Tucker form");
          setTuckerRanks(found, projection, chosen);
        }
      } finally {
        await engine.close();
      }
      ranks.set(layer.index, found);
    });
  } finally {
    await products.close();
  }
  return editingPlan(context, options, (layer) => ranks.get(layer)!);
}

function editingPlan(
  { description, fingerprint, options, seed }: MethodContext,
  { output, ...chosen }: Record<string, string | number | boolean> & { output: EditingPlan["output"] },
  ranksOf: (layer: number, moe: MoeDescription) => Ranks,
): EditingPlan {
  return {
    schemaVersion: 1,
    paradigm: "editing",
    method: options.method,
    teacherFingerprint: fingerprint,
    seed,
    options: { keep: options.keep, ...chosen },
    notes: [
      output === "dense"
        ? "dense output: the approximated weights are stored in full, so the checkpoint loads everywhere and is not smaller"
        : "factored output: only Reroute loads the checkpoint",
    ],
    output,
    layers: Object.fromEntries(
      moeLayers(description).map(({ layer, moe }) => [String(layer), { ranks: ranksOf(layer, moe) }]),
    ),
  };
}

function fromProjections(
  { description }: RatioContext,
  moe: MoeDescription,
  rank: (m: number, n: number) => number,
): Record<Projection, number> {
  const of = (projection: Projection) =>
    rank(...projectionShape({ ...moe, hiddenSize: description.hiddenSize }, projection));
  return { gateProj: of("gateProj"), upProj: of("upProj"), downProj: of("downProj") };
}

/** Editing keeps every expert, so `keep` is a share of their parameters. */
function keepShare({ options }: RatioContext): number {
  if (options.keep <= 1) return options.keep;
  throw new RerouteError(
    "plan/invalid",
    `keep is ${options.keep}, but ${options.method} keeps every expert and shrinks their matrices; give a share up to 1`,
  );
}

function tooSmall(keep: number, layer: number, what: string): never {
  throw new RerouteError(
    "plan/invalid",
    `keep ${keep} leaves nothing for layer ${layer} beside ${what}; use a larger share`,
  );
}

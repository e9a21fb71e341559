import type { z } from "zod";
import { RerouteError } from "../../../protocol/errors";
import type { EditingPlan } from "../../../protocol/plan";
import type { MoeDescription } from "../../model/description";
import { projections, projectionShape, type Projection } from "../layer/expertMatrices";
import { LayerEngine } from "../layer/layerEngine";
import { MatrixProducts } from "../linalg/products";
import { collect, type MethodContext } from "../methodContext";
import { moeLayers } from "../plan/moeLayers";
import { LayerGrams } from "./grams";
import type { deltaOptions, mobeOptions, svdLlmOptions, svdOptions, tuckerOptions } from "./options";
import { defaultBases, deltaRank, mobeRank, svdRank } from "./ranks";
import { chooseTuckerRanks } from "./tucker";

type Ranks = Record<string, number>;

/** SVD and SVD-LLM: the same rank for every matrix of a shape. */
export function planSvd(
  context: MethodContext,
  options: z.infer<typeof svdOptions> | z.infer<typeof svdLlmOptions>,
): EditingPlan {
  const keep = keepShare(context);
  return editingPlan(context, options, (_layer, moe) => fromProjections(context, moe, (m, n) => svdRank(keep, m, n)));
}

export function planDelta(context: MethodContext, options: z.infer<typeof deltaOptions>): EditingPlan {
  const keep = keepShare(context);
  return editingPlan(context, options, (layer, moe) =>
    fromProjections(
      context,
      moe,
      (m, n) => deltaRank(keep, moe.numExperts, m, n) ?? tooSmall(keep, layer, "the shared base"),
    ),
  );
}

export function planMobe(context: MethodContext, options: z.infer<typeof mobeOptions>): EditingPlan {
  const keep = keepShare(context);
  const { bases: asked, ...rest } = options;
  return editingPlan(context, rest, (layer, moe): Ranks => {
    const [m, n] = projectionShape({ ...moe, hiddenSize: context.description.hiddenSize }, "gateProj");
    const bases = asked === 0 ? defaultBases(moe.numExperts) : asked;
    const rank =
      mobeRank(keep, moe.numExperts, m, n, bases) ?? tooSmall(keep, layer, "the down projections, which MoBE keeps");
    return {
      gateProj: rank,
      upProj: rank,
      ...(rank === 0 ? {} : { "gateProj.bases": bases, "upProj.bases": bases }),
      downProj: 0,
    };
  });
}

/** TD-MoE: ranks depend on the whitened spectra, so planning looks at the text. */
export async function planTucker(context: MethodContext, options: z.infer<typeof tuckerOptions>): Promise<EditingPlan> {
  const keep = keepShare(context);
  if (keep >= 1) return editingPlan(context, options, (_layer, moe) => fromProjections(context, moe, () => 0));
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
          found[`${projection}.experts`] = chosen.experts;
          found[`${projection}.outputs`] = chosen.outputs;
          found[`${projection}.inputs`] = chosen.inputs;
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
  { description }: MethodContext,
  moe: MoeDescription,
  rank: (m: number, n: number) => number,
): Record<Projection, number> {
  const of = (projection: Projection) =>
    rank(...projectionShape({ ...moe, hiddenSize: description.hiddenSize }, projection));
  return { gateProj: of("gateProj"), upProj: of("upProj"), downProj: of("downProj") };
}

/** Editing keeps every expert, so `keep` is a share of their parameters. */
function keepShare({ options }: MethodContext): number {
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

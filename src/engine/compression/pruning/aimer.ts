import type { Checkpoint } from "../../checkpoint/checkpoint";
import { readFloat32 } from "../../checkpoint/read";
import { RerouteError, throwIfCancelled } from "../../../protocol/errors";
import type { ReportProgress } from "../../../protocol/progress";
import type { ExpertWeights, ModelDescription, WeightView } from "../../model/description";
import { elementCount } from "../../tensor/dtype";
import { formName } from "../../weights/forms";
import { moeLayers } from "../../model/moeLayers";

/** Elements read at a time: no expert tensor is ever whole in JavaScript memory. */
const chunkElements = 2 ** 20;

/**
 * AIMER (arXiv 2603.18492): for each expert, over all entries w of its gate, up and down projection,
 * score = mean|w| / sqrt(mean w^2). About 0.798 for Gaussian weights, lower where few weights stand out; the highest
 * scores leave. An expert of zeros scores 1, which is the highest possible. Accumulated in float64.
 *
 * @returns [E] scores by layer number
 * @throws RerouteError checkpoint/not-finite naming layer and expert; model/unsupported-option for quantised experts
 */
export async function aimerScores(
  checkpoint: Checkpoint,
  description: ModelDescription,
  options: { signal?: AbortSignal | undefined; report?: ReportProgress | undefined } = {},
): Promise<Map<number, Float64Array>> {
  const layers = moeLayers(description);
  const total = layers.reduce((sum, { moe }) => sum + moe.experts.length, 0);
  const scores = new Map<number, Float64Array>();
  let done = 0;
  for (const { layer, moe } of layers) {
    const row = new Float64Array(moe.experts.length);
    for (const [expert, weights] of moe.experts.entries()) {
      throwIfCancelled(options.signal);
      row[expert] = await scoreExpert(checkpoint, weights, `expert ${expert} of layer ${layer}`);
      done += 1;
      options.report?.({
        stage: "compress",
        message: "Scoring experts by their weights (AIMER)",
        done,
        total,
        unit: "steps",
      });
    }
    scores.set(layer, row);
  }
  return scores;
}

async function scoreExpert(checkpoint: Checkpoint, { gateUp, downProj }: ExpertWeights, name: string): Promise<number> {
  const linears = gateUp.kind === "separate" ? [gateUp.gateProj, gateUp.upProj] : [gateUp.projection];
  let count = 0;
  let absolute = 0;
  let squares = 0;
  for (const { weight } of [...linears, downProj]) {
    for await (const chunk of readView(checkpoint, weight)) {
      count += chunk.length;
      for (const w of chunk) {
        absolute += Math.abs(w);
        squares += w * w;
      }
    }
  }
  if (!Number.isFinite(squares)) {
    throw new RerouteError(
      "checkpoint/not-finite",
      `The weights of ${name} contain NaN or infinity; repair or download the checkpoint again`,
    );
  }
  return squares > 0 ? absolute / count / Math.sqrt(squares / count) : 1;
}

async function* readView(checkpoint: Checkpoint, view: WeightView): AsyncGenerator<Float32Array> {
  if (view.quantisation) {
    throw new RerouteError(
      "model/unsupported-option",
      `The method aimer does not read quantised weights, but ${view.tensor} is stored as ${formName(view)}; use a method that reads activations`,
    );
  }
  const entry = checkpoint.tensors.get(view.tensor)!;
  const elements = elementCount(view.shape);
  for (let from = 0; from < elements; from += chunkElements) {
    yield readFloat32(entry, { offset: view.offset + from, count: Math.min(chunkElements, elements - from) });
  }
}

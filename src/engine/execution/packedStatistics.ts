import type { PackedStatistics } from "../../protocol/checkpointSummary";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { statisticsOfNumbers, statisticsOfTensor } from "../checkpoint/tensorStatistics";
import { BlockWeights, weightKey } from "../graph/blocks/weights";
import { GraphBuilder } from "../graph/builder";
import type { Value } from "../graph/graph";
import type { ModelDescription, WeightView } from "../model/description";
import { BlockSession } from "../runtime/session";
import { elementCount } from "../tensor/dtype";
import { companionsOf, formName } from "../weights/forms";

/** Numbers of one tensor that are decoded: experts of a fused one are taken until there are so many. */
const mostNumbers = 2 ** 26;

/**
 * What stands behind a tensor of codes: the numbers that a graph computes with, the codes without their scales, and the
 * scales. One matrix is decoded at a time.
 * @returns null where the tensor holds plain numbers, or belongs to no weight that is read
 */
export async function packedStatistics(
  checkpoint: Checkpoint,
  description: ModelDescription,
  tensor: string,
  signal?: AbortSignal,
): Promise<PackedStatistics | null> {
  const all = viewsOf(description, tensor);
  const [first] = all;
  if (!first?.quantisation) return null;
  const views = all.slice(0, Math.max(1, Math.floor(mostNumbers / elementCount(first.shape))));
  const decoded = (unitScales: boolean) => async (add: (values: Float32Array) => void) => {
    for (const view of views) {
      signal?.throwIfAborted();
      add(await decodeMatrix(checkpoint, view, unitScales));
    }
  };
  const scales = new Set(views.flatMap(companionsOf).map((view) => view.tensor));
  return {
    form: formName(first),
    matrices: { read: views.length, all: all.length },
    values: await statisticsOfNumbers(tensor, decoded(false)),
    codes: hasFloatScales(first) ? await statisticsOfNumbers(tensor, decoded(true)) : null,
    scales: await Promise.all([...scales].map((name) => statisticsOfTensor(checkpoint.tensors.get(name)!, signal))),
  };
}

/** Codes are what the form decodes to with scales of one: integers less their zero point. FP4 forms read scales as bytes. */
function hasFloatScales({ quantisation }: WeightView): boolean {
  return quantisation !== undefined && ["scaled", "packed", "gptq", "awq"].includes(quantisation.kind);
}

async function decodeMatrix(checkpoint: Checkpoint, view: WeightView, unitScales: boolean): Promise<Float32Array> {
  const builder = new GraphBuilder("float32");
  const ones = new Map<string, Value>();
  const { quantisation } = view;
  if (unitScales && quantisation && "scales" in quantisation) {
    const { scales } = quantisation;
    ones.set(weightKey(scales), builder.constant(new Array<number>(elementCount(scales.shape)).fill(1), scales.shape));
  }
  const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2 ** 30 } as const;
  const graph = builder.build({ values: new BlockWeights(builder, checkpoint, ones).float(view) });
  const session = await BlockSession.create(graph, { runtime, keepFloat32Weights: false });
  try {
    return (await session.run({}))["values"]!.data as Float32Array;
  } finally {
    await session.release();
  }
}

/** The matrices that a tensor stores, in the order in which they lie. */
function viewsOf(description: ModelDescription, tensor: string): WeightView[] {
  const found = new Map<number, WeightView>();
  const visit = (value: unknown): void => {
    if (typeof value !== "object" || value === null) return;
    if (isView(value)) {
      if (value.tensor === tensor) found.set(value.offset, value);
      return;
    }
    for (const part of Object.values(value)) visit(part);
  };
  visit(description.layers);
  return [...found.values()].sort((a, b) => a.offset - b.offset);
}

function isView(value: object): value is WeightView {
  return "tensor" in value && typeof value.tensor === "string" && "offset" in value && "dtype" in value;
}

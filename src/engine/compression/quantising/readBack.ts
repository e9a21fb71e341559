import { RerouteError } from "../../../protocol/errors";
import type { QuantisationPlan } from "../../../protocol/plan";
import type { Checkpoint } from "../../checkpoint/checkpoint";
import { openCheckpoint } from "../../checkpoint/open";
import { quote } from "../../checkpoint/quote";
import { ModelExecutor } from "../../execution/modelExecutor";
import type { ModelDescription } from "../../model/description";
import { describeModel } from "../../model/families/index";
import { createRandom } from "../../tensor/random";
import type { CompressedLayer } from "../layer/compressedTensors";
import type { MethodContext } from "../methodContext";
import { formOf, quantisedLayer } from "./quantisedTensors";

/** Tokens that go through both. */
const checkedTokens = 64;

/**
 * Opens what was written as any reader would, by its own config.json, and runs some tokens through it and through the layers
 * as they were staged: the final hidden states must be the same. A wrong name, scheme or ignore list shows here, not at a user's.
 * @throws RerouteError output/write-failed where they are not
 */
export async function checkWritten(
  context: Pick<MethodContext, "checkpoint" | "description" | "sequences" | "runtime" | "stateDirectory" | "seed">,
  plan: QuantisationPlan,
  layers: ReadonlyMap<number, CompressedLayer>,
  directory: string,
): Promise<void> {
  const { checkpoint, description, sequences, seed } = context;
  const random = createRandom(seed);
  const count = Math.min(checkedTokens, description.maxPositionEmbeddings);
  const ids =
    sequences === null || sequences.ids.length < count
      ? Int32Array.from({ length: count }, () => random.below(description.vocabSize))
      : sequences.ids.slice(0, count);
  const written = await openCheckpoint(directory, { unfinished: true });
  const made = stagedModel(checkpoint, description, plan, layers);
  const [expected, found] = [
    await finalStates(context, made, ids),
    await finalStates(context, { checkpoint: written, description: describeModel(written).description }, ids),
  ];
  const at = expected.findIndex((value, i) => value !== found[i]);
  if (at < 0) return;
  throw new RerouteError(
    "output/write-failed",
    `The quantised checkpoint in ${quote(directory)} was read back, and its hidden state ${at % description.hiddenSize} of token ` +
      `${Math.floor(at / description.hiddenSize)} is ${found[at]}, expected ${expected[at]} as computed before writing. Please report this`,
  );
}

function stagedModel(
  checkpoint: Checkpoint,
  description: ModelDescription,
  plan: QuantisationPlan,
  layers: ReadonlyMap<number, CompressedLayer>,
): { checkpoint: Checkpoint; description: ModelDescription } {
  const tensors = new Map(checkpoint.tensors);
  for (const { staged } of layers.values()) for (const [name, entry] of staged) tensors.set(name, entry);
  const replaced = description.layers.map((layer) => {
    const own = layers.get(layer.index);
    if (layer.feedForward.kind !== "moe" || own === undefined) return layer;
    const { moe } = quantisedLayer(checkpoint, formOf(plan, layer.index), layer.feedForward, own.staged);
    return { ...layer, feedForward: moe };
  });
  return { checkpoint: { ...checkpoint, tensors }, description: { ...description, layers: replaced } };
}

async function finalStates(
  { runtime, stateDirectory }: Pick<MethodContext, "runtime" | "stateDirectory">,
  model: { checkpoint: Checkpoint; description: ModelDescription },
  ids: Int32Array,
): Promise<Float32Array> {
  const executor = await ModelExecutor.open({
    ...model,
    ...{ runtime, sequenceLength: ids.length, direction: "forward", scratchDirectory: stateDirectory },
  });
  try {
    const hidden = await executor.forward({ ids });
    const states = hidden.read(0, ids.length).slice();
    hidden.close();
    return states;
  } finally {
    await executor.close();
  }
}

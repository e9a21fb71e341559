import type { Checkpoint } from "../../checkpoint/checkpoint";
import { readFloat32 } from "../../checkpoint/read";
import type { CollectedLayer } from "../../execution/collectLayers";

/** Rows that are read at a time. */
const rowsAtOnce = 1024;

/**
 * Mean over tokens of sigmoid(x . w), what a layer's shared experts are multiplied by (Qwen2-MoE); null where they have no gate.
 *
 * @param maxTokens of the collected ones, the first
 */
export async function sharedGateMean(
  checkpoint: Checkpoint,
  { moe, inputs, numTokens }: Pick<CollectedLayer, "moe" | "inputs" | "numTokens">,
  maxTokens: number,
): Promise<number | null> {
  const gate = moe.shared?.gate;
  if (!gate) return null;
  const tokens = Math.min(numTokens, maxTokens);
  const { tensor, offset } = gate.weight;
  const weight = await readFloat32(checkpoint.tensors.get(tensor)!, { offset, count: inputs.width });
  let sum = 0;
  for (let from = 0; from < tokens; from += rowsAtOnce) {
    const rows = inputs.read(from, Math.min(tokens, from + rowsAtOnce));
    for (let row = 0; row < rows.length; row += inputs.width) {
      const logit = weight.reduce((total, value, c) => total + value * rows[row + c]!, 0);
      sum += 1 / (1 + Math.exp(-logit));
    }
  }
  return sum / tokens;
}

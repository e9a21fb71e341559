import { openCheckpoint } from "../../checkpoint/open";
import { graphSeconds } from "../../runtime/session";
import type { ThreadWork } from "../../runtime/sideBySide/partThread";
import { ModelExecutor } from "../modelExecutor";
import type { MoeObservation } from "../observer";
import type { LayerPart, LayerPartResult, LayerThreadData } from "./layerPart";

/** Runs layers of a model over parts of a batch, by an executor of the thread's own. */
export const layerWork: ThreadWork = async (given) => {
  const { directory, description, ...rest } = given as LayerThreadData;
  const checkpoint = await openCheckpoint(directory);
  const executor = await ModelExecutor.open({ checkpoint, description, ...rest, direction: "forward" });
  return (part) => runLayer(executor, part as LayerPart);
};

async function runLayer(executor: ModelExecutor, part: LayerPart): Promise<LayerPartResult> {
  for (const [key, values] of part.parameters) executor.parameters.set(key, values);
  const seen: MoeObservation[] = [];
  const observer = {
    observe: ({ feedForwardInput: _, weightedRows: __, ...observation }: MoeObservation) =>
      void seen.push(keptOf(observation)),
  };
  const { collectOutputs } = part;
  const options = part.observes ? { observer, collectOutputs } : {};
  const before = graphSeconds();
  const output = await executor.forwardRows(part, options);
  return { output, seen, graphSeconds: graphSeconds() - before };
}

/** The sums of a leaf go on in the next chunk of it. */
function keptOf(observation: MoeObservation): MoeObservation {
  const { outputs } = observation;
  return outputs === null ? observation : { ...observation, outputs: { ...outputs, sums: outputs.sums.slice() } };
}

import type { ReportProgress } from "../../protocol/progress";
import type { CompressOptions } from "../../protocol/recipe";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { contentKey } from "../checkpoint/contentKey";
import { sliceSequences, tokensRead, type TokenSequences } from "../data/sequences";
import { collectLayers, type CollectedLayer } from "../execution/collectLayers";
import type { ModelDescription } from "../model/description";
import type { ModelFamily } from "../model/family";
import type { RoutingStatisticsData } from "../routing/layerStatistics";
import type { RuntimeOptions } from "../runtime/session";
import { RerouteError } from "../../protocol/errors";

/** Takes over the staging of layers: the files of their stages are in the state directory once all are done. */
export interface LayersElsewhere {
  /** Hands a layer over with what it saw of the text, which is the caller's again when this resolves. */
  give: (layer: number, collected: CollectedLayer | null) => Promise<void>;
  /** Resolves when all that was handed over is staged. */
  done: () => Promise<void>;
}

/** What a compression method works with. */
export interface MethodContext {
  checkpoint: Checkpoint;
  family: ModelFamily;
  description: ModelDescription;
  fingerprint: string;
  options: CompressOptions;
  seed: number;
  /** What the profile found; null where no text was profiled. */
  statistics: RoutingStatisticsData | null;
  /** Calibration sequences for methods that look at activations; null without text. */
  sequences: TokenSequences | null;
  runtime: RuntimeOptions;
  /** Folder for what an interrupted compression continues from. */
  stateDirectory: string;
  /** Stages layers elsewhere, where no layer needs another's. */
  elsewhere?: LayersElsewhere;
  /** The one layer to stage, of which this is what it saw of the text; absent: all. */
  only?: { layer: number; collected: CollectedLayer | null };
  signal?: AbortSignal | undefined;
  report?: ReportProgress | undefined;
}

/**
 * The first `count` calibration sequences.
 * @throws RerouteError arguments/invalid without text
 */
export function calibrationOf({ sequences, options }: MethodContext, count: number): TokenSequences {
  if (sequences === null) {
    throw new RerouteError(
      "arguments/invalid",
      `The method ${options.method} runs calibration text through the experts; give --data FILE`,
    );
  }
  return count < sequences.numSequences ? sliceSequences(sequences, 0, count) : sequences;
}

/** One pass over the first `count` calibration sequences. */
export function collect(
  context: MethodContext,
  count: number,
  onLayer: (collected: CollectedLayer) => Promise<void>,
): Promise<void> {
  const { checkpoint, description, runtime, stateDirectory, signal, report } = context;
  return collectLayers({
    checkpoint,
    description,
    runtime,
    signal,
    report,
    onLayer,
    sequences: calibrationOf(context, count),
    scratchDirectory: stateDirectory,
  });
}

/** Names the tokens that a method sees, for the hash of what it made from them. */
export function hashSequences(sequences: TokenSequences): string {
  return contentKey(tokensRead(sequences));
}

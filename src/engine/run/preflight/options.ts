import type { RunFile } from "../../../protocol/run";
import type { PredictedModel } from "../../compression/predictedModel";
import type { ResponsesWanted } from "./estimates";
import type { Tokenizers } from "../modelCache";
import type { MachineProbe, OpenModel } from "../work";

export interface PreflightOptions {
  /** Folder of the run; where temporary files and the compressed student go. */
  runDirectory: string;
  /** A run that is being continued: its own outputs do not count as in the way. */
  run?: RunFile;
  /** Of a run that is a part of another: as that one decided it. */
  runtime?: RunFile["runtime"];
  /** Measures this machine; left out, times are 0 and their assumption says so. */
  probe?: (model: OpenModel, sequenceLength: number) => Promise<MachineProbe>;
  /** Also counts the time of responses that are scored behind the run. */
  responses?: ResponsesWanted;
  force?: boolean;
  /** What the recipe's source or student will be, where an earlier step is yet to write it. */
  predicted?: PredictedModel;
  /** See StageContext. */
  ownsOutput?: boolean;
  /** Texts were looked at for an earlier step that reads the same. */
  skipsTexts?: boolean;
  /** Kept for the run, which reads the same texts. */
  tokenizers?: Tokenizers;
  /** Also gives the first sequences of the texts. */
  showsText?: boolean;
  signal?: AbortSignal;
}

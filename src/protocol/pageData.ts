/** What each page of the extension shows: its name and the schema of the data that the host hydrates it with. */
import * as z from "zod/mini";
import {
  calibrationPanelData,
  distillationPanelData,
  divergencePanelData,
  planView,
  progressSchema,
  routingPanelData,
  runSummary,
  similarityPanelData,
  textPanelData,
  tradeOffPanelData,
} from "./panelSchemas";
import { checkpointSummary, tensorRows } from "./checkpointSchemas";
import { workersPanelData } from "./workersPanel";
import { playgroundData } from "./playground";

/** Every page; the name is also `<body data-view>` and the script, dist/webview/<page>.js. */
export const pageNames = [
  "routing",
  "divergence",
  "similarity",
  "calibration",
  "tradeOff",
  "overview",
  "tensors",
  "plan",
  "text",
  "workers",
  "playground",
  "distillation",
] as const;
export type PageName = (typeof pageNames)[number];

/** Live state of the window's engine and runs, for the Overview in the side panel. */
export const overviewData = z.object({
  engine: z.object({
    state: z.enum(["stopped", "starting", "ready", "unavailable", "crashed"]),
    /** Why it is unavailable or crashed, or its version; null when there is nothing to say. */
    message: z.nullable(z.string()),
  }),
  /** The run being worked on, or else the latest one; null before the first. */
  run: z.nullable(runSummary),
  /** Progress of the running stage; null when nothing runs. */
  progress: z.nullable(progressSchema),
  /** Over all stages, 0..1; null when it cannot be estimated. */
  runFraction: z.nullable(z.number()),
  /** Until the whole run ends; null when it cannot be estimated. */
  runRemainingSeconds: z.nullable(z.number()),
  /** Held-out KL of the run so far, nats a token, in order of step. */
  heldOut: z.array(z.object({ step: z.int(), kl: z.number(), best: z.boolean() })),
  /** Training loss of the latest update, nats a token. */
  latestLoss: z.nullable(z.number()),
  /** Other runs, newest first; the page shows a few. */
  recentRuns: z.array(runSummary),
  /** False in Restricted Mode: the page then offers nothing that executes or writes. */
  trusted: z.boolean(),
});
export type OverviewData = z.infer<typeof overviewData>;

/** The .safetensors editor. Names come from the file and are untrusted: the host passes them as they are. */
export const tensorsData = z.object({
  /** Name of the opened file, without its folders. */
  file: z.string(),
  tensors: tensorRows,
  /** Structure of the checkpoint the file belongs to; null when its folder has no readable config.json. */
  summary: z.nullable(checkpointSummary),
  /** Why there is no summary. */
  summaryError: z.nullable(z.string()),
  /** Statistics need the values, not only the header: false when the engine cannot be used. */
  statisticsAvailable: z.boolean(),
});
export type TensorsData = z.infer<typeof tensorsData>;

/** The editor of a compression-plan.json. */
export const planData = z.object({
  /** Name of the file, without its folders. */
  file: z.string(),
  view: planView,
  /** Why nothing can be edited here; null: it can. */
  readOnly: z.nullable(z.string()),
  /** The plan that it is compared with. */
  other: z.nullable(z.object({ name: z.string(), view: planView })),
});
export type PlanData = z.infer<typeof planData>;

/** What `hydrate` carries for each page. */
export const pageDataSchemas = {
  routing: routingPanelData,
  divergence: divergencePanelData,
  similarity: similarityPanelData,
  calibration: calibrationPanelData,
  tradeOff: tradeOffPanelData,
  overview: overviewData,
  tensors: tensorsData,
  plan: planData,
  text: textPanelData,
  workers: workersPanelData,
  playground: playgroundData,
  distillation: distillationPanelData,
} as const;
export type PageData<P extends PageName> = z.infer<(typeof pageDataSchemas)[P]>;

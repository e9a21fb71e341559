import type { EngineServices } from "../../../src/engine/services";
import type { CheckpointSummary } from "../../../src/protocol/checkpointSummary";
import { RerouteError } from "../../../src/protocol/errors";

/** Services that do what the path they are asked about says: "sleep 50", "hang", "crash", "fail", "bug", anything else. */
export function scriptedServices(): EngineServices {
  const order: string[] = [];
  const unused = async (): Promise<never> => {
    throw new RerouteError("internal", "the test does not use this request");
  };
  return {
    "runtime/probe": async () => ({ available: false, version: null, providers: [], reason: order.join(" ") }),
    "checkpoint/inspect": async ({ path }, { signal }) => {
      await act(path, signal);
      return summaryOf(path);
    },
    "checkpoint/tensors": unused,
    "checkpoint/tensorStatistics": unused,
    "recipe/preflight": unused,
    "run/start": unused,
    "run/resume": async ({ runDirectory }, { signal, emit }) => {
      order.push(`start:${runDirectory}`);
      const progress = { stage: "calibrate", message: "working", done: 1, total: 2, unit: "updates" as const };
      emit("run/progress", { runDirectory, progress });
      await act(runDirectory, signal);
      order.push(`end:${runDirectory}`);
      return { runDirectory, output: "out", report: null, evaluation: null };
    },
    "comparison/preflight": unused,
    "comparison/start": unused,
    "comparison/resume": unused,
    "trace/import": unused,
    "run/list": unused,
    "run/read": unused,
    "panel/routing": unused,
    "panel/divergence": unused,
    "panel/similarity": unused,
    "panel/calibration": unused,
    "panel/tradeOff": unused,
  };
}

async function act(path: string, signal: AbortSignal): Promise<void> {
  const [verb = "", amount = "0"] = path.split(" ");
  if (verb === "sleep") await new Promise((resolve) => setTimeout(resolve, Number(amount)));
  if (verb === "fail") throw new RerouteError("checkpoint/malformed", `cannot read ${path}`);
  if (verb === "bug") throw new TypeError("x is not a function");
  if (verb === "crash") {
    process.stderr.write("terminate called after throwing an instance of 'Ort::Exception'\n");
    setTimeout(() => process.kill(process.pid, "SIGKILL"), 20);
  }
  if (verb === "hang" || verb === "crash") {
    await new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => reject(new RerouteError("cancelled", "cancelled")));
    });
  }
}

function summaryOf(path: string): CheckpointSummary {
  return {
    path,
    modelType: "qwen3_moe",
    supported: true,
    unsupportedReason: null,
    parametersTotal: 10,
    parametersActive: 5,
    bytes: 20,
    shards: 1,
    tensors: 3,
    dtypes: {},
    vocabSize: 16,
    hiddenSize: 4,
    numLayers: 1,
    numExpertsPerToken: 2,
    layers: [],
    provenance: null,
  };
}

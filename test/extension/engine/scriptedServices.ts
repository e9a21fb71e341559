import { existsSync } from "node:fs";
import type { DisconnectPolicy } from "../../../src/engine/handlers";
import type { EngineServices } from "../../../src/engine/services";
import type { CheckpointSummary } from "../../../src/protocol/checkpointSummary";
import { RerouteError } from "../../../src/protocol/errors";

/**
 * Services that do what the path they are asked about says: "sleep 50", "hang", "crash", "fail", "bug", "block <file>" (the
 * thread, as a graph run does, until there is such a file), "policy <behaviour>" (waits for it), anything else.
 */
export function scriptedServices(policy: DisconnectPolicy = { behaviour: "exit" }): EngineServices {
  const unused = async (): Promise<never> => {
    throw new RerouteError("internal", "the test does not use this request");
  };
  return {
    "runtime/probe": async () => ({ available: false, version: null, providers: [], reason: null }),
    "checkpoint/inspect": async ({ path }, { signal }) => {
      await act(path, signal, policy);
      return summaryOf(path);
    },
    "checkpoint/hubModels": unused,
    "checkpoint/tensors": unused,
    "checkpoint/tensorStatistics": unused,
    "recipe/preflight": unused,
    "run/start": unused,
    "run/resume": async ({ runDirectory }, { signal, emit }) => {
      const progress = { stage: "calibrate", message: "working", done: 0, total: 1, unit: "updates" as const };
      emit("run/progress", { runDirectory, progress });
      await act(runDirectory, signal, policy);
      emit("run/progress", { runDirectory, progress: { ...progress, done: 1 } });
      return { runDirectory, output: "out", report: null, evaluation: null };
    },
    "comparison/preflight": unused,
    "comparison/start": unused,
    "comparison/resume": unused,
    "trace/import": unused,
    "checkpoint/exportGguf": unused,
    "generation/start": unused,
    "generation/describe": unused,
    "generation/score": unused,
    "run/list": unused,
    "run/label": unused,
    "run/size": unused,
    "text/measure": unused,
    "run/cancel": unused,
    "run/workers": unused,
    "queue/status": unused,
    "run/read": unused,
    "panel/routing": unused,
    "panel/divergence": unused,
    "panel/similarity": unused,
    "panel/calibration": unused,
    "panel/distillation": unused,
    "panel/tradeOff": unused,
    "panel/workers": unused,
    "panel/expert": unused,
    "panel/text": unused,
    "plan/read": unused,
    "plan/edit": unused,
  };
}

async function act(path: string, signal: AbortSignal, policy: DisconnectPolicy): Promise<void> {
  const [verb = "", amount = "0"] = path.split(" ");
  if (verb === "sleep") await new Promise((resolve) => setTimeout(resolve, Number(amount)));
  if (verb === "block") {
    // The event of the start goes out first.
    await new Promise((resolve) => setTimeout(resolve, 20));
    while (!existsSync(amount));
  }
  while (verb === "policy" && policy.behaviour !== amount) await new Promise((resolve) => setTimeout(resolve, 5));
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
    otherParts: [],
    unread: [],
    notes: [],
    provenance: null,
  };
}

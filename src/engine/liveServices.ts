import { RerouteError } from "../protocol/errors";
import type { EngineServices } from "./services";

/**
 * The real services. Every module is loaded by the first request that needs it: the process starts at once, and
 * inspection never touches onnxruntime.
 */
export function liveServices(): EngineServices {
  const missing = (name: string) => async (): Promise<never> => {
    throw new RerouteError("internal", `${name} is not part of this build yet`);
  };
  return {
    "runtime/probe": missing("runtime/probe"),
    "checkpoint/inspect": missing("checkpoint/inspect"),
    "checkpoint/tensors": missing("checkpoint/tensors"),
    "checkpoint/tensorStatistics": missing("checkpoint/tensorStatistics"),
    "recipe/preflight": missing("recipe/preflight"),
    "run/start": missing("run/start"),
    "run/resume": missing("run/resume"),
    "run/list": missing("run/list"),
    "run/read": missing("run/read"),
    "panel/routing": missing("panel/routing"),
    "panel/divergence": missing("panel/divergence"),
    "panel/similarity": missing("panel/similarity"),
    "panel/calibration": missing("panel/calibration"),
    "panel/tradeOff": missing("panel/tradeOff"),
  };
}

import type { EngineParams, EngineResult, ServiceMethod } from "../protocol/engine";
import type { EmitEvent } from "../protocol/rpc";

/** What a request brings along: stop when `signal` aborts, report through `emit`. */
export interface RequestContext {
  signal: AbortSignal;
  emit: EmitEvent;
}

/** One function per request: a forgotten one does not compile. liveServices.ts is the real one, tests script others. */
export type EngineServices = {
  [M in ServiceMethod]: (params: EngineParams<M>, context: RequestContext) => Promise<EngineResult<M>>;
};

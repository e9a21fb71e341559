import { ResponseError, type CancellationToken, type MessageConnection } from "vscode-jsonrpc/node";
import type { EngineMethod, EngineParams, EngineResult } from "../protocol/engine";
import { toWireError, wireErrorNumber, type EmitEvent } from "../protocol/rpc";
import type { RequestContext } from "./services";

/** The engine's end of the connection: answers requests, sends events. */
export class EngineRpc {
  constructor(private readonly connection: MessageConnection) {}

  readonly emit: EmitEvent = (event, body) => {
    // A notification fails only when the host is gone; then nobody is left to tell.
    this.connection.sendNotification(event, body).catch(() => undefined);
  };

  /** Whatever the handler throws becomes an error answer with its stable code. */
  answer<M extends EngineMethod>(
    method: M,
    handler: (params: EngineParams<M>, context: RequestContext) => Promise<EngineResult<M>>,
  ): void {
    this.connection.onRequest(method, async (params: EngineParams<M>, token: CancellationToken) => {
      const context = { signal: signalOf(token), emit: this.emit };
      try {
        return await handler(params, context);
      } catch (error) {
        const { message, data } = toWireError(error);
        return new ResponseError(wireErrorNumber, message, data);
      }
    });
  }
}

function signalOf(token: CancellationToken): AbortSignal {
  const controller = new AbortController();
  if (token.isCancellationRequested) controller.abort();
  else token.onCancellationRequested(() => controller.abort());
  return controller.signal;
}

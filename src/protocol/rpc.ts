import type { EngineEvents } from "./engine";
import { RerouteError, errorCodes, type ErrorCode } from "./errors";

/**
 * How failures and events cross between a host and the engine process. Both ends use these, so that neither can
 * mis-read the other: an error is JSON-RPC's `{ code, message, data }`, where `data` carries our stable code.
 */
export interface WireErrorData {
  code: ErrorCode;
  stack: string | undefined;
}

/** JSON-RPC wants a number; ours is always the same, since `data.code` says what happened. */
export const wireErrorNumber = -32000;

/** Sends one event. The engine's functions get one of these and know nothing of connections. */
export type EmitEvent = <E extends keyof EngineEvents>(event: E, body: EngineEvents[E]) => void;

/** What to put into an error answer. */
export function toWireError(error: unknown): { message: string; data: WireErrorData } {
  const known = error instanceof RerouteError;
  return {
    message: error instanceof Error ? error.message : String(error),
    data: {
      code: known ? error.code : "internal",
      stack: error instanceof Error ? error.stack : undefined,
    },
  };
}

/** The typed error that an error answer stands for. A code that this host does not know counts as a defect. */
export function fromWireError(message: string, data: unknown): RerouteError {
  const code = isRecord(data) && typeof data["code"] === "string" ? data["code"] : "internal";
  const stack = isRecord(data) && typeof data["stack"] === "string" ? data["stack"] : undefined;
  const error = new RerouteError(isErrorCode(code) ? code : "internal", message);
  if (stack !== undefined) error.stack = stack;
  return error;
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(errorCodes, code);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

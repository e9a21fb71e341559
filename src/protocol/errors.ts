/**
 * Every failure a user can meet has a stable code. A code never changes its meaning; a new situation gets a new code.
 * docs/errors.md lists them, and a test keeps both in step.
 */
export const errorCodes = {
  "arguments/invalid": "an option or argument has a value that cannot be used",
  "checkpoint/not-found": "the folder or one of its files is missing",
  "checkpoint/malformed": "a safetensors header, index or config.json cannot be read",
  "checkpoint/truncated": "a shard is shorter than its header says",
  "checkpoint/limit": "a file exceeds a documented limit, so it is not read",
  "checkpoint/unsafe-path": "a shard name points outside the checkpoint folder",
  "checkpoint/missing-tensor": "a tensor that config.json implies is in no shard",
  "checkpoint/shape-mismatch": "a tensor's shape contradicts config.json",
  "checkpoint/unsupported-dtype": "a tensor is stored in a dtype that is not read",
  "checkpoint/not-finite": "weights contain NaN or infinity",
  "checkpoint/changed": "a file changed while a run was using it",
  "checkpoint/lfs-pointer": "a file is a Git LFS pointer, the real one was not downloaded",
  "checkpoint/adapter": "the folder holds an adapter, which is no model without its base",
  "model/unsupported-family": "model_type is not one of the supported families",
  "model/unsupported-option": "config.json asks for something this family's code does not do",
  "model/not-moe": "the checkpoint has no Mixture-of-Experts layer",
  "model/unread-tensors": "the checkpoint holds weights of the decoder that its family does not read",
  "data/not-found": "a text file is missing",
  "data/malformed": "a text file cannot be read as what its name says, or a record holds no text",
  "data/too-few-tokens": "the texts give fewer sequences than the command needs",
  "data/token-out-of-range": "the tokenizer gives an id beyond the model's vocabulary",
  "data/trained-on": "the evaluation text is, or holds, text that was trained on",
  "data/tokenizer": "tokenizer.json is missing or cannot be used",
  "data/prompt-too-long": "a prompt leaves no room for an answer in the model's context",
  "data/chat-template": "the chat template cannot be used, or does not take a conversation of the text",
  "plan/invalid": "the compression plan is malformed or impossible for this checkpoint",
  "trace/invalid": "a routing trace cannot be read, holds no expert counts or does not fit the checkpoint",
  "recipe/invalid": "the recipe does not follow its schema",
  "output/not-empty": "the output folder exists and is not empty",
  "output/write-failed": "the output could not be written",
  "preflight/disk": "there is not enough disk space for what would be written",
  "preflight/memory": "the memory budget is smaller than what a stage needs",
  "teacher/mismatch": "teacher and student do not belong together",
  "training/not-finite": "loss or gradient became NaN or infinite",
  "run/locked": "another process is working in this run folder",
  "run/invalid": "the run folder cannot be read or continued",
  "queue/unavailable": "the queue of the workers cannot be reached or used",
  "queue/insecure": "the queue would be reached without encryption over a network",
  "queue/failed": "a worker could not do its part of the work",
  "queue/differs": "two workers computed other bytes for the same tile",
  "runtime/unavailable": "onnxruntime could not be loaded on this machine",
  "runtime/provider": "the chosen execution provider is not offered by the installed onnxruntime",
  "runtime/provider-wrong": "the chosen execution provider computes an operation wrongly on this machine",
  "runtime/failed": "onnxruntime refused or failed to run a graph",
  "engine/closed": "the engine process ended before it answered",
  "engine/version": "the engine process speaks another version of the protocol than its host",
  cancelled: "the user cancelled the work",
  internal: "a defect in Reroute",
} as const;

export type ErrorCode = keyof typeof errorCodes;

/**
 * A failure with a stable code. The message says what was being read or done, which item, what was found, what was
 * expected and what to do next; it has no trailing dot.
 */
export class RerouteError extends Error {
  override readonly name = "RerouteError";

  constructor(
    readonly code: ErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** True for the error that cancellation raises, which is never shown as a failure. */
export function isCancelled(error: unknown): boolean {
  return error instanceof RerouteError && error.code === "cancelled";
}

/** The code of any thrown value; what is not ours is a defect. */
export function errorCodeOf(error: unknown): ErrorCode {
  return error instanceof RerouteError ? error.code : "internal";
}

/** Throws `cancelled` once the signal is aborted. Call it between units of work that take at most about a second. */
export function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new RerouteError("cancelled", "cancelled");
}

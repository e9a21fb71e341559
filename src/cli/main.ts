#!/usr/bin/env node
/** `reroute`: the engine without an editor. Results go to stdout, progress to stderr; see docs/cli.md. */
import { serveEngineThread } from "../engine/partThreads";
import { isPartThread } from "../engine/runtime/sideBySide/partThread";
import { exitAtOnce, setThreadProgram } from "../engine/runtime/sideBySide/partThreads";
import { runCli } from "./program";

if (isPartThread()) void serveEngineThread();
else start();

function start(): void {
  setThreadProgram(__filename);

  const abort = new AbortController();
  const stop = (signal: NodeJS.Signals): void => {
    // A second interrupt does not wait for the current layer or update to end; what is on disk stays resumable.
    if (abort.signal.aborted) exitAtOnce(130, signal);
    abort.abort();
    process.stderr.write("\ncancelling; interrupt again to exit at once\n");
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);

  /** A reader that closed early (`reroute ... | head`) is no error. */
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
  });

  /** Progress that nobody reads any more, as of an ssh session that was closed, ends no work; there is nowhere to say it. */
  process.stderr.on("error", () => undefined);

  const io = {
    out: (text: string) => void process.stdout.write(text),
    err: (text: string) => void process.stderr.write(text),
    isTerminal: process.stderr.isTTY,
    columns: process.stderr.columns ?? 80,
    signal: abort.signal,
    cwd: process.cwd(),
  };

  void runCli(process.argv.slice(2), io).then((code) => {
    process.exitCode = code;
  });
}

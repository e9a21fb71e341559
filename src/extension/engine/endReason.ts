/**
 * Why the engine process ended, as a message can say it: exit code or signal, and for signals what most likely sent them and
 * what to do. The first line holds all of it, since notifications show no more.
 */
export function endReason(code: number | null, signal: NodeJS.Signals | null): string {
  if (signal === null) return `exit code ${code ?? "unknown"}`;
  const advice = likelyCauses[signal];
  return advice === undefined ? `signal ${signal}` : `signal ${signal}: ${advice}`;
}

const likelyCauses: Partial<Record<NodeJS.Signals, string>> = {
  // Mapped bytes that are no longer in their file, or that the disk cannot give.
  SIGBUS:
    "a weight file became shorter or could not be read while it was in use; leave the files alone, make sure that they are whole, then resume the run",
  SIGKILL: "something ended it, most often the system for want of memory; lower the memory budget, then resume the run",
  SIGSEGV: "native code failed; resume the run, and report it with the engine log if it happens again",
  SIGABRT: "native code gave up, most often for want of memory; lower the memory budget, then resume the run",
};

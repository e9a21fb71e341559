/** Blocks from this size on come from the system and go back to it when they are freed, bytes. */
const mappedBytes = String(4 * 2 ** 20);

/**
 * Variables that the engine process starts with. The C library of most Linux systems raises its threshold for mapping
 * blocks with every large block that is freed, and from then on keeps what graphs gave back. A fixed threshold returns it:
 * on a Qwen3-30B-shaped model a profile peaked at 1048 instead of 1380 MiB and held 466 instead of 1367 MiB afterwards, for
 * 1 % more processor time. Other systems ignore the variables; whoever has set them keeps theirs.
 */
export function engineEnvironment(
  inherited: NodeJS.ProcessEnv,
  onnxruntimePath: string | null = null,
): NodeJS.ProcessEnv {
  return {
    MALLOC_MMAP_THRESHOLD_: mappedBytes,
    MALLOC_TRIM_THRESHOLD_: mappedBytes,
    ...inherited,
    ...(onnxruntimePath === null ? {} : { REROUTE_ONNXRUNTIME_PATH: onnxruntimePath }),
    // A desktop's extension host runs under Electron: without this its binary would open an editor.
    ELECTRON_RUN_AS_NODE: "1",
  };
}

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

/** The last lines of a process's standard error: what says why it died. Bounded, since a native library may chatter. */
export class StderrTail {
  private text = "";

  constructor(private readonly maxCharacters = 4000) {}

  add(chunk: string): void {
    this.text = (this.text + chunk).slice(-this.maxCharacters);
  }

  /** At most `maxLines` last non-empty lines. */
  lines(maxLines: number): string[] {
    const lines = this.text.split("\n").filter((line) => line.trim() !== "");
    return lines.slice(-maxLines);
  }
}

/** Blocks from this size on come from the system and go back to it when they are freed, bytes. */
const mappedBytes = String(4 * 2 ** 20);

/**
 * Variables that the engine process starts with. The C library of most Linux systems raises its threshold for mapping
 * blocks with every large block that is freed, and from then on keeps what graphs gave back. A fixed threshold returns it:
 * on a Qwen3-30B-shaped model a profile peaked at 1048 instead of 1380 MiB and held 466 instead of 1367 MiB afterwards, for
 * 1 % more processor time. Other systems ignore the variables; whoever has set them keeps theirs.
 */
export function engineEnvironment(inherited: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return {
    MALLOC_MMAP_THRESHOLD_: mappedBytes,
    MALLOC_TRIM_THRESHOLD_: mappedBytes,
    ...inherited,
    // A desktop's extension host runs under Electron: without this its binary would open an editor.
    ELECTRON_RUN_AS_NODE: "1",
  };
}

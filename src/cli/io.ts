/** Where a command writes and how it is told to stop; tests give their own. */
export interface CliIo {
  /** Results. */
  out: (text: string) => void;
  /** Progress, warnings, errors. */
  err: (text: string) => void;
  /** Whether progress may redraw its line. */
  isTerminal: boolean;
  columns: number;
  /** Aborted by the first SIGINT. */
  signal: AbortSignal;
  /** Folder that relative paths start from. */
  cwd: string;
}

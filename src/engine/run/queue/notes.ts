import type { DoctorCheck } from "../machine/doctor";

/** What is noted at the queue's server beside the jobs. */
export type NoteKind = "worker" | "run";

/** Short texts by name that are forgotten by themselves unless they are put again: who is there. */
export interface Notes {
  /** Kept for so many seconds. */
  put: (kind: NoteKind, name: string, text: string, seconds: number) => Promise<void>;
  drop: (kind: NoteKind, name: string) => Promise<void>;
  /** By name. */
  all: (kind: NoteKind) => Promise<string[]>;
  /** What can be said of the server; the first one needs an answer of it. */
  checks: () => Promise<DoctorCheck[]>;
  close: () => void;
}

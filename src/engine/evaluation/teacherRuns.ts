import type { TokenSequences } from "../data/sequences";
import type { HeadSource } from "../execution/headGraphs";
import type { HiddenStates } from "../execution/hiddenStates";
import type { RouterTrace } from "./routerTrace";

/** What students are compared with: a teacher's final normalised hidden states, and its routing. */
export interface TeacherRun {
  source: HeadSource;
  hidden: HiddenStates;
  trace: RouterTrace;
}

/**
 * The last teacher's run, so that evaluating teacher, student before and student after runs the teacher once. Memory past
 * its share of the budget lies in scratch files, which `close` gives back.
 */
export class TeacherRuns {
  #known: { run: TeacherRun; sequences: TokenSequences } | null = null;

  /** The run of this teacher over these sequences; `run` makes it where it is not known. */
  async get(teacher: HeadSource, sequences: TokenSequences, run: () => Promise<TeacherRun>): Promise<TeacherRun> {
    const known = this.#known;
    if (known?.sequences === sequences && known.run.source.checkpoint === teacher.checkpoint) return known.run;
    this.close();
    const made = await run();
    this.#known = { run: made, sequences };
    return made;
  }

  /** Gives back what the run holds. */
  close(): void {
    this.#known?.run.hidden.close();
    this.#known?.run.trace.close();
    this.#known = null;
  }
}

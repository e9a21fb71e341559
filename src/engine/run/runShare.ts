import type { Progress } from "../../protocol/progress";

/** A stage of a run as it stands before this attempt. */
export interface ExpectedStage {
  id: string;
  /** Stages of one kind, such as the evaluations of a grid's cells, are predicted wrongly alike; absent: the id says it. */
  kind?: string;
  /** What the pre-flight predicted; 0: nothing is known. */
  seconds: number;
  /** What it took; null while it is not done. */
  took: number | null;
}

/** What runs a stage tells of it, and what it is told. */
export type StageClock = Pick<RunShare, "begin" | "end" | "behind">;

/** The clock of one part of longer work, whose stages are those of the whole with `name` before their ids. */
export function partOf(whole: StageClock, name: string): StageClock {
  return {
    begin: (id, seconds) => whole.begin(`${name} ${id}`, seconds),
    end: (id, took) => whole.end(`${name} ${id}`, took),
    behind: (progress) => whole.behind(progress),
  };
}

/** Of training: the pace of so many updates counts as much as what was predicted. */
const believedUpdates = 64;

/**
 * How much of a whole run is done, as a share of its time that only rises. Stages take what the pre-flight predicted, times the
 * factor by which it was wrong so far (see `factorOf`); the pass under way takes what its own pace says, the more the further
 * it is. Without a pre-flight stages count the same, and no time is claimed.
 */
export class RunShare {
  #share = 0;
  #stages: ExpectedStage[];
  #current: { id: string; beganAt: number } | null = null;
  #pass = { key: "", beganAt: 0, from: 0 };
  /** Which of a stage's passes of one kind is under way. */
  #turn = { number: 0, beganAt: 0 };

  /** @param now monotonic, in seconds */
  constructor(
    readonly expected: readonly ExpectedStage[],
    readonly now: () => number = () => performance.now() / 1000,
  ) {
    this.#stages = [...expected];
  }

  /** A stage is being worked on; before, it took `seconds` in earlier attempts. */
  begin(id: string, seconds: number): void {
    this.#current = { id, beganAt: this.now() - seconds };
    this.#pass.key = "";
    this.#turn.number = 0;
  }

  end(id: string, took: number): void {
    this.#stages = this.#stages.map((stage) => (stage.id === id ? { ...stage, took } : stage));
    this.#current = null;
  }

  /** What is not done of a part will not be: it failed. */
  leaveOut(part: string): void {
    this.#stages = this.#stages.filter(({ id, took }) => took !== null || !id.startsWith(`${part} `));
    this.#current = null;
  }

  /** Seconds that the stages to come take; null where nothing was predicted. */
  remainingSeconds(): number | null {
    const next = this.#stages.filter(({ took }) => took === null);
    return this.#isPredicted() ? this.#expectedOf(next, this.#stages.filter(isDone)) : null;
  }

  /** The run's share behind a report, and the seconds left; those are undefined where nothing was predicted. */
  behind(progress: Progress): NonNullable<Progress["run"]> {
    const current = this.#current;
    const stage = this.#stages.find(({ id }) => id === current?.id);
    if (!current || !stage) return { share: this.#share };
    const others = this.#stages.filter((other) => other !== stage);
    const done = others.filter(isDone);
    const expected = this.#expectedOf([stage], done);
    const spent = this.now() - current.beganAt;
    const left = this.#left(progress, spent, expected);
    if (!this.#isPredicted()) {
      const within = left === null || spent + left === 0 ? 0 : spent / (spent + left);
      return { share: this.#rise((done.length + within) / this.#stages.length) };
    }
    const next = others.filter(({ took }) => took === null);
    const toGo = left ?? Math.max(0, expected - spent);
    const took = sum(done, (one) => one.took) + spent;
    const remainingSeconds = toGo + this.#expectedOf(next, [...done, { ...stage, took: spent + toGo }]);
    return { share: this.#rise(took / Math.max(took + remainingSeconds, 1e-9)), remainingSeconds };
  }

  #isPredicted(): boolean {
    return this.#stages.some(({ seconds }) => seconds > 0);
  }

  /** Seconds that stages take, after what is known of those before them. */
  #expectedOf(stages: readonly ExpectedStage[], known: readonly DoneStage[]): number {
    return sum(stages, (stage) => {
      const overall = factorOf(known, stage.seconds, 1);
      return stage.seconds * factorOf(known.filter(isAlike(stage)), stage.seconds, overall);
    });
  }

  #rise(share: number): number {
    this.#share = Math.max(this.#share, Math.min(1, share));
    return this.#share;
  }

  /**
   * Seconds until the stage ends; null before anything is known of the pass.
   * @param spent seconds on the stage so far
   * @param expected seconds that it was to take
   */
  #left({ message, total, done, unit, pass }: Progress, spent: number, expected: number): number | null {
    const key = `${message} ${total}`;
    if (key !== this.#pass.key || done < this.#pass.from) this.#pass = { key, beganAt: this.now(), from: done };
    const elapsed = this.now() - this.#pass.beganAt;
    const moved = done - this.#pass.from;
    const perUnit = moved > 0 && elapsed > 0 ? elapsed / moved : null;
    if (pass && pass.of > 1) return this.#turnsLeft(pass, { total, done, unit }, perUnit, { spent, expected });
    if (perUnit === null) return null;
    const own = (total - done) * perUnit;
    // A pass of tokens is followed by others, which take what is left of the prediction.
    if (unit === "tokens") return own + Math.max(0, expected - spent - own);
    // The pace of the first updates alone would say too much of a long training.
    const predicted = ((expected - spent + elapsed) * (total - done)) / (total - this.#pass.from);
    const seen = moved / Math.min(total - this.#pass.from, moved + believedUpdates);
    return unit === "updates" && predicted > 0 ? own ** seen * predicted ** (1 - seen) : own;
  }

  /** The same in one of several passes of a kind: they take as long as those before them, or else what is measured of the first. */
  #turnsLeft(
    { number, of }: NonNullable<Progress["pass"]>,
    { total, done, unit }: Pick<Progress, "total" | "done" | "unit">,
    perUnit: number | null,
    { spent, expected }: { spent: number; expected: number },
  ): number | null {
    if (number !== this.#turn.number) this.#turn = { number, beganAt: this.now() };
    const inTurn = this.now() - this.#turn.beganAt;
    const before = number > 1 ? (spent - inTurn) / (number - 1) : expected / of;
    if (perUnit === null && before === 0) return null;
    // A turn ends with steps that are no tokens: what it had until then was its longer part.
    const rest = perUnit === null ? 0 : (total - done) * perUnit;
    if (unit !== "tokens") return rest + (of - number) * (inTurn + rest);
    const fraction = total > 0 ? Math.min(1, done / total) : 1;
    const measured = perUnit === null ? before : total * perUnit;
    const turn = fraction * measured + (1 - fraction) * (before > 0 ? before : measured);
    return (1 - fraction + of - number) * turn;
  }
}

type DoneStage = ExpectedStage & { took: number };

function isDone(stage: ExpectedStage): stage is DoneStage {
  return stage.took !== null;
}

function isAlike({ id, kind = id }: ExpectedStage): (other: ExpectedStage) => boolean {
  return (other) => (other.kind ?? other.id) === kind;
}

/**
 * What a stage takes for each second that it is predicted to: what those before it took for theirs, where they are a good part
 * of it, and `otherwise` where they are not. A stage of seconds, however badly predicted, says little about one of hours.
 */
function factorOf(known: readonly DoneStage[], seconds: number, otherwise: number): number {
  const predicted = sum(known, (stage) => stage.seconds);
  const doubt = seconds / 10;
  return predicted <= 0 ? otherwise : (sum(known, ({ took }) => took) + doubt * otherwise) / (predicted + doubt);
}

function sum<T>(all: readonly T[], of: (one: T) => number): number {
  return all.reduce((total, one) => total + of(one), 0);
}

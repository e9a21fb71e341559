import type { Progress } from "../../protocol/progress";

/** A stage of a run as it stands before this attempt. */
export interface ExpectedStage {
  id: string;
  /** What the pre-flight predicted; 0: nothing is known. */
  seconds: number;
  /** What it took; null while it is not done. */
  took: number | null;
}

/**
 * How much of a whole run is done, as a share of its time that only rises. Stages take what the pre-flight predicted, times the
 * factor by which it was wrong so far; the pass under way takes what its own pace says, the more the further it is. Without a
 * pre-flight stages count the same, and no time is claimed.
 */
export class RunShare {
  #share = 0;
  #stages: ExpectedStage[];
  #current: { id: string; beganAt: number } | null = null;
  #pass = { key: "", beganAt: 0, from: 0 };

  /** @param now monotonic, in seconds */
  constructor(
    stages: readonly ExpectedStage[],
    readonly now: () => number = () => performance.now() / 1000,
  ) {
    this.#stages = [...stages];
  }

  /** A stage is being worked on; before, it took `seconds` in earlier attempts. */
  begin(id: string, seconds: number): void {
    this.#current = { id, beganAt: this.now() - seconds };
    this.#pass.key = "";
  }

  end(id: string, took: number): void {
    this.#stages = this.#stages.map((stage) => (stage.id === id ? { ...stage, took } : stage));
    this.#current = null;
  }

  /** The run's share behind a report, and the seconds left; those are undefined where nothing was predicted. */
  behind(progress: Progress): NonNullable<Progress["run"]> {
    const left = this.#left(progress);
    const current = this.#current;
    const stage = this.#stages.find(({ id }) => id === current?.id);
    if (!current || !stage) return { share: this.#share };
    const spent = this.now() - current.beganAt;
    const isPredicted = this.#stages.some(({ seconds }) => seconds > 0);
    if (!isPredicted) {
      const done = this.#stages.filter(({ took }) => took !== null).length;
      const within = left === null || spent + left === 0 ? 0 : spent / (spent + left);
      return { share: this.#rise((done + within) / this.#stages.length) };
    }
    const others = this.#stages.filter((other) => other !== stage);
    const sum = (part: readonly ExpectedStage[], of: (stage: ExpectedStage) => number) =>
      part.reduce((total, one) => total + of(one), 0);
    const done = others.filter(({ took }) => took !== null);
    const next = others.filter(({ took }) => took === null);
    const toGo = left ?? Math.max(0, stage.seconds - spent);
    const took = sum(done, (one) => one.took!) + spent;
    const predicted = sum(done, ({ seconds }) => seconds) + stage.seconds;
    const factor = predicted > 0 ? Math.min(10, Math.max(0.1, (took + toGo) / predicted)) : 1;
    const remainingSeconds = toGo + factor * sum(next, ({ seconds }) => seconds);
    return { share: this.#rise(took / Math.max(took + remainingSeconds, 1e-9)), remainingSeconds };
  }

  #rise(share: number): number {
    this.#share = Math.max(this.#share, Math.min(1, share));
    return this.#share;
  }

  /** Seconds until the stage ends; null before anything is known of the pass. */
  #left({ message, total, done, unit, pass }: Progress): number | null {
    const key = `${message} ${total}`;
    if (key !== this.#pass.key || done < this.#pass.from) this.#pass = { key, beganAt: this.now(), from: done };
    const elapsed = this.now() - this.#pass.beganAt;
    const moved = done - this.#pass.from;
    if (moved <= 0 || elapsed <= 0) return null;
    const perUnit = elapsed / moved;
    const fraction = total > 0 ? Math.min(1, done / total) : 1;
    const expected = this.#stages.find(({ id }) => id === this.#current?.id)?.seconds ?? 0;
    const spent = this.now() - (this.#current?.beganAt ?? this.now());
    const own = (total - done) * perUnit;
    // Passes of tokens are followed by others: as many as are known of, or what is left of the prediction.
    if (unit !== "tokens") return own;
    if (!pass) return own + Math.max(0, expected - spent - own);
    const measured = total * perUnit;
    const predicted = expected > 0 ? expected / pass.of : measured;
    const onePass = fraction * measured + (1 - fraction) * predicted;
    return (1 - fraction + pass.of - pass.number) * onePass;
  }
}

import { expect, it } from "vitest";
import { TimeLimitExceeded, withTimeLimit } from "../../../src/engine/checkpoint/timeLimit";

/** Holds this thread without using the processor, as a busy machine does. */
const stall = (ms: number): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
const spin = (): never => {
  for (;;);
};

it("work that never ends is stopped, and says after how much", () => {
  expect(() => withTimeLimit(50, spin)).toThrow(TimeLimitExceeded);
  expect(() => withTimeLimit(50, spin)).toThrow("took more than 50 ms");
});

it("work that the machine kept waiting is not taken for work without end", () => {
  let attempts = 0;
  const work = (): string => {
    attempts++;
    // An interruptible wait: the time limit ends it, as it would end a starved attempt.
    for (let i = 0; i < 12; i++) stall(10);
    return "done";
  };
  expect(withTimeLimit(20, work)).toBe("done");
  expect(attempts).toBeGreaterThan(1);
});

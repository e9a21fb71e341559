import { expect, it } from "vitest";
import { lossWords } from "../../webview/calibration/lossWords";

const look = { step: 3, kl: 0.25, nll: 2.875 } as Parameters<ReturnType<typeof lossWords>["heldOutValue"]>[0];

it.each([
  [undefined, 0.25, "held-out KL", /KL/],
  ["kd", 0.25, "held-out KL", /KL/],
  ["lm", 2.875, "held-out loss", /log p/],
  ["kd+lm", 0.25, "held-out KL", /nats/],
  ["router-logits", 0.25, "held-out KL", /./],
] as const)("loss %s: the held-out line shows %d, named %s", (loss, value, name, axis) => {
  const words = lossWords(loss);
  expect(words.heldOutValue(look)).toBe(value);
  expect(words.heldOut).toBe(name);
  expect(words.axis).toMatch(axis);
  expect(words.note).toContain("verdict is measured on the evaluation text");
});

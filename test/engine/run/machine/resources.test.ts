import { expect, it } from "vitest";
import { sampleResources } from "../../../../src/engine/run/machine/resources";

it.skipIf(process.platform !== "linux")("sees a peak that comes and goes while this thread is busy", async () => {
  const sampler = sampleResources(
    "profile",
    () => undefined,
    () => null,
  );
  // The watching thread needs a moment to start.
  await new Promise((resolve) => setTimeout(resolve, 300));
  const held = new Uint8Array(200e6).fill(1);
  const until = performance.now() + 400;
  while (performance.now() < until) held[0]! += 1;
  const peak = sampler.stop();
  expect(peak).toBeGreaterThan(200e6);
  expect(peak).toBeLessThan(2e9);
});

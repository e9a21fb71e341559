import { expect, it } from "vitest";
import { inspectInProcesses, manyTensors } from "../../bench/manyTensors";
import { temporaryFolder } from "../../support/temporaryFolder";

it("opens and inspects 100,000 tensors in 40 shards in less than 200 MB, and a second where nothing else runs", async () => {
  const folder = temporaryFolder();
  const tensors = manyTensors(folder);
  expect(tensors).toBeGreaterThanOrEqual(100_000);
  const [result] = await inspectInProcesses(folder, temporaryFolder(), 1);
  const { openMs, totalMs, cpuMs, peakBytes } = result!;
  console.log(
    `${tensors} tensors in 40 shards: opened in ${openMs.toFixed(0)} ms, inspected after ${totalMs.toFixed(0)} ms (${cpuMs.toFixed(0)} ms of processor time), peak ${(peakBytes / 1e6).toFixed(0)} MB`,
  );
  expect(result).toMatchObject({ supported: true, tensors, layers: 40, shards: 40 });
  // What a second of real time is made of; on a busy machine only processor time says something.
  expect(cpuMs).toBeLessThan(2000);
  expect(totalMs).toBeLessThan(8000);
  expect(peakBytes).toBeLessThan(200e6);
});

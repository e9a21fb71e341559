/** Runs one operation in a process of its own, so that a test can limit, kill or measure it. Prints one JSON line. */
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { summariseCheckpoint } from "../../../src/engine/model/inspect";
import { copyTensor } from "../../../src/engine/checkpoint/tensorSource";
import { writeCheckpoint } from "../../../src/engine/checkpoint/write";
import { RerouteError } from "../../../src/protocol/errors";

async function run(command: string, source: string, out: string): Promise<object> {
  const cpuBefore = process.cpuUsage();
  const started = performance.now();
  const checkpoint = await openCheckpoint(source);
  const openMs = performance.now() - started;
  if (command === "inspect") {
    const { supported, tensors, layers } = await summariseCheckpoint(checkpoint);
    const totalMs = performance.now() - started;
    const { user, system } = process.cpuUsage(cpuBefore);
    const peakBytes = process.resourceUsage().maxRSS * 1024;
    const found = { supported, tensors, layers: layers.length, shards: checkpoint.shards.length };
    return { ...found, openMs, totalMs, cpuMs: (user + system) / 1000, peakBytes };
  }
  const tensors = [...checkpoint.tensors.values()].map((entry) => copyTensor(entry));
  const { bytes } = await writeCheckpoint({
    directory: out,
    tensors,
    config: checkpoint.config,
    copyFilesFrom: source,
    maxShardBytes: 12e6,
    runId: "killed",
  });
  return { bytes, peakBytes: process.resourceUsage().maxRSS * 1024 };
}

const [command = "", source = "", out = ""] = process.argv.slice(2);
run(command, source, out).then(
  (result) => console.log(JSON.stringify(result)),
  (error: unknown) => {
    const code = error instanceof RerouteError ? error.code : "untyped";
    console.log(JSON.stringify({ code, message: error instanceof Error ? error.message : String(error) }));
  },
);

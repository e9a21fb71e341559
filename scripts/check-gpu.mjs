// `node scripts/check-gpu.mjs [provider]`: checks a graphics card in under five minutes (docs/gpu.md): is it right, is it fast.
import { spawnSync } from "node:child_process";

const provider = process.argv[2] ?? "webgpu";
const { status } = spawnSync(process.execPath, ["scripts/bench.mjs", "gpu", "--provider", provider], {
  stdio: "inherit",
});
process.exit(status ?? 1);

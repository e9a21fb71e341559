import { spawnSync } from "node:child_process";
import { expect, it } from "vitest";
import { temporaryFolder } from "../support/temporaryFolder";
import { bundleCli, filesBelow } from "./tinyRun";

it("onnxruntime keeps no identity and no database of its users", async () => {
  const home = temporaryFolder();
  // On a build server onnxruntime is silent by itself.
  const unset = ["ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED", "CI", "GITHUB_ACTIONS", "XDG_CACHE_HOME"];
  const kept = Object.entries(process.env).filter(([name]) => !unset.includes(name));
  const env = { ...Object.fromEntries(kept), HOME: home };
  const { stdout } = spawnSync(process.execPath, [await bundleCli(), "doctor"], { env, encoding: "utf8" });
  expect(stdout).toMatch(/onnxruntime.*1\.\d+/);
  // What is there is which providers were checked.
  expect(filesBelow(home).filter((file) => !/reroute/.test(file))).toEqual([]);
});

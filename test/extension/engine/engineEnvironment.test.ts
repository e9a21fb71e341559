import { expect, it } from "vitest";
import { engineEnvironment } from "../../../src/extension/engine/childProcess";

it.each<[string, NodeJS.ProcessEnv, NodeJS.ProcessEnv]>([
  [
    "fixes the thresholds beside what is inherited",
    { PATH: "/bin" },
    { PATH: "/bin", MALLOC_MMAP_THRESHOLD_: "4194304", MALLOC_TRIM_THRESHOLD_: "4194304", ELECTRON_RUN_AS_NODE: "1" },
  ],
  [
    "leaves the user's own thresholds",
    { MALLOC_MMAP_THRESHOLD_: "131072", MALLOC_TRIM_THRESHOLD_: "0" },
    { MALLOC_MMAP_THRESHOLD_: "131072", MALLOC_TRIM_THRESHOLD_: "0", ELECTRON_RUN_AS_NODE: "1" },
  ],
  [
    "never starts an editor",
    { ELECTRON_RUN_AS_NODE: "" },
    { MALLOC_MMAP_THRESHOLD_: "4194304", MALLOC_TRIM_THRESHOLD_: "4194304", ELECTRON_RUN_AS_NODE: "1" },
  ],
])("%s", (_what, inherited, expected) => {
  expect(engineEnvironment(inherited)).toEqual(expected);
});

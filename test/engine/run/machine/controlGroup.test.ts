import { expect, it } from "vitest";
import { controlGroupAvailable } from "../../../../src/engine/run/machine/controlGroup";

const host = 16e9;
const v1 = "/sys/fs/cgroup/memory";
const v2 = "/sys/fs/cgroup";

/** Files of a system; what is left to a process on it. */
it.each<[string, Record<string, string>, number | null]>([
  ["no control groups", {}, null],
  ["version 2 without a limit", { "/proc/self/cgroup": "0::/\n", [`${v2}/memory.max`]: "max\n" }, null],
  [
    "a container of version 2, whose cache is given back",
    {
      "/proc/self/cgroup": "0::/\n",
      [`${v2}/memory.max`]: "4000000000\n",
      [`${v2}/memory.current`]: "3000000000\n",
      [`${v2}/memory.stat`]: "anon 1000000000\nfile 1900000000\n",
    },
    2_900_000_000,
  ],
  [
    "a service of version 2 whose slice is narrower",
    {
      "/proc/self/cgroup": "0::/work.slice/job.service\n",
      [`${v2}/work.slice/job.service/memory.max`]: "6000000000\n",
      [`${v2}/work.slice/memory.max`]: "2000000000\n",
      [`${v2}/work.slice/memory.current`]: "500000000\n",
    },
    1_500_000_000,
  ],
  [
    "a group of version 1 below an unlimited root",
    {
      "/proc/self/cgroup": "12:pids:/x\n9:memory:/batch/7\n1:name=systemd:/\n",
      [`${v1}/memory.limit_in_bytes`]: "9223372036854771712\n",
      [`${v1}/batch/7/memory.limit_in_bytes`]: "1000000000\n",
      [`${v1}/batch/7/memory.usage_in_bytes`]: "900000000\n",
      [`${v1}/batch/7/memory.stat`]: "cache 1\ntotal_cache 400000000\n",
    },
    500_000_000,
  ],
  [
    "a container of version 1, whose own path is not below its mount",
    {
      "/proc/self/cgroup": "4:cpu,memory:/docker/abc\n",
      [`${v1}/memory.limit_in_bytes`]: "3000000000",
      [`${v1}/memory.usage_in_bytes`]: "1000000000",
    },
    2e9,
  ],
  [
    "a group that is full",
    { "/proc/self/cgroup": "0::/a\n", [`${v2}/a/memory.max`]: "1000", [`${v2}/a/memory.current`]: "2000" },
    0,
  ],
])("%s", (_name, files, expected) => {
  expect(controlGroupAvailable(host, (file) => files[file] ?? "")).toBe(expected);
});

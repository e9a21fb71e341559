import { expect, test } from "vitest";
import { PartThreads } from "../../../../src/engine/runtime/sideBySide/partThreads";
import { buildThreadProgram } from "../../../support/buildThreadProgram";

buildThreadProgram("test/support/slowThreadProgram.ts");

// Ended amid a call of onnxruntime, a thread takes the whole process along (seen with Node 24: Napi::Error, SIGABRT).
test.each([
  { amid: "opening", isOpen: false, counts: [2, 0], replies: [null, null] },
  { amid: "a part", isOpen: true, counts: [2, 1], replies: ["first", null] },
])(
  "threads that are closed amid $amid end behind it, and begin nothing more",
  async ({ amid: _, isOpen, ...wanted }) => {
    const counts = new Int32Array(new SharedArrayBuffer(8));
    const threads = new PartThreads<Int32Array, string, string>(2, "slow", counts);
    while (isOpen && !threads.isReady) await new Promise((resolve) => setTimeout(resolve, 5));
    const replies = ["first", "second"].map((part) => threads.ask(0, part));
    await new Promise((resolve) => setImmediate(resolve));
    await threads.close();
    expect(threads.isReady).toBe(false);
    expect({ counts: [...counts], replies: await Promise.all(replies) }).toMatchObject(wanted);
  },
);

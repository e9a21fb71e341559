import { servePartThread } from "../../src/engine/runtime/sideBySide/partThread";

/** Threads that notice, in memory shared with the test, when they have opened and when they have done a part. */
const slowly = () => new Promise((resolve) => setTimeout(resolve, 100));

void servePartThread({
  slow: async (data) => {
    const counts = data as Int32Array;
    await slowly();
    Atomics.add(counts, 0, 1);
    return async (part) => {
      await slowly();
      Atomics.add(counts, 1, 1);
      return part;
    };
  },
});

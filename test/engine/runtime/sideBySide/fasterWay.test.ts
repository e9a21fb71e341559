import { expect, test } from "vitest";
import { FasterWay, type Way } from "../../../../src/engine/runtime/sideBySide/fasterWay";

/** Ways that updates took, where one of them is done in `seconds(way, update)`. */
function waysOf(updates: number, seconds: (way: Way, update: number) => number): Way[] {
  const faster = new FasterWay();
  return Array.from({ length: updates }, (_, update) => {
    const way = faster.next(true);
    faster.note(way, seconds(way, update));
    return way;
  });
}

const countOf = (ways: Way[]) => ways.filter((way) => way === "several").length;

test.each([
  // The first with several executors compiles their sessions; then every 32nd update tries the other way.
  ["several executors are faster", (way: Way) => (way === "several" ? 1 : 1.4), 90, 100],
  ["several executors are slower", (way: Way) => (way === "several" ? 1.4 : 1), 3, 7],
] as const)("of 100 updates where %s", (_, seconds, least, most) => {
  const count = countOf(waysOf(100, seconds));
  expect(count).toBeGreaterThanOrEqual(least);
  expect(count).toBeLessThanOrEqual(most);
});

test("a machine that becomes busy is left to one executor within a few updates, and the other way round", () => {
  const busyFrom = (update: number) => update >= 40 && update < 80;
  const ways = waysOf(160, (way, update) =>
    way === "several" ? (busyFrom(update) ? 3 : 1) : busyFrom(update) ? 1.5 : 1.4,
  );
  expect(countOf(ways.slice(20, 40))).toBeGreaterThanOrEqual(19);
  expect(countOf(ways.slice(44, 80))).toBeLessThanOrEqual(3);
  expect(countOf(ways.slice(130))).toBeGreaterThanOrEqual(28);
});

test("until they are open, one executor works", () => {
  expect(new FasterWay().next(false)).toBe("one");
});

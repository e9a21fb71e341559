import { expect, test } from "vitest";
import { positionOfSlot, slotsFor } from "../../../src/engine/generation/layerPast";

test.each([
  [3, 5, Infinity, -1],
  [3, 2, Infinity, 2],
  [5, 4, 4, -1],
  [5, 0, 4, 4],
  [5, 1, 4, 1],
  [9, 3, 4, 7],
  [9, 0, 4, 8],
])("of %i tokens, slot %i of a ring of %f holds position %i", (length, slot, ring, position) => {
  // A slot behind the ring holds nothing.
  expect(slot < ring ? positionOfSlot(length, slot, ring) : -1).toBe(position);
});

test.each([
  [0, Infinity, 64],
  [64, Infinity, 64],
  [65, Infinity, 128],
  [1000, 64, 64],
])("%i tokens in a ring of %f take %i slots", (tokens, ring, slots) => {
  expect(slotsFor(tokens, ring)).toBe(slots);
});

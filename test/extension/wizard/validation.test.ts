import { describe, expect, it } from "vitest";
import { english } from "../../../src/protocol/translate";
import { amountChoices, keepChoices, methodChoices } from "../../../src/extension/wizard/choices";
import {
  keptExperts,
  parseAmount,
  parseExpertsPerToken,
  parseKeep,
  parseKeeps,
} from "../../../src/extension/wizard/validation";
import { methods } from "../../../src/engine/compression/methods";
import { pruningCriteria } from "../../../src/engine/compression/pruning/criteria";
import { pruningMethods } from "../../../src/protocol/methods";
import { checkpoint } from "./checkpoints";

describe("keep", () => {
  it.each<[string, number | RegExp]>([
    ["0.625", 0.625],
    [" 62.5 % ", 0.625],
    ["20", 20],
    ["4", 4],
    ["0.1", /3 experts would stay, but the router selects 4/],
    ["3", /selects 4/],
    ["1", /32 experts: keeping 32 would change nothing/],
    ["32", /change nothing/],
    ["40", /keeping 40/],
    ["101 %", /100 %/],
    ["2.5", /neither a fraction/],
    ["0", /At least one/],
    ["half", /Enter a fraction/],
    ["", /Enter a fraction/],
    ["-3", /Enter a fraction/],
  ])("%s", (text, expected) => {
    const parsed = parseKeep(text, checkpoint(), english);
    if (typeof expected === "number") expect(parsed).toEqual({ ok: true, value: expected });
    else expect(parsed).toMatchObject({ ok: false, problem: expect.stringMatching(expected) as string });
  });

  it("offers only ratios that leave more experts than the router selects and fewer than there are", () => {
    for (const [experts, topK] of [
      [32, 4],
      [8, 2],
      [8, 6],
      [64, 8],
      [2, 1],
    ] as const) {
      for (const { value } of keepChoices(checkpoint({ numExpertsPerToken: topK }, experts), english)) {
        expect(keptExperts(value, experts)).toBeGreaterThanOrEqual(topK);
        expect(keptExperts(value, experts)).toBeLessThan(experts);
      }
    }
    expect(keepChoices(checkpoint(), english).map(({ label }) => label)).toContain("Keep 20 of 32 experts");
    expect(keepChoices(checkpoint(), english, "wanda").map(({ label }) => label)).toContain("Keep 50 %");
  });
});

describe("amount", () => {
  it.each<[string, [number, number] | RegExp]>([
    ["512 x 256", [512, 256]],
    ["3000×512", [3000, 512]],
    ["8*2", [8, 2]],
    ["0 x 512", /At least one/],
    ["4 x 1", /at least 2 tokens/],
    ["512", /such as 512 x 256/],
  ])("%s", (text, expected) => {
    const parsed = parseAmount(text, english);
    if (Array.isArray(expected))
      expect(parsed).toEqual({ ok: true, value: { sequences: expected[0], sequenceLength: expected[1] } });
    else expect(parsed).toMatchObject({ ok: false, problem: expect.stringMatching(expected) as string });
  });

  it("never offers more text than there is, and the published recipe where it fits", () => {
    for (const tokens of [600, 30_000, 200_000, 1_536_000]) {
      for (const { value } of amountChoices(tokens, english))
        expect(value.sequences * value.sequenceLength).toBeLessThanOrEqual(Math.max(tokens, value.sequenceLength));
    }
    expect(amountChoices(1_536_000, english)[0]).toMatchObject({
      label: "Published recipe",
      value: { sequences: 3000, sequenceLength: 512 },
    });
  });
});

describe("methods", () => {
  it("that are offered are those the engine carries out, each once", () => {
    const engine = new Set<string>([...Object.keys(pruningCriteria), ...Object.keys(methods)]);
    const values = methodChoices(english).flatMap(({ choices }) => choices.map(({ value }) => value));
    expect([...values].sort()).toEqual([...engine].sort());
  });

  it("all have an explanation and say who loads what they write", () => {
    const choices = methodChoices(english).flatMap((group) => group.choices);
    for (const { value, description, detail } of choices) {
      expect(detail).toMatch(/\w{3}.*/);
      // Who loads it comes first, where nothing is cut.
      expect(description).toMatch(/^(dense output )?loads in (transformers|Reroute only)/);
      const everywhere = (pruningMethods as readonly string[]).includes(value) && value !== "mone";
      if (everywhere) expect(description).toMatch(/^loads in transformers/);
    }
  });
});

describe("several ratios", () => {
  it.each<[string, number[] | RegExp]>([
    ["0.5", [0.5]],
    ["62.5 %, 20; 0.5, 20", [0.625, 20, 0.5]],
    ["0.5, 3", /selects 4/],
    ["0.5,", /Enter a fraction/],
    ["", /Enter a fraction/],
  ])("%s", (text, expected) => {
    const parsed = parseKeeps(text, checkpoint(), english);
    if (parsed.ok) expect(parsed.value).toEqual(expected);
    else expect(parsed.problem).toMatch(expected as RegExp);
  });
});

describe("experts a token", () => {
  it.each<[string, number | null | RegExp]>([
    ["", null],
    [" 8 ", 8],
    ["0", /whole number/],
    ["-1", /whole number/],
    ["2.5", /whole number/],
    ["eight", /whole number/],
  ])("%j", (text, expected) => {
    const parsed = parseExpertsPerToken(text, english);
    if (parsed.ok) expect(parsed.value).toBe(expected);
    else expect(parsed.problem).toMatch(expected as RegExp);
  });
});

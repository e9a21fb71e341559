import path from "node:path";
import { describe, expect, it } from "vitest";
import type { MoeObservation } from "../../../src/engine/execution/observer";
import { emptyLayerStatistics } from "../../../src/engine/routing/layerStatistics";
import { topTokens, windowTokens, type ProfileSamples } from "../../../src/engine/routing/samples";
import { loadRoutingStatistics, saveRoutingStatistics } from "../../../src/engine/routing/statisticsFile";
import { sampledTokens, TokenSampler } from "../../../src/engine/routing/tokenSampler";
import { createRandom } from "../../../src/engine/tensor/random";
import { temporaryFolder } from "../../support/temporaryFolder";

const [rows, k, sequenceLength, numSequences] = [6, 2, 10, 8];
const numTokens = sequenceLength * numSequences;
const random = createRandom(3);
const lengths = Int32Array.from({ length: numSequences }, (_, s) => (s === 2 ? 7 : sequenceLength));
const isPadding = (position: number): boolean =>
  position % sequenceLength >= lengths[Math.floor(position / sequenceLength)]!;
const sequences = {
  ...{ ids: Int32Array.from({ length: numTokens }, (_, i) => 100 + i), lengths, sequenceLength },
  domainIds: Uint8Array.from({ length: numTokens }, (_, i) => (i < 40 ? 0 : 1)),
};
const logits = Float32Array.from({ length: numTokens * rows }, () => random.normal());
const picks = Array.from({ length: numTokens }, () => {
  const first = random.below(rows);
  return [first, (first + 1 + random.below(rows - 1)) % rows].sort((a, b) => a - b);
});
// Many equal weights: ties go to the lower position.
const weights = Array.from({ length: numTokens * k }, () => random.below(5) / 4);

function observation(from: number, to: number): MoeObservation {
  return {
    ...{ layer: 3, numTokens: to - from, numRouterRows: rows, numExperts: rows, numExpertsPerToken: k, hiddenSize: 4 },
    ...{ firstToken: from, outputs: null },
    routerLogits: logits.slice(from * rows, to * rows),
    selectedIds: Int32Array.from(picks.slice(from, to).flat()),
    routingWeights: Float32Array.from(weights.slice(from * k, to * k)),
  };
}
function sampled(chunks: [number, number][]): ProfileSamples {
  const sampler = new TokenSampler(sequences, 1);
  for (const [from, to] of chunks) sampler.observe(observation(from, to));
  return sampler.result((all) => all.map((id) => `t${id}`));
}

describe("samples of tokens", () => {
  const whole = sampled([[0, numTokens]]);
  const layer = whole.layers.get(3)!;

  it("are each row's largest routing weights, ties by position, padding left out", () => {
    for (let row = 0; row < rows; row++) {
      const all = picks.flatMap((pick, position) =>
        isPadding(position) || !pick.includes(row)
          ? []
          : [{ position, weight: weights[position * k + pick.indexOf(row)]! }],
      );
      const best = all.sort((a, b) => b.weight - a.weight || a.position - b.position).slice(0, topTokens);
      const at = row * topTokens;
      expect([...layer.topPositions.subarray(at, at + best.length)]).toEqual(best.map(({ position }) => position));
      expect([...layer.topWeights.subarray(at, at + best.length)]).toEqual(best.map(({ weight }) => weight));
      expect([...layer.topDomains.subarray(at, at + best.length)]).toEqual(
        best.map(({ position }) => (position < 40 ? 0 : 1)),
      );
      expect(best.length).toBe(topTokens);
    }
  });

  it("do not depend on the order of chunks, nor on chunks that come twice", () => {
    const cuts: [number, number][] = [
      [60, 80],
      [0, 13],
      [13, 60],
      [0, 13],
      [60, 80],
    ];
    expect(sampled(cuts)).toEqual(whole);
  });

  it("hold what each of the first tokens did, with the entropy of its routing", () => {
    expect([...layer.tokenRows.subarray(10 * k, 11 * k)]).toEqual(picks[10]);
    expect([...layer.tokenRows.subarray(27 * k, 28 * k)]).toEqual([-1, -1]);
    const z = [...logits.subarray(10 * rows, 11 * rows)];
    const total = z.reduce((sum, value) => sum + Math.exp(value), 0);
    const entropy = -z.reduce((sum, value) => sum + (Math.exp(value) / total) * Math.log(Math.exp(value) / total), 0);
    expect(layer.tokenEntropy[10]).toBeCloseTo(entropy, 5);
  });

  it("have the ids around them, of the same sequence only, and their text", () => {
    const { windows, pieces, tokenIds } = whole.text!;
    const around = windows.get(3)!;
    const position = layer.topPositions[0]!;
    const window = [...around.subarray(0, windowTokens)];
    const expected = Array.from({ length: windowTokens }, (_, w) => {
      const at = position - 8 + w;
      const inside =
        at >= 0 && Math.floor(at / sequenceLength) === Math.floor(position / sequenceLength) && !isPadding(at);
      return inside ? 100 + at : -1;
    });
    expect(window).toEqual(expected);
    expect(tokenIds).toEqual(sequences.ids);
    expect(pieces[100]).toBe("t100");
  });

  it("are bounded", () => {
    expect(sampledTokens(1e6, 8, 48)).toBe(2048);
    expect(sampledTokens(1e6, 8, 94)).toBe(1312);
    expect(sampledTokens(100, 8, 94)).toBe(100);
  });

  it("come back from their file, and a sampler goes on from them", async () => {
    const file = path.join(temporaryFolder(), "s.safetensors");
    const shape = { layer: 3, numExperts: rows, numExpertsPerToken: k, hiddenSize: 4 };
    const data = {
      checkpoint: "c",
      fingerprint: "f",
      domainNames: ["a", "b"],
      layers: [emptyLayerStatistics(shape, 2)],
    };
    await saveRoutingStatistics(file, { ...data, samples: whole });
    expect((await loadRoutingStatistics(file)).samples).toEqual(whole);
    const half = new TokenSampler(sequences, 1);
    half.observe(observation(0, 30));
    await saveRoutingStatistics(file, { ...data, samples: half.samples() });
    const again = new TokenSampler(sequences, 1);
    again.restore((await loadRoutingStatistics(file)).samples!);
    again.observe(observation(30, numTokens));
    expect(again.result((all) => all.map((id) => `t${id}`))).toEqual(whole);
  });
});

import { expect, it } from "vitest";
import {
  calibrationCsv,
  divergenceCsv,
  routingCsv,
  similarityCsv,
  tradeOffCsv,
} from "../../src/extension/exports/panelCsv";

const matrix = (rows: number, columns: number, values: (number | null)[]) => ({ rows, columns, values });

it("routing: one row per domain, layer and expert", () => {
  const two = matrix(2, 2, [0.25, 0.75, 1, 0]);
  const domain = {
    tokens: 4,
    utilisation: two,
    frequency: two,
    meanRoutingWeight: matrix(2, 2, [0.5, 0.5, 1, null]),
    layers: [],
  };
  const csv = routingCsv({
    checkpoint: "c",
    tokens: 4,
    numExpertsPerToken: 1,
    layers: [3, 7],
    numExperts: 2,
    domains: ['no, "vel"', "=1+1"],
    byDomain: { "": domain, 'no, "vel"': domain, "=1+1": domain },
    neverUsed: [],
  });
  const lines = csv.split("\r\n");
  expect(lines[0]).toBe("domain,layer,expert,utilisation,frequency_tokens,mean_routing_weight");
  expect(lines.slice(1, 5)).toEqual([
    "all,3,0,0.25,0.25,0.5",
    "all,3,1,0.75,0.75,0.5",
    "all,7,0,1,1,1",
    "all,7,1,0,0,",
  ]);
  expect(lines[5]).toBe('"no, ""vel""",3,0,0.25,0.25,0.5');
  expect(lines[9]).toBe("'=1+1,3,0,0.25,0.25,0.5"); // no spreadsheet runs it
});

it("divergence: empty where the student has no such expert", () => {
  const csv = divergenceCsv({
    teacher: "t",
    student: "s",
    layers: [1],
    numExperts: 2,
    mapping: { kind: "kept", description: "" },
    before: { kl: matrix(1, 2, [0.5, null]), byLayer: [] },
    after: null,
  });
  expect(csv).toBe("layer,teacher_expert,routing_kl_before_nats,routing_kl_after_nats\r\n1,0,0.5,\r\n1,1,,\r\n");
});

it("similarity, Router KD and trade-off keep their axes and order", () => {
  const similarity = similarityCsv({
    layers: [0],
    layer: 0,
    metric: "output-cosine",
    available: [],
    numExperts: 2,
    matrix: matrix(2, 2, [1, 0.1, 0.1, 1]),
    dendrogramOrder: [],
    groups: [],
    dropped: [],
  });
  expect(similarity).toContain("layer,expert_a,expert_b,output_cosine\r\n0,0,0,1\r\n0,0,1,0.1\r\n");
  const calibration = calibrationCsv({
    updates: [{ step: 1, loss: 0.5, learningRate: 1e-5, gradientNorm: 2 }],
    heldOut: [{ step: 0, kl: 0.6, nll: 3, best: true }],
    totalUpdates: 1,
    bestStep: 0,
    verdict: null,
  });
  expect(calibration.split("\r\n").slice(1, 3)).toEqual(["held-out,0,,,,0.6,3,true", "update,1,0.5,0.00001,2,,,"]);
  expect(tradeOffCsv({ points: [] }).split("\r\n")[0]!.split(",")).toHaveLength(14);
});

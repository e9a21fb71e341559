import path from "node:path";
import { expect, test } from "vitest";
import { runCli } from "../../src/cli/program";
import {
  readSafetensorsFile,
  writeSafetensorsFile,
  type MemoryTensor,
} from "../../src/engine/checkpoint/safetensorsFile";
import { distillationGolden, studentFolder } from "../support/distillationGoldens";
import { goldenCheckpoint } from "../support/goldens";
import { temporaryFolder } from "../support/temporaryFolder";

async function forward(cwd: string, ...args: string[]): Promise<{ code: number; err: string }> {
  let err = "";
  const io = {
    out: () => undefined,
    err: (text: string) => (err += text),
    isTerminal: false,
    columns: 80,
    signal: new AbortController().signal,
    cwd,
  };
  const code = await runCli(["forward", studentFolder("olmoe"), "--threads", "1", "--input", "in", ...args], io);
  return { code, err };
}

test("with a teacher and a divergence: the loss at given targets, and the gradient of every tensor under its name", async () => {
  const cwd = temporaryFolder();
  const golden = await distillationGolden("olmoe", "losses");
  const tensor = (name: string, dtype: "I64" | "F32"): MemoryTensor => {
    const { shape, values } = golden.get(name)!;
    const data = dtype === "I64" ? BigInt64Array.from(values, BigInt) : Float32Array.from(values);
    return { dtype, shape, data };
  };
  const input = new Map([
    ["input_ids", tensor("input_ids", "I64")],
    ["targets", tensor("targets", "F32")],
  ]);
  await writeSafetensorsFile(path.join(cwd, "in"), input);
  const teacher = ["--teacher", goldenCheckpoint("olmoe"), "--output", "out.safetensors"];
  const found = await forward(cwd, ...teacher, "--scope", "all", "--divergence", "jsd", "--mix", "0.3");
  expect(found).toEqual({ code: 0, err: "" });
  const { tensors } = await readSafetensorsFile(path.join(cwd, "out.safetensors"));
  const stored = (await readSafetensorsFile(path.join(studentFolder("olmoe"), "model.safetensors"))).tensors;
  expect([...tensors.keys()].sort()).toEqual(["loss", ...[...stored.keys()].map((name) => `grad.${name}`)].sort());
  for (const [name, { shape }] of stored) expect(tensors.get(`grad.${name}`)!.shape).toEqual(shape);
  const { data } = tensors.get("loss")!;
  const [loss] = new Float32Array(new Uint8Array(data).buffer);
  expect(loss! / golden.get("jsd-0.3.loss")!.values[0]!).toBeCloseTo(1, 3);

  for (const [args, says] of [
    [["--output", "a", "--divergence", "reverse"], /name one with --teacher/],
    [["--output", "a", "--active", "2"], /olmo2 checkpoint is a dense model/],
    [[...teacher.slice(0, 2), "--output", "a", "--divergence", "jsd", "--mix", "1"], /jsd mixes both .* by 1/],
    [[...teacher.slice(0, 2), "--output", "a", "--active", "9"], /9 active experts .* has 8/],
    [[...teacher.slice(0, 2), "--output", "a", "--temperature", "0"], /--temperature is 0/],
  ] as const) {
    const refused = await forward(cwd, ...args);
    expect([refused.code, refused.err]).toEqual([2, expect.stringMatching(says)]);
  }
});

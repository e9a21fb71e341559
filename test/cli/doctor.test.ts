import { copyFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { runCli } from "../../src/cli/program";
import {
  readSafetensorsFile,
  writeSafetensorsFile,
  type MemoryTensor,
} from "../../src/engine/checkpoint/safetensorsFile";
import type { DoctorCheck } from "../../src/engine/run/machine/doctor";
import { openModel } from "../../src/engine/run/modelCache";
import { goldenCheckpoint } from "../support/goldens";
import { temporaryFolder } from "../support/temporaryFolder";
import { copyWithChange } from "../support/tinyModels";

async function doctor(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const result = { code: -1, out: "", err: "" };
  const io = {
    out: (text: string) => (result.out += text),
    err: (text: string) => (result.err += text),
    isTerminal: false,
    columns: 80,
    signal: new AbortController().signal,
    cwd: temporaryFolder(),
  };
  result.code = await runCli(["doctor", ...argv], io);
  result.out = result.out.replace(/^\w+ +Graphics card .*\n/m, "");
  return result;
}
/** Without the one that only machines with a graphics card have. */
const checksOf = (out: string) =>
  Object.fromEntries(
    (JSON.parse(out) as { checks: DoctorCheck[] }).checks
      .filter(({ name }) => name !== "Graphics card")
      .map((check) => [check.name, check]),
  );

describe("doctor", () => {
  it("says what an issue report needs, and that this machine computes", async () => {
    const { code, out } = await doctor("--json");
    const checks = checksOf(out);
    expect(code).toBe(0);
    expect(Object.keys(checks)).toEqual([
      ...["Versions", "System", "Processor", "Memory", "Disk", "onnxruntime", "Computation"],
    ]);
    expect(checks["Versions"]!.detail).toContain(process.version);
    expect(checks["onnxruntime"]!.detail).toMatch(/^\d+\.\d+\.\d+, providers .*cpu/);
    expect(checks["Computation"]!.state).toBe("ok");
  });

  it("finds a checkpoint fit", async () => {
    const { code, out } = await doctor(path.resolve("media/sample/checkpoint"), "--read-all");
    expect([code, out.match(/^(ok|warning) /gm)!.length]).toEqual([0, 12]);
    expect(out).toMatch(/^ok +Tensors +every tensor is read$/m);
    expect(out).toMatch(/Tokenizer +2048 entries/);
    expect(out).toMatch(/Weights +632 of 632 tensors read, all numbers finite/);
  });

  it("names a weight that is not a number, and a tokenizer that is not there", async () => {
    const name = "model.layers.1.mlp.gate.weight";
    const damaged = await copyWithChange(goldenCheckpoint("qwen3_moe"), temporaryFolder(), name, (values) => {
      values[3] = NaN;
    });
    const { code, out, err } = await doctor(damaged.checkpoint.directory, "--json");
    const checks = checksOf(out);
    expect(checks["Weights"]).toMatchObject({ state: "warning", detail: expect.stringContaining(name) as string });
    expect(checks["Tokenizer"]).toMatchObject({ state: "problem", code: "data/tokenizer" });
    expect([code, err]).toEqual([2, expect.stringContaining("error data/tokenizer: Tokenizer: ")]);
  });

  it("names weights of the decoder that nothing reads, which no run uses", async () => {
    const golden = goldenCheckpoint("qwen2_moe");
    const directory = temporaryFolder();
    const { tensors } = await readSafetensorsFile(path.join(golden, "model.safetensors"));
    const zeros = { dtype: "BF16", shape: [4], data: new Uint16Array(4) } as const;
    const more = new Map<string, MemoryTensor>([...tensors, ["model.layers.0.self_attn.q_norm.weight", zeros]]);
    await writeSafetensorsFile(path.join(directory, "model.safetensors"), more);
    copyFileSync(path.join(golden, "config.json"), path.join(directory, "config.json"));
    const { code, out, err } = await doctor(directory, "--json");
    expect(checksOf(out)["Tensors"]).toMatchObject({ state: "problem", code: "model/unread-tensors" });
    expect([code, err]).toEqual([2, expect.stringMatching(/error model\/unread-tensors: .*q_norm/)]);
    await expect(openModel(directory)).rejects.toMatchObject({ code: "model/unread-tensors" });
  });

  it("says once why a checkpoint is for inspection only, and still looks at the rest", async () => {
    const directory = temporaryFolder();
    const up = { dtype: "BF16", shape: [4, 4], data: new Uint16Array(16) } as const;
    await writeSafetensorsFile(
      path.join(directory, "model.safetensors"),
      new Map([["model.layers.0.mlp.up_proj.weight", up]]),
    );
    writeFileSync(path.join(directory, "config.json"), JSON.stringify({ model_type: "gpt2" }));
    const { code, out } = await doctor(directory, "--json");
    const checks = checksOf(out);
    expect(checks["Tensors"]).toMatchObject({
      state: "problem",
      code: "model/unsupported-family",
      detail: expect.stringMatching(/^for inspection only: this is a dense model \(gpt2\)/) as unknown,
    });
    expect([code, Object.keys(checks).slice(-3)]).toEqual([2, ["Tensors", "Tokenizer", "Weights"]]);
  });

  it("stops at a checkpoint that cannot be opened", async () => {
    const { code, out, err } = await doctor("/does/not/exist");
    expect([code, out.trimEnd().split("\n").length]).toEqual([2, 8]);
    expect(err).toContain("error checkpoint/not-found");
  });
});

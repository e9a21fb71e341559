import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Command } from "commander";
import { quote } from "../../engine/checkpoint/quote";
import { readSafetensorsFile, writeSafetensorsFile } from "../../engine/checkpoint/safetensorsFile";
import { runtimeOptions } from "../../engine/run/machine/machine";
import { openModel } from "../../engine/run/modelCache";
import { RerouteError } from "../../protocol/errors";
import { checkpointPath } from "../checkpointPath";
import type { CliIo } from "../io";
import { addMachineOptions, type SharedOptions } from "../options";

interface ForwardOptions extends SharedOptions {
  input: string;
  output: string;
  teacher?: string;
}

interface InputIds {
  ids: Int32Array;
  batch: number;
  positions: number;
}

/** `reroute forward <checkpoint>`: the numerical probe. Names and layouts are in docs/cli.md. */
export function addForward(program: Command, io: CliIo): void {
  const command = program
    .command("forward")
    .description(
      "write logits, router logits, selections and, with a teacher, the loss and router gradients of given token ids",
    )
    .argument("<checkpoint>", "checkpoint folder")
    .requiredOption("--input <file>", "safetensors with input_ids, int64 [batch, positions]")
    .requiredOption("--output <file>", "safetensors file to write; must not exist")
    .option("--teacher <dir>", "also compute kd_loss and kd_grad.<layer> against this checkpoint");
  addMachineOptions(command).action(async (checkpoint: string, options: ForwardOptions) => {
    const output = path.resolve(io.cwd, options.output);
    await refuseExisting(output);
    const model = await openModel(await checkpointPath(io, checkpoint));
    const teacher = options.teacher === undefined ? null : await openModel(await checkpointPath(io, options.teacher));
    const { ids, batch, positions } = await readInputIds(
      path.resolve(io.cwd, options.input),
      model.description.vocabSize,
    );
    const { runForwardProbe } = await import("../../engine/execution/probe");
    const scratchDirectory = await mkdtemp(path.join(tmpdir(), "reroute-forward-"));
    try {
      const runtime = runtimeOptions({ provider: "cpu", ...options });
      const tensors = await runForwardProbe({
        model,
        teacher,
        inputIds: ids,
        batch,
        positions,
        runtime,
        scratchDirectory,
      });
      await writeSafetensorsFile(output, tensors);
      const names = [...tensors].map(([name, { dtype, shape }]) => ({ name, dtype, shape: [...shape] }));
      io.out(
        options.json
          ? `${JSON.stringify({ output, tensors: names }, null, 2)}\n`
          : `${names.length} tensors written to ${output}\n`,
      );
    } finally {
      await rm(scratchDirectory, { recursive: true, force: true });
    }
  });
}

/** @throws RerouteError arguments/invalid, data/token-out-of-range */
async function readInputIds(file: string, vocabSize: number): Promise<InputIds> {
  const tensor = (await readSafetensorsFile(file)).tensors.get("input_ids");
  const [batch = 0, positions = 0] = tensor?.shape ?? [];
  if (
    !tensor ||
    (tensor.dtype !== "I64" && tensor.dtype !== "I32") ||
    tensor.shape.length !== 2 ||
    batch < 1 ||
    positions < 1
  ) {
    const found = tensor ? `${tensor.dtype} [${tensor.shape.join(", ")}]` : "no such tensor";
    throw new RerouteError(
      "arguments/invalid",
      `${quote(file)} should hold input_ids as I64 [batch, positions], found ${found}`,
    );
  }
  const bytes = new Uint8Array(tensor.data).buffer;
  const values =
    tensor.dtype === "I64" ? Array.from(new BigInt64Array(bytes), Number) : Array.from(new Int32Array(bytes));
  const wrong = values.find((id) => id < 0 || id >= vocabSize);
  if (wrong !== undefined) {
    throw new RerouteError(
      "data/token-out-of-range",
      `${quote(file)} holds token id ${wrong}, but the model's vocabulary has ${vocabSize} entries`,
    );
  }
  return { ids: Int32Array.from(values), batch, positions };
}

/** An empty file is taken: tools that make temporary names leave one. */
async function refuseExisting(file: string): Promise<void> {
  const size = await stat(file).then(
    (found) => (found.isFile() ? found.size : Infinity),
    () => 0,
  );
  if (size > 0) throw new RerouteError("output/not-empty", `${quote(file)} exists; choose another name`);
}

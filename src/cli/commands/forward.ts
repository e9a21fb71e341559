import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Option, type Command } from "commander";
import { quote } from "../../engine/checkpoint/quote";
import { readSafetensorsFile, writeSafetensorsFile } from "../../engine/checkpoint/safetensorsFile";
import { runtimeOptions } from "../../engine/run/machine/machine";
import { requireChosenProvider } from "../../engine/run/machine/providerChoice";
import { openModel } from "../../engine/run/modelCache";
import type { OpenModel } from "../../engine/run/work";
import type { StudentProbeOptions } from "../../engine/distillation/studentProbe";
import { divergenceOf } from "../../engine/distillation/divergence";
import type { ProbeOptions } from "../../engine/execution/probe";
import type { Divergence } from "../../engine/graph/blocks/divergence";
import { withActiveExperts } from "../../engine/model/activeExperts";
import { requireExperts } from "../../engine/model/requireExperts";
import { calibrationScopes, divergenceKinds, type DivergenceKind } from "../../protocol/calibrateOptions";
import { RerouteError } from "../../protocol/errors";
import { checkpointPath } from "../checkpointPath";
import type { CliIo } from "../io";
import { addMachineOptions, toInteger, toNumber, type SharedOptions } from "../options";

interface ForwardOptions extends SharedOptions {
  input: string;
  output: string;
  teacher?: string;
  active?: number;
  scope?: StudentProbeOptions["scope"];
  divergence?: DivergenceKind;
  mix?: number;
  temperature?: number;
}

interface Input {
  ids: Int32Array;
  batch: number;
  positions: number;
  /** [batch, positions - 1] of zeros and ones; null where the file has none. */
  targets: Uint8Array | null;
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
    .option("--teacher <dir>", "also compute kd_loss and kd_grad.<layer> against this checkpoint")
    .option("--active <n>", "experts that each token goes to, of the teacher where there is one", toInteger(1))
    .addOption(
      new Option("--scope <scope>", "with a teacher: write loss and the gradient of what this scope trains").choices(
        calibrationScopes.filter((scope) => scope !== "router+top-experts"),
      ),
    )
    .addOption(
      new Option("--divergence <kind>", "of the student from the teacher (default: forward)").choices([
        ...divergenceKinds,
      ]),
    )
    .option("--mix <x>", "beta of jsd (default 0.5), alpha of the skewed divergences (default 0.1)", toNumber)
    .option("--temperature <t>", "of both distributions; the loss is multiplied by its square", toNumber);
  addMachineOptions(command).action(async (checkpoint: string, options: ForwardOptions) => {
    const output = path.resolve(io.cwd, options.output);
    await refuseExisting(output);
    const divergence = askedDivergence(options);
    const found = await openModel(await checkpointPath(io, checkpoint));
    const taught = options.teacher === undefined ? null : await openModel(await checkpointPath(io, options.teacher));
    // What routes otherwise is the teacher; without one, the checkpoint itself.
    const model = taught === null ? routed(found, options.active) : found;
    const teacher = taught && routed(taught, options.active);
    const { targets, ...input } = await readInput(
      path.resolve(io.cwd, options.input),
      Math.min(model.description.vocabSize, teacher?.description.vocabSize ?? Infinity),
    );
    const scratchDirectory = await mkdtemp(path.join(tmpdir(), "reroute-forward-"));
    try {
      const provider = options.provider ?? "auto";
      await requireChosenProvider(provider);
      const runtime = runtimeOptions({ ...options, provider });
      const common = { model, inputIds: input.ids, batch: input.batch, positions: input.positions };
      const tensors = await probe({ ...common, runtime, scratchDirectory }, teacher, options, divergence, targets);
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

/** Loss and gradients where they are asked for; otherwise what the forward pass decides. */
async function probe(
  common: Omit<ProbeOptions, "teacher">,
  teacher: OpenModel | null,
  { scope, temperature = 1 }: ForwardOptions,
  divergence: Divergence | null,
  targets: Uint8Array | null,
) {
  if (divergence === null || teacher === null) {
    const { runForwardProbe } = await import("../../engine/execution/probe");
    return runForwardProbe({ ...common, teacher });
  }
  const { runStudentProbe } = await import("../../engine/distillation/studentProbe");
  return runStudentProbe({ ...common, teacher, scope: scope ?? "all", temperature, divergence, targets });
}

/** Null where no option asks for a loss. @throws RerouteError arguments/invalid */
function askedDivergence({ scope, divergence: kind, mix, temperature, teacher }: ForwardOptions): Divergence | null {
  if (scope === undefined && kind === undefined && mix === undefined && temperature === undefined) return null;
  if (teacher === undefined) {
    throw new RerouteError(
      "arguments/invalid",
      "--scope, --divergence, --mix and --temperature compare a student with a teacher; name one with --teacher",
    );
  }
  if (temperature !== undefined && temperature <= 0)
    throw new RerouteError("arguments/invalid", `--temperature is ${temperature}, expected a number above 0`);
  return divergenceOf(kind ?? "forward", mix);
}

function routed(model: OpenModel, active: number | undefined): OpenModel {
  if (active === undefined) return model;
  requireExperts(model.description, "route to another number of experts");
  return { ...model, description: withActiveExperts(model.description, active) };
}

/** @throws RerouteError arguments/invalid, data/token-out-of-range */
async function readInput(file: string, vocabSize: number): Promise<Input> {
  const { tensors } = await readSafetensorsFile(file);
  const tensor = tensors.get("input_ids");
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
  return { ids: Int32Array.from(values), batch, positions, targets: readTargets(file, tensors, batch, positions) };
}

/** Which positions count, [batch, positions - 1], stored as numbers of any type. @throws RerouteError arguments/invalid */
function readTargets(
  file: string,
  tensors: Awaited<ReturnType<typeof readSafetensorsFile>>["tensors"],
  batch: number,
  positions: number,
): Uint8Array | null {
  const tensor = tensors.get("targets");
  if (tensor === undefined) return null;
  const values = numbersOf(tensor);
  const hasShape = tensor.shape.length === 2 && tensor.shape[0] === batch && tensor.shape[1] === positions - 1;
  if (hasShape && values?.every((value) => value === 0 || value === 1) && values.includes(1))
    return Uint8Array.from(values);
  throw new RerouteError(
    "arguments/invalid",
    `${quote(file)} should hold targets as [${batch}, ${positions - 1}] zeros and ones, one of them at least, found ${tensor.dtype} [${tensor.shape.join(", ")}]${hasShape && values ? " with other numbers, or zeros only" : ""}`,
  );
}

function numbersOf({ dtype, data }: { dtype: string; data: Uint8Array }): number[] | null {
  const bytes = new Uint8Array(data).buffer;
  switch (dtype) {
    case "I64":
      return Array.from(new BigInt64Array(bytes), Number);
    case "I32":
      return Array.from(new Int32Array(bytes));
    case "F32":
      return Array.from(new Float32Array(bytes));
    case "U8":
    case "BOOL":
      return Array.from(data);
    default:
      return null;
  }
}

/** An empty file is taken: tools that make temporary names leave one. */
async function refuseExisting(file: string): Promise<void> {
  const size = await stat(file).then(
    (found) => (found.isFile() ? found.size : Infinity),
    () => 0,
  );
  if (size > 0) throw new RerouteError("output/not-empty", `${quote(file)} exists; choose another name`);
}

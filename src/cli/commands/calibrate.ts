import path from "node:path";
import { Option, type Command } from "commander";
import { calibrationPanel } from "../../engine/report/panels";
import { readProvenance } from "../../engine/run/stages/outputs";
import { readEvaluation } from "../../engine/run/stages/evaluate";
import { describeComparison } from "../../engine/evaluation/verdict";
import { openCheckpoint } from "../../engine/checkpoint/open";
import { quote } from "../../engine/checkpoint/quote";
import { describeModel } from "../../engine/model/families/index";
import { hasExperts } from "../../engine/model/requireExperts";
import { RerouteError } from "../../protocol/errors";
import { distillationPresets } from "../../protocol/presets";
import {
  activationTypes,
  calibrationLosses,
  calibrationScopes,
  divergenceKinds,
  type ActivationType,
} from "../../protocol/calibrateOptions";
import { denseChoices, denseScales } from "../../protocol/denseStudent";
import { runFiles } from "../../protocol/run";
import { checkpointPath } from "../checkpointPath";
import {
  distillationOptions,
  studentToBuildOf,
  type BuildChoices,
  type DistillationChoices,
} from "../distillationOptions";
import type { CliIo } from "../io";
import {
  addDataOptions,
  addMachineOptions,
  dataHelp,
  defaultRunDirectory,
  recipeFrom,
  toInteger,
  toNumber,
  type SharedOptions,
} from "../options";
import { addSpreadOptions, type SpreadOptions } from "../queueOptions";
import { runInFolder } from "../runInFolder";

interface CalibrateCommandOptions extends SharedOptions, SpreadOptions, BuildChoices, DistillationChoices {
  data: string;
  out: string;
  evaluation?: string;
  run?: string;
  force?: boolean;
  heldOut?: number;
  maxHeldOut?: number;
  loss?: string;
  lmShare?: number;
  scope?: string;
  topExperts?: number;
  initialise?: string;
  learningRate?: number;
  scaleLearningRate?: number;
  routerBits?: number;
  activations?: ActivationType;
  routerGroup?: number;
  batch?: number;
  epochs?: number;
  match?: Record<string, number>;
  temperature?: number;
  schedule?: string;
  warmup?: number;
  clip?: number;
  weightDecay?: number;
  evaluateEvery?: number;
  keepStep?: string;
  patience?: number;
  routerDtype?: string;
}

/** `reroute calibrate <student>`: Router KD against the teacher. Called again, it continues where it stopped. */
export function addCalibrate(program: Command, io: CliIo): void {
  const command = program
    .command("calibrate")
    .description("train a compressed checkpoint against its teacher, by default its routers alone (Router KD)")
    .argument("<student>", "compressed checkpoint folder; with --build-student the teacher")
    .option("--teacher <dir>", "the checkpoint that the student was made from (default: as its reroute.json says)")
    .option(
      "--build-student [k]",
      "build a dense student of k experts of each of its layers first (default: as many as a token goes to)",
      toInteger(1),
    )
    .addOption(new Option("--choose <how>", "with --build-student: which experts").choices([...denseChoices]))
    .addOption(
      new Option("--scales <how>", "with --build-student: what their outputs are multiplied by").choices([
        ...denseScales,
      ]),
    )
    .requiredOption("--data <file>", `calibration text: ${dataHelp}`)
    .requiredOption("--out <dir>", "folder for the calibrated checkpoint; must not exist or be empty")
    .option("--evaluation <file>", "held-out text for a before/after comparison with a verdict")
    .option("--run <dir>", "run folder (default: one below .reroute/runs, found again by the same command)")
    .option("--force", "go on although the teacher is not the student's origin, or the evaluation text was trained on")
    .addOption(
      new Option("--scope <which>", "which tensors may change (default: router)").choices([...calibrationScopes]),
    )
    .option(
      "--top-experts <n>",
      "with --scope router+top-experts: most used experts a layer (default: 8)",
      toInteger(1),
    )
    .addOption(new Option("--loss <kind>", "what the training minimises (default: kd)").choices([...calibrationLosses]))
    .addOption(
      new Option("--preset <name>", "what a method of the literature amounts to; options beside it win").choices(
        Object.keys(distillationPresets),
      ),
    )
    .addOption(
      new Option("--divergence <kind>", "of kd: of the student from the teacher (default: forward)").choices([
        ...divergenceKinds,
      ]),
    )
    .option("--mix <x>", "beta of jsd (default 0.5), alpha of the skewed divergences (default 0.1)", toNumber)
    .option(
      "--match <terms>",
      "compare layer with layer, too: router, experts and feed-forward with their weights, such as router=1,experts=0.5",
      toMatchTerms,
    )
    .addOption(
      new Option(
        "--teacher-routing <kind>",
        "which experts of the teacher teach (default: own): its own choice, --active of them, draws of them, or those of routers that train with the student",
      ).choices(["own", "active", "augment", "student-aware"]),
    )
    .option("--active <n>", "the teacher's active experts (default: all; augment: all but one)", toInteger(1))
    .option("--lambda <share>", "with augment: share of tokens whose experts are drawn (default: 0.05)", toNumber)
    .option(
      "--router-learning-rate <x>",
      "with student-aware: of the teacher's routers (default: a tenth of the learning rate)",
      toNumber,
    )
    .option(
      "--round-updates <n>",
      "with student-aware and --on-policy: updates a run of the teacher (default: 32)",
      toInteger(1),
    )
    .option("--on-policy <share>", "share of the sequences that the student continues itself", toNumber)
    .option("--prompt-tokens <n>", "with --on-policy: tokens that it continues from (default: 32)", toInteger(1))
    .option("--replay <share>", "with --on-policy: share taken again from the round before (default: 0)", toNumber)
    .option(
      "--freeze-above <kl>",
      "with student-aware: mean KL at which routers stop training (default: 0.1)",
      toNumber,
    )
    .option("--draws <n>", "with augment: passes of the teacher (default: 2)", toInteger(1))
    .option("--lm-share <share>", "with --loss kd+lm: the share of lm (default: 0.5)", toNumber)
    .addOption(
      new Option(
        "--initialise <how>",
        "router-logits: fit the routers to the teacher's router logits first (default: none)",
      ).choices(["none", "router-logits"]),
    )
    .option("--learning-rate <x>", "peak learning rate (default: 5e-5)", toNumber)
    .option("--scale-learning-rate <x>", "with --scope router+scales: of the scales (default: as routers)", toNumber)
    .addOption(
      new Option(
        "--activations <type>",
        "the student's experts read activations rounded a token at a time, in training and evaluation",
      ).choices([...activationTypes]),
    )
    .option("--router-bits <n>", "round routers to 8, 6 or 4 bits, in training and as they are written", toInteger(4))
    .option("--router-group <n>", "with --router-bits: inputs that share a scale (default: 0, a row)", toInteger(0))
    .option("--batch <n>", "sequences an update (default: 8)", toInteger(1))
    .option("--epochs <n>", "passes over the sequences (default: 1)", toInteger(1))
    .option("--temperature <x>", "softmax temperature of the loss (default: 1)", toNumber)
    .addOption(new Option("--schedule <kind>", "learning-rate decay (default: linear)").choices(["linear", "cosine"]))
    .option("--warmup <share>", "share of the updates over which the learning rate rises (default: 0.03)", toNumber)
    .option("--clip <x>", "largest global gradient norm (default: 1)", toNumber)
    .option("--weight-decay <x>", "AdamW weight decay (default: 0)", toNumber)
    .option("--held-out <share>", "held-out sequences as a share of --sequences (default: 0.05)", toNumber)
    .option("--max-held-out <n>", "most held-out sequences (default: 32)", toInteger(1))
    .option("--evaluate-every <n>", "optimiser updates between held-out evaluations (default: 10)", toInteger(1))
    .addOption(
      new Option("--keep-step <which>", "which update's weights are written (default: best)").choices(["best", "last"]),
    )
    .option(
      "--patience <n>",
      "stop after this many evaluations without a new best; 0: never (default: 0)",
      toInteger(0),
    )
    .addOption(
      new Option("--router-dtype <dtype>", "dtype of the written routers (default: checkpoint)").choices([
        "checkpoint",
        "float32",
      ]),
    );
  addSpreadOptions(command);
  addMachineOptions(addDataOptions(command, 3000)).action(async (student: string, options: CalibrateCommandOptions) => {
    const resolve = (p: string): string => path.resolve(io.cwd, p);
    const { heldOut, maxHeldOut, learningRate, batch, epochs, temperature, schedule, warmup, clip, weightDecay } =
      options;
    const { evaluateEvery, keepStep, patience, routerDtype, loss, lmShare, match, scope, topExperts, initialise } =
      options;
    const { scaleLearningRate, activations, routerBits, routerGroup } = options;
    const chosen = distillationOptions(options);
    const build = studentToBuildOf(options);
    const named = await checkpointPath(io, student);
    const recipe = recipeFrom(io.cwd, options, {
      teacher: build ? named : await checkpointPath(io, options.teacher ?? (await teacherOf(named))),
      student: build ? { build } : named,
      calibration: resolve(options.data),
      ...(options.evaluation === undefined ? {} : { evaluation: resolve(options.evaluation) }),
      output: resolve(options.out),
      calibrate: {
        ...chosen,
        ...(loss === undefined ? {} : { loss }),
        lmShare,
        match,
        scope: scope ?? chosen["scope"] ?? (build ? "all" : await defaultScope(named)),
        topExperts,
        initialise,
        heldOut,
        maxHeldOut,
        learningRate,
        scaleLearningRate,
        activations,
        routerBits,
        routerGroup,
        batch,
        epochs,
        temperature,
        schedule,
        warmup,
        clip,
        weightDecay,
        evaluateEvery,
        keepStep,
        patience,
        routerDtype,
      },
    });
    const runDirectory =
      options.run === undefined ? defaultRunDirectory(io.cwd, "calibrate", recipe) : resolve(options.run);
    await runInFolder(io, { runDirectory, recipe, baseFolder: io.cwd, force: options.force ?? false }, options);
    io.out(await describeResult(runDirectory, recipe.output, options.json ?? false));
  });
}

/** "router=1,feed-forward=0.5"; which names and weights there may be, the recipe's schema says. */
function toMatchTerms(text: string): Record<string, number> {
  return Object.fromEntries(
    text.split(",").map((part) => {
      const [name = "", weight = "1"] = part.split("=");
      return [name.trim() === "feed-forward" ? "feedForward" : name.trim(), Number(weight)];
    }),
  );
}

/** The teacher that a student's reroute.json names. @throws RerouteError arguments/invalid where it has none */
async function teacherOf(student: string): Promise<string> {
  const teacher = (await readProvenance(student))?.teacher;
  if (teacher) return teacher.path;
  throw new RerouteError(
    "arguments/invalid",
    `${quote(student)} has no reroute.json that says what it was made from; name its teacher with --teacher`,
  );
}

/** A dense student has no routers: all of it trains unless a scope is named. */
async function defaultScope(student: string): Promise<"all" | undefined> {
  try {
    const { description } = describeModel(await openCheckpoint(student));
    return hasExperts(description) ? undefined : "all";
  } catch (error) {
    // The pre-flight says what is wrong with it.
    if (error instanceof RerouteError) return undefined;
    throw error;
  }
}

async function describeResult(runDirectory: string, output: string, json: boolean): Promise<string> {
  const panel = await calibrationPanel(runDirectory);
  const comparison = (await readEvaluation(path.join(runDirectory, runFiles.evaluation)))?.comparison ?? null;
  // The student as it came: the panel's first evaluation may be the one after its routers were fitted.
  const metrics = (await readProvenance(output))?.metrics ?? {};
  const heldOutBefore = metrics["heldOutKlBefore"] ?? null;
  const bestEvaluation = panel?.heldOut.find(({ step }) => step === panel.bestStep);
  const heldOutBest = metrics["heldOutKlAfter"] ?? bestEvaluation?.kl ?? null;
  const result = {
    output,
    runDirectory,
    updates: panel?.updates.length ?? 0,
    finalLoss: panel?.updates.at(-1)?.loss ?? null,
    bestStep: panel?.bestStep ?? null,
    heldOutKlBefore: heldOutBefore,
    heldOutKlBest: heldOutBest,
    comparison,
  };
  if (json) return `${JSON.stringify(result, null, 2)}\n`;
  const heldOut =
    heldOutBefore === null || heldOutBest === null
      ? ""
      : `Held-out KL ${heldOutBefore.toFixed(5)} -> ${heldOutBest.toFixed(5)} nats a token (best at update ${result.bestStep})\n`;
  const verdict = comparison ? `${describeComparison(comparison)}\n` : "";
  return `${result.updates} updates\n${heldOut}${verdict}Written     ${output}\nRun folder  ${runDirectory}\n`;
}

import { homedir, release } from "node:os";
import path from "node:path";
import { mkdir } from "node:fs/promises";
import { z } from "zod";
import { writeFileAtomically } from "../../checkpoint/atomicFile";
import { contentKey } from "../../checkpoint/contentKey";
import { readSmallFile } from "../../checkpoint/smallFile";
import { examineProvider } from "../../execution/providerCheck";
import { probeRuntime, runtimePath } from "../../runtime/session";
import { errorCodeOf, RerouteError } from "../../../protocol/errors";
import type { ExecutionProvider, ProviderChoice } from "../../../protocol/recipe";
import { engineVersion } from "../../../protocol/version";
import { askedDrivers, graphicsCards, isSoftware } from "./gpus";

const providerResult = z.object({
  wrong: z
    .object({ op: z.string(), output: z.number(), shape: z.array(z.number()), error: z.number().nullable() })
    .nullable(),
  speed: z.number(),
});
type Checked = z.infer<typeof providerResult>;
const checkedFile = z.object({ version: z.literal(1), checked: z.record(z.string(), providerResult) });
const maxFileBytes = 2 ** 20;

/** What is known of providers in this process, by their key. */
const known = new Map<string, Checked>();
/** Of the onnxruntime that checks load. */
let runtimeVersion: string | null = null;

/** What `--provider auto` may choose, where the machine has a graphics card. */
const candidates: Partial<Record<NodeJS.Platform, readonly ExecutionProvider[]>> = {
  linux: ["cuda", "webgpu"],
  win32: ["directml", "webgpu"],
  darwin: ["webgpu", "coreml"],
};

/**
 * The provider that a choice stands for on this machine: of `auto`, the fastest of those that were checked and computed
 * rightly, if it is faster than the CPU. Where none was checked (prepareProvider), and without a graphics card, the CPU.
 */
export function chosenProvider(choice: ProviderChoice): ExecutionProvider {
  if (choice !== "auto") return choice;
  let best: { provider: ExecutionProvider; speed: number } = { provider: "cpu", speed: 1 };
  for (const provider of automatic()) {
    const checked = known.get(keyOf(provider));
    if (checked?.wrong === null && checked.speed > best.speed) best = { provider, speed: checked.speed };
  }
  return best.provider;
}

/** Checks what a choice may stand for, unless it was on this machine. Costs nothing for the CPU and without a graphics card. */
export async function prepareProvider(choice: ProviderChoice): Promise<void> {
  if (choice !== "auto") return;
  for (const provider of automatic()) await checkProvider(provider).catch(() => undefined);
}

/**
 * Refuses a provider that cannot be used or computes wrongly here; checks it unless it was on this machine.
 * @throws RerouteError runtime/provider, runtime/provider-wrong, runtime/unavailable
 */
export async function requireProvider(provider: ExecutionProvider): Promise<void> {
  if (provider === "cpu") return;
  const { wrong } = await checkProvider(provider);
  if (wrong === null) return;
  const amount = wrong.error === null ? "without a number" : `${wrong.error.toPrecision(2)} of its largest value off`;
  throw new RerouteError(
    "runtime/provider-wrong",
    `The execution provider ${provider} computes ${wrong.op} wrongly on this machine: result ${wrong.output} of shape ` +
      `[${wrong.shape.join(", ")}] is ${amount}, compared with the CPU. Update the graphics driver, or choose cpu: ` +
      '"provider" in the recipe, --provider, or the setting reroute.provider',
  );
}

/**
 * The provider that a choice stands for, checked: what commands without a pre-flight begin with.
 * @throws RerouteError as requireProvider does
 */
export async function requireChosenProvider(choice: ProviderChoice): Promise<ExecutionProvider> {
  await prepareProvider(choice);
  const provider = chosenProvider(choice);
  await requireProvider(provider);
  return provider;
}

/** One line on a provider for `doctor`. */
export async function describeProvider(provider: ExecutionProvider): Promise<{ ready: boolean; text: string }> {
  try {
    await requireProvider(provider);
    const checked = known.get(keyOf(provider));
    const speed = checked === undefined ? "" : `, products at ${checked.speed.toPrecision(2)} times the CPU's speed`;
    return { ready: true, text: `${provider}: ready${speed}` };
  } catch (error) {
    const state = errorCodeOf(error) === "runtime/provider-wrong" ? "computes wrongly" : "missing";
    return { ready: false, text: `${provider}: ${state}. ${error instanceof Error ? error.message : String(error)}` };
  }
}

/** The providers that this machine's onnxruntime knows, the CPU left out. */
export async function offeredProviders(): Promise<ExecutionProvider[]> {
  const { providers } = await probeRuntime();
  const all: ExecutionProvider[] = ["cuda", "directml", "coreml", "webgpu"];
  return all.filter((provider) => providers.some((name) => name.split(" ")[0] === provider));
}

function automatic(): readonly ExecutionProvider[] {
  if (graphicsCards().length === 0) return [];
  const software = isSoftware(askedDrivers(process.env));
  return (candidates[process.platform] ?? []).filter((provider) => !(software && provider === "webgpu"));
}

async function checkProvider(provider: ExecutionProvider): Promise<Checked> {
  runtimeVersion ??= (await probeRuntime()).version;
  const key = keyOf(provider);
  const found = known.get(key) ?? (await readChecked())[key];
  if (found !== undefined) {
    known.set(key, found);
    return found;
  }
  const { wrong, speed } = await examineProvider(provider);
  const error = wrong === null || !Number.isFinite(wrong.error) ? null : wrong.error;
  const checked = { wrong: wrong === null ? null : { ...wrong, shape: [...wrong.shape], error }, speed };
  known.set(key, checked);
  await writeChecked(key, checked);
  return checked;
}

/** Everything that a check depends on. */
function keyOf(provider: ExecutionProvider): string {
  const drivers = askedDrivers(process.env);
  const machine = { cards: graphicsCards(), drivers, system: `${process.platform} ${process.arch} ${release()}` };
  return contentKey({ provider, engineVersion, runtime: runtimePath() ?? "own", runtimeVersion, ...machine });
}

/** In the user's cache folder: what is lost there is checked again. */
function cacheFile(): string {
  const folder = process.env["XDG_CACHE_HOME"] ?? path.join(homedir(), ".cache");
  return path.join(folder, "reroute", "checked-providers.json");
}

async function readChecked(): Promise<Record<string, Checked>> {
  try {
    const text = Buffer.from(await readSmallFile(cacheFile(), maxFileBytes)).toString("utf8");
    return checkedFile.parse(JSON.parse(text)).checked;
  } catch {
    return {};
  }
}

/** A folder that cannot be written costs a check a process. */
async function writeChecked(key: string, checked: Checked): Promise<void> {
  try {
    const all = { version: 1, checked: { ...(await readChecked()), [key]: checked } };
    await mkdir(path.dirname(cacheFile()), { recursive: true });
    await writeFileAtomically(cacheFile(), [Buffer.from(`${JSON.stringify(all, null, 2)}\n`)]);
  } catch {
    return;
  }
}

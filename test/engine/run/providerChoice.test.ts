import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { askedDrivers, graphicsCards, isSoftware } from "../../../src/engine/run/machine/gpus";
import { runtimeOptions } from "../../../src/engine/run/machine/machine";
import { chosenProvider, prepareProvider, requireChosenProvider } from "../../../src/engine/run/machine/providerChoice";
import { executionProviders } from "../../../src/protocol/recipe";
import { temporaryFolder } from "../../support/temporaryFolder";

/** A Linux with files in it. */
function machineWith(files: Record<string, string>): string {
  const root = temporaryFolder();
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
    writeFileSync(path.join(root, name), text);
  }
  return root;
}
const card = (number: number, vendor: string, device: string) => ({
  [`sys/class/drm/renderD${number}/device/vendor`]: `${vendor}\n`,
  [`sys/class/drm/renderD${number}/device/device`]: `${device}\n`,
});

test.each([
  ["none", {}, []],
  ["one", card(128, "0x1002", "0x744c"), ["0x1002:0x744c"]],
  ["two", { ...card(129, "0x8086", "0x56a0"), ...card(128, "0x1002", "0x744c") }, ["0x1002:0x744c", "0x8086:0x56a0"]],
  ["a virtual machine's", card(128, "0x1af4", "0x1050"), []],
  ["NVIDIA's without a render node", { "proc/driver/nvidia/version": "NVRM 580.1\nGCC" }, ["NVRM 580.1"]],
  ["Windows's seen from its Linux", { "dev/dxg": "" }, ["dxg"]],
])("graphics cards: %s", (_, files, expected) => {
  expect(graphicsCards("linux", machineWith(files))).toEqual(expected);
});

test.each([
  [null, false],
  ["/usr/share/vulkan/icd.d/nvidia_icd.json", false],
  ["/usr/lib/chromium/vk_swiftshader_icd.json", true],
  ["/usr/share/vulkan/icd.d/lvp_icd.x86_64.json", true],
])("drivers %s: on the processor %s", (drivers, expected) => {
  expect(isSoftware(drivers)).toBe(expected);
  expect(askedDrivers(drivers === null ? {} : { VK_ICD_FILENAMES: drivers })).toBe(drivers);
});

test.runIf(graphicsCards().length === 0)("a provider by name that this machine has not is refused", async () => {
  await expect(requireChosenProvider("cuda")).rejects.toMatchObject({ code: "runtime/provider" });
  await expect(requireChosenProvider("cpu")).resolves.toBe("cpu");
});

test("a provider by name is itself; auto, where nothing was checked, is the CPU", () => {
  expect(executionProviders.map((name) => chosenProvider(name))).toEqual([...executionProviders]);
  expect(runtimeOptions({ provider: "auto", threads: 1 }).provider).toBe("cpu");
});

test.runIf(graphicsCards().length === 0)("auto without a graphics card loads nothing and takes no time", async () => {
  const before = process.cpuUsage();
  for (let i = 0; i < 100; i++) await prepareProvider("auto");
  const { user, system } = process.cpuUsage(before);
  expect(chosenProvider("auto")).toBe("cpu");
  expect((user + system) / 100).toBeLessThan(5000);
});

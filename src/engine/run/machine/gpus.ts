import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { readKernelFile } from "./controlGroup";

/** PCI vendors whose cards show pictures of a virtual machine and do not compute. */
const virtualVendors = ["0x1af4", "0x1234", "0x1b36", "0x15ad", "0x1414", "0x1013"];

/**
 * The graphics cards of this machine, by what tells one from another, without loading a driver: vendors and devices on Linux.
 * Other systems do not tell without one, and nearly all of them have a card: there it is the system's interface.
 */
export function graphicsCards(platform = process.platform, root = "/"): string[] {
  if (platform === "darwin") return ["metal"];
  if (platform === "win32") return ["direct3d"];
  if (platform !== "linux") return [];
  const drm = path.join(root, "sys/class/drm");
  const names = existsSync(drm) ? readdirSync(drm).filter((name) => name.startsWith("renderD")) : [];
  const cards = names.sort().map((name) => {
    const [vendor, device] = ["vendor", "device"].map((of) =>
      readKernelFile(path.join(drm, name, "device", of)).trim(),
    );
    return { vendor: vendor!, card: `${vendor}:${device}` };
  });
  const nvidia = readKernelFile(path.join(root, "proc/driver/nvidia/version")).split("\n")[0]!.trim();
  const others = [...(nvidia === "" ? [] : [nvidia]), ...(existsSync(path.join(root, "dev/dxg")) ? ["dxg"] : [])];
  return [...cards.filter(({ vendor }) => !virtualVendors.includes(vendor)).map(({ card }) => card), ...others];
}

/** The Vulkan drivers that the environment asks for; null where the system's are used. */
export function askedDrivers(environment: NodeJS.ProcessEnv): string | null {
  return environment["VK_DRIVER_FILES"] ?? environment["VK_ICD_FILENAMES"] ?? null;
}

/** Whether these drivers compute on the processor: right, and many times slower than the CPU provider. */
export function isSoftware(drivers: string | null): boolean {
  return drivers !== null && /swiftshader|lvp_icd|lavapipe/i.test(drivers);
}

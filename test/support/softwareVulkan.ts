import { existsSync, mkdtempSync } from "node:fs";
import os from "node:os";
import path from "node:path";

/** Of Debian's package chromium-common: SwiftShader, which computes Vulkan's shaders on the CPU. */
const driver = "/usr/lib/chromium/vk_swiftshader_icd.json";
const loaders = ["/usr/lib/x86_64-linux-gnu/libvulkan.so.1", "/usr/lib/aarch64-linux-gnu/libvulkan.so.1"];

/**
 * Whether WebGPU can run here without a graphics card; if so, this process's environment now says how. To be called
 * before onnxruntime makes its first device.
 */
export function useSoftwareVulkan(): boolean {
  if (process.platform !== "linux" || !existsSync(driver) || !loaders.some((file) => existsSync(file))) return false;
  process.env["VK_ICD_FILENAMES"] = driver;
  process.env["XDG_RUNTIME_DIR"] ??= mkdtempSync(path.join(os.tmpdir(), "reroute-vulkan-"));
  return true;
}

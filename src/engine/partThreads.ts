import { updateWork } from "./distillation/sideBySide/updateWork";
import { layerWork } from "./execution/sideBySide/layerWork";
import { servePartThread } from "./runtime/sideBySide/partThread";

/** What threads of this program can do, by the names that PartThreads are opened with. */
export function serveEngineThread(): Promise<void> {
  return servePartThread({ layers: layerWork, updates: updateWork });
}

import type { PlaygroundChange, PlaygroundSource } from "../../protocol/playground";
import { maxSideBySide } from "../../protocol/scoring";
import { checkpointLabel } from "../checkpoints/checkpointFolder";
import { pickCheckpoint } from "../commands/pickCheckpoint";
import type { Services } from "../services";

/** The checkpoints after a change that the page asked for; null where the user chose none. */
export async function changeCheckpoints(
  now: readonly PlaygroundSource[],
  { action, index }: PlaygroundChange,
  services: Services,
): Promise<PlaygroundSource[] | null> {
  switch (action) {
    case "remove":
      return now.filter((_, i) => i !== index);
    case "make-teacher":
      return now.map((one, i): PlaygroundSource => ({ ...one, role: i === index ? "teacher" : "student" }));
    case "replace":
    case "add": {
      const isNew = action === "add" || index >= now.length;
      if (isNew && now.length >= maxSideBySide) return null;
      const folder = await pickCheckpoint(undefined, services);
      if (folder === null) return null;
      const role = isNew ? (now.some((one) => one.role === "teacher") ? "student" : "teacher") : now[index]!.role;
      const picked: PlaygroundSource = { folder, name: checkpointLabel(folder), role };
      return isNew ? [...now, picked] : now.map((one, i) => (i === index ? picked : one));
    }
  }
}

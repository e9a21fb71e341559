import { RerouteError } from "../../protocol/errors";
import type { CalibrateOptions } from "../../protocol/calibrateOptions";
import type { Packing } from "../../protocol/recipe";

/**
 * The options with what the text decides where they do not: packed text goes on behind an end token, and a student that stops there
 * would never learn what it is measured on.
 */
export function withTextDefaults(options: CalibrateOptions, packing: Packing): CalibrateOptions {
  const { onPolicy } = options;
  if (onPolicy === undefined) return options;
  return { ...options, onPolicy: { ...onPolicy, pastEnd: onPolicy.pastEnd ?? packing === "packed" } };
}

/**
 * Refuses what has no meaning on sequences that the student writes: there is no text of others in them.
 * @throws RerouteError arguments/invalid
 */
export function checkOnPolicy(
  { onPolicy, loss, initialise, teacherRouting }: CalibrateOptions,
  sequenceLength: number,
): void {
  if (onPolicy === undefined) return;
  const { promptTokens, roundUpdates } = onPolicy;
  const refuse = (message: string) => {
    throw new RerouteError("arguments/invalid", message);
  };
  if (loss !== "kd")
    refuse(
      `On-policy sequences are the student's own, which the loss ${loss} has no text or router logits for; use kd`,
    );
  if (initialise !== "none") refuse(`initialise ${initialise} reads the text, and onPolicy replaces it; leave out one`);
  if (promptTokens >= sequenceLength)
    refuse(
      `The student continues ${promptTokens} tokens of sequences of ${sequenceLength}, which leaves nothing to write; use fewer promptTokens (--prompt-tokens) or longer sequences`,
    );
  if (teacherRouting?.kind === "student-aware" && roundUpdates % teacherRouting.roundUpdates !== 0)
    refuse(
      `A round of the teacher's routers has ${teacherRouting.roundUpdates} updates, a round of the student's sequences ${roundUpdates}; the latter must be a multiple`,
    );
}

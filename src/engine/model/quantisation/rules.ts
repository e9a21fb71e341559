import { RerouteError } from "../../../protocol/errors";
import { quote } from "../../checkpoint/quote";
import { TimeLimitExceeded, withTimeLimit } from "../../checkpoint/timeLimit";

/** Longer than any pattern that tools write. */
const maxPatternLength = 2000;
/** Processor time for one pattern on one name: real ones take microseconds. */
const limitMs = 200;

/**
 * A pattern of quantization_config, matched from a name's start as Python's `re.match` does. Patterns come from outside,
 * so that one that takes too long is refused.
 * @throws RerouteError checkpoint/malformed for what is no regular expression
 */
export function moduleMatcher(pattern: string): (module: string) => boolean {
  const compiled = compile(pattern);
  const known = new Map<string, boolean>();
  return (module) => {
    // Layers and experts differ in their numbers alone, and so do nearly all names that a pattern is tried on.
    const found = known.get(module) ?? matches(compiled, pattern, module);
    known.set(module, found);
    return found;
  };
}

function matches(compiled: RegExp, pattern: string, module: string): boolean {
  // Few repetitions, none of a group, cannot take long on a name.
  if (!/\)[*+{]/.test(pattern) && (pattern.match(/[*+{]/g)?.length ?? 0) <= 3) return compiled.test(module);
  try {
    return withTimeLimit(limitMs, () => compiled.test(module));
  } catch (error) {
    if (!(error instanceof TimeLimitExceeded)) throw error;
    throw bad(pattern, `takes too long on ${quote(module)}`);
  }
}

function compile(pattern: string): RegExp {
  if (pattern.length > maxPatternLength) throw bad(pattern, `has ${pattern.length} characters`);
  try {
    return new RegExp(`^(?:${pattern})`);
  } catch {
    throw bad(pattern, "is no regular expression");
  }
}

function bad(pattern: string, problem: string): RerouteError {
  return new RerouteError(
    "checkpoint/malformed",
    `The pattern ${quote(pattern)} in quantization_config of config.json ${problem}. Is this the config.json of this checkpoint?`,
  );
}

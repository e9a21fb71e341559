import type { CompressionMethod } from "../../protocol/methods";

/** A method's options as the recipe schema of the package has them: the engine's own, with what each value does and costs. */

export type OptionValue = string | number | boolean;

export interface MethodOption {
  name: string;
  description: string;
  /** What is taken where nobody chooses. */
  standard: OptionValue;
  /** All others; `about` is "" where nothing is said of one alone. */
  others: { value: OptionValue; about: string }[];
}

interface PropertySchema {
  default?: OptionValue;
  description?: string;
  enum?: OptionValue[];
  enumDescriptions?: string[];
  anyOf?: { const?: OptionValue }[];
  type?: string;
}

/** The options of a method that have a few values; numbers are for whoever edits the recipe. */
export function methodOptions(recipeSchema: unknown, method: CompressionMethod): MethodOption[] {
  const { definitions } = recipeSchema as {
    definitions: Record<string, { properties: Record<string, PropertySchema> } | undefined>;
  };
  const properties = definitions[`options-${method}`]?.properties ?? {};
  return Object.entries(properties).flatMap(([name, { default: standard, description = "", ...property }]) => {
    if (standard === undefined) return [];
    const others = valuesOf(property)
      .map((value, i) => ({ value, about: property.enumDescriptions?.[i] ?? "" }))
      .filter(({ value }) => value !== standard);
    return others.length === 0 ? [] : [{ name, description, standard, others }];
  });
}

function valuesOf({ enum: values, anyOf, type }: PropertySchema): OptionValue[] {
  if (values) return values;
  if (type === "boolean") return [true, false];
  return (anyOf ?? []).flatMap((one) => one.const ?? []);
}

/** The option of which more than one value was chosen; null: of none. */
export function chosenTwice(chosen: readonly (readonly [string, OptionValue])[]): string | null {
  const names = chosen.map(([name]) => name);
  return names.find((name, i) => names.indexOf(name) !== i) ?? null;
}

/** "allocate=loss, bits=3"; "" where all are as they stand. */
export function optionWords(options: Readonly<Record<string, OptionValue>> = {}): string {
  return Object.entries(options)
    .map(([name, value]) => `${name}=${value}`)
    .join(", ");
}

/** JSON schemas of every method's options, put where a recipe or a comparison names them: editors complete and explain them there. */
import { z } from "zod";
import { optionsOf } from "../../src/engine/compression/methods";
import { compressionMethods } from "../../src/protocol/methods";

type Json = Record<string, unknown>;

const options = { io: "input", target: "draft-7" } as const;

/** Definitions by method, `options-<method>`. */
function definitions(): Json {
  return Object.fromEntries(
    compressionMethods.map((method) => {
      const { $schema: _, ...schema } = z.toJSONSchema(optionsOf(method), options) as Json;
      return [`options-${method}`, withValueTexts({ ...schema, additionalProperties: false })];
    }),
  );
}

/** What a description says of single values, `value: text;`, also beside each value in the editor's list. */
function withValueTexts(schema: Json): Json {
  const properties = Object.fromEntries(
    Object.entries(schema["properties"] as Record<string, Json>).map(([name, property]) => {
      const { enum: values, description } = property as { enum?: unknown[]; description?: string };
      if (!values || description === undefined) return [name, property];
      return [name, { ...property, enumDescriptions: values.map((value) => textOf(String(value), description)) }];
    }),
  );
  return { ...schema, properties };
}

/** "a: this; b, c: that", "b" -> "that"; "" where a description does not say it. */
function textOf(value: string, description: string): string {
  const name = value.replace(/\W/g, "\\$&");
  return new RegExp(`(?:^|[;,.] )${name}(?:, [\\w:]+)*: ([^;]*)`).exec(description)?.[1] ?? "";
}

const refTo = (method: string): Json => ({ $ref: `#/definitions/options-${method}` });

/** A recipe's schema whose `compress.options` are those of its `compress.method`, in pipelines too. */
export function withMethodOptions(schema: Json): Json {
  const properties = schema["properties"] as Record<string, Json>;
  const conditions = compressionMethods.map((method) => {
    const named = { properties: { method: { const: method } }, required: ["method"] };
    // REAP is what a recipe means that names no method.
    const isMeant = method === "reap" ? { anyOf: [named, { not: { required: ["method"] } }] } : named;
    return { if: isMeant, then: { properties: { options: refTo(method) } } };
  });
  const withConditions = (compress: Json): Json => ({ ...compress, allOf: conditions });
  const steps = properties["steps"]!;
  const items = steps["items"] as Json & { properties: Record<string, Json> };
  return {
    ...schema,
    definitions: definitions(),
    properties: {
      ...properties,
      compress: withConditions(properties["compress"]!),
      steps: {
        ...steps,
        items: { ...items, properties: { ...items.properties, compress: { $ref: "#/properties/compress" } } },
      },
    },
  };
}

/** A comparison's schema whose `methodOptions` are those of each method. */
export function withOptionsOfEach(schema: Json): Json {
  const properties = schema["properties"] as Record<string, Json>;
  const ofEach = Object.fromEntries(compressionMethods.map((method) => [method, refTo(method)]));
  return {
    ...schema,
    definitions: definitions(),
    properties: { ...properties, methodOptions: { ...properties["methodOptions"], properties: ofEach } },
  };
}

import { z } from "zod";
import { quote } from "../checkpoint/quote";
import { readSafetensorsFile, writeSafetensorsFile, type MemoryTensor } from "../checkpoint/safetensorsFile";
import { samplesOf, sampleTensors } from "./samplesFile";
import { elementCount } from "../tensor/dtype";
import { RerouteError } from "../../protocol/errors";
import {
  fieldShape,
  routerRows,
  statisticsFields,
  statisticsAxes,
  type LayerShape,
  type LayerStatistics,
  type RoutingStatisticsData,
  type StatisticsField,
} from "./layerStatistics";

/** Fields that count tokens; stored as I64, all others as F64, so that nothing is rounded. */
const counts = new Set<StatisticsField>(["tokens", "frequency"]);

const size = z.int().min(1).max(1_000_000);
const missingFields = z.array(z.enum(Object.keys(statisticsAxes) as [StatisticsField, ...StatisticsField[]]));
/** Shapes of missing fields come from metadata alone: beyond any model, and small enough to be made. */
const maxMissingElements = 2 ** 26;
const layerShapes = z.array(
  z.strictObject({
    layer: z.int().min(0).max(1_000_000),
    numExperts: size,
    /** Of merged experts with more router rows. */
    expertOfRow: z.array(z.int().min(0)).min(1).max(65_536).optional(),
    numExpertsPerToken: size,
    hiddenSize: size,
  }),
);
const share = z.number().min(0).max(1);
const agreement = z.strictObject({
  sequences: size,
  tokens: size,
  topKOverlap: share,
  worstLayer: z.strictObject({ layer: z.int().min(0).max(1_000_000), topKOverlap: share }),
  reapRank: z.number().min(-1).max(1),
});
const progress = z.strictObject({ key: z.string(), shard: z.int().min(0), layers: z.int().min(0) });
const domainList = z.array(z.string()).min(1).max(256);

/**
 * Writes routing-statistics.safetensors: tensors `layers.<layer>.<field>` with the fields and axes of LayerStatistics,
 * plus `layers.<layer>.weightCosine` where known and samples of tokens (samplesFile.ts); metadata says which checkpoint, domains and layers they belong to, and
 * which fields are missing (of every layer, in files made from traces of other programs).
 * @throws RerouteError output/write-failed
 */
export async function saveRoutingStatistics(filePath: string, statistics: RoutingStatisticsData): Promise<void> {
  const numDomains = Math.max(1, statistics.domainNames.length);
  const tensors = new Map<string, MemoryTensor>();
  for (const layer of statistics.layers) {
    for (const field of statisticsFields.filter((name) => !layer.missing?.has(name))) {
      const shape = fieldShape(field, layer, numDomains);
      const isCount = counts.has(field);
      const data = isCount ? BigInt64Array.from(layer[field], (n) => BigInt(n)) : layer[field];
      tensors.set(tensorName(layer.layer, field), { dtype: isCount ? "I64" : "F64", shape, data });
    }
    if (layer.weightCosine) {
      const shape = [layer.numExperts, layer.numExperts];
      tensors.set(tensorName(layer.layer, "weightCosine"), { dtype: "F64", shape, data: layer.weightCosine });
    }
  }
  const samples = statistics.samples && sampleTensors(statistics.samples, statistics.layers);
  for (const [name, tensor] of samples?.tensors ?? []) tensors.set(name, tensor);
  await writeSafetensorsFile(filePath, tensors, {
    ...samples?.metadata,
    schemaVersion: "1",
    kind: "reroute-routing-statistics",
    checkpoint: statistics.checkpoint,
    fingerprint: statistics.fingerprint,
    domainNames: JSON.stringify(statistics.domainNames),
    layers: JSON.stringify(statistics.layers.map(shapeOf)),
    ...missingOf(statistics),
    ...(statistics.preview ? { preview: JSON.stringify(statistics.preview) } : {}),
    ...(statistics.progress ? { progress: JSON.stringify(statistics.progress) } : {}),
  });
}

/**
 * Reads what saveRoutingStatistics wrote, losing nothing.
 * @throws RerouteError run/invalid where the file is not such a file; codes of readSafetensorsFile
 */
export async function loadRoutingStatistics(filePath: string): Promise<RoutingStatisticsData> {
  const file = await readSafetensorsFile(filePath);
  const { metadata, tensors } = file;
  const invalid = (problem: string): RerouteError =>
    new RerouteError(
      "run/invalid",
      `${quote(filePath)} holds no routing statistics of this version: ${problem}; profile again`,
    );
  if (metadata["kind"] !== "reroute-routing-statistics" || metadata["schemaVersion"] !== "1") {
    throw invalid(
      `its metadata says kind ${quote(String(metadata["kind"]))}, version ${quote(String(metadata["schemaVersion"]))}`,
    );
  }
  const domainNames = domainList.safeParse(parseJson(metadata["domainNames"]));
  const shapes = layerShapes.safeParse(parseJson(metadata["layers"]));
  if (!domainNames.success || !shapes.success) throw invalid("domainNames or layers cannot be read");

  const position = progress.optional().safeParse(metadata["progress"] && parseJson(metadata["progress"]));
  if (!position.success) throw invalid("its progress cannot be read");
  const preview = agreement.optional().safeParse(metadata["preview"] && parseJson(metadata["preview"]));
  if (!preview.success) throw invalid("its agreement with an exact profile cannot be read");
  const missing = missingFields.safeParse(parseJson(metadata["missing"] ?? "[]"));
  if (!missing.success) throw invalid("the list of missing fields cannot be read");
  const isMissing = new Set<StatisticsField>(missing.data);

  const unrecorded = (dims: number[]): Float64Array => {
    const elements = elementCount(dims);
    if (elements > maxMissingElements) throw invalid(`a missing field would have ${elements} elements`);
    return new Float64Array(elements).fill(NaN);
  };
  const read = (
    shape: LayerShape,
    field: StatisticsField | "weightCosine",
    dims: number[],
    dtype: string,
  ): Float64Array => {
    const tensor = tensors.get(tensorName(shape.layer, field));
    const expected = `${dtype} [${dims.join(", ")}]`;
    const found = tensor ? `${tensor.dtype} [${tensor.shape.join(", ")}]` : "nothing";
    if (!tensor || found !== expected) {
      throw invalid(`tensor ${tensorName(shape.layer, field)} is ${found}, expected ${expected}`);
    }
    return toNumbers(tensor.data, dtype === "I64");
  };
  // Shapes in the file must be those the metadata implies before anything of that size is made.
  const layers = shapes.data.map(({ expertOfRow, ...sizes }): LayerStatistics => {
    if (expertOfRow?.some((expert) => expert >= sizes.numExperts))
      throw invalid(`layer ${sizes.layer} maps a router row to an expert beyond its ${sizes.numExperts}`);
    const shape: LayerShape = { ...sizes, ...(expertOfRow ? { expertOfRow } : {}) };
    const fields = Object.fromEntries(
      statisticsFields.map((field) => {
        const dims = fieldShape(field, shape, domainNames.data.length);
        if (isMissing.has(field)) return [field, unrecorded(dims)];
        return [field, read(shape, field, dims, counts.has(field) ? "I64" : "F64")];
      }),
    ) as Record<StatisticsField, Float64Array>;
    const hasCosine = tensors.has(tensorName(shape.layer, "weightCosine"));
    const weightCosine = hasCosine ? read(shape, "weightCosine", [shape.numExperts, shape.numExperts], "F64") : null;
    return {
      ...shape,
      ...fields,
      numRouterRows: routerRows(shape),
      weightCosine,
      ...(isMissing.size > 0 ? { missing: isMissing } : {}),
    };
  });
  const samples = samplesOf(file, layers);
  return {
    ...(samples ? { samples } : {}),
    checkpoint: metadata["checkpoint"] ?? "",
    fingerprint: metadata["fingerprint"] ?? "",
    domainNames: domainNames.data,
    layers,
    ...(preview.data ? { preview: preview.data } : {}),
    ...(position.data ? { progress: position.data } : {}),
  };
}

/** Metadata that names the fields no layer has; nothing where all have all. */
function missingOf({ layers }: RoutingStatisticsData): { missing?: string } {
  const missing = layers[0]?.missing;
  return missing === undefined || missing.size === 0 ? {} : { missing: JSON.stringify([...missing]) };
}

function tensorName(layer: number, field: string): string {
  return `layers.${layer}.${field}`;
}

function shapeOf({ layer, numExperts, expertOfRow, numExpertsPerToken, hiddenSize }: LayerStatistics): LayerShape {
  return { layer, numExperts, ...(expertOfRow ? { expertOfRow } : {}), numExpertsPerToken, hiddenSize };
}

/** Copies: a tensor's bytes may begin anywhere in the file's buffer. */
function toNumbers(bytes: Uint8Array, isCount: boolean): Float64Array {
  const copy = new Uint8Array(bytes).buffer;
  return isCount ? Float64Array.from(new BigInt64Array(copy), Number) : new Float64Array(copy);
}

function parseJson(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? "");
  } catch {
    return undefined;
  }
}

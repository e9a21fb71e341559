import { quote } from "../../checkpoint/quote";
import type { IntegerArray } from "./npy";
import { Callable, unpickle } from "./pickle";
import { invalidTrace } from "./traceCounts";
import { readZip } from "./zip";

/** A tensor may repeat its storage (stride 0), so its own size has a limit too. */
const maxElements = 2 ** 27;

/**
 * The value in a file of torch.save (since PyTorch 1.6: a ZIP archive of a pickle and one file a storage). Integer tensors
 * become IntegerArrays, tensors of other dtypes null. Nothing in the file is run: the pickle may name tensors, storages and
 * ordered dictionaries only.
 * Source: `_save` in torch/serialization.py and `_rebuild_tensor_v2` in torch/_utils.py of pytorch/pytorch.
 *
 * @throws RerouteError trace/invalid
 */
export function parseTorchFile(bytes: Uint8Array, name: string): unknown {
  const files = readZip(bytes, name, "file of torch.save", (entry) =>
    /(?:^|\/)(?:data\.pkl|byteorder|data\/\d+)$/.test(entry),
  );
  const pickleName = [...files.keys()].find((entry) => /(?:^|\/)data\.pkl$/.test(entry));
  const folder = pickleName?.slice(0, -"data.pkl".length);
  try {
    if (pickleName === undefined) throw new Error("it holds no data.pkl");
    if (Buffer.from(files.get(`${folder}byteorder`) ?? []).toString() === "big") throw new Error("it is big-endian");
    const storageOf = (id: unknown): Storage => {
      const [, type, key] = Array.isArray(id) ? (id as unknown[]) : [];
      const data = files.get(`${folder}data/${String(key)}`);
      if (!(type instanceof Callable) || !data) throw new Error(`its storage ${String(key).slice(0, 40)} is missing`);
      return new Storage(storageTypes[type.name] ?? null, data);
    };
    const none = (): never => {
      throw new Error("it calls a storage");
    };
    const storages = [...Object.keys(storageTypes), ...otherStorages].map((type) => [type, none] as const);
    const construct = new Map<string, (...args: unknown[]) => unknown>([
      ["torch._utils _rebuild_tensor_v2", rebuildTensor],
      ["collections OrderedDict", () => new Map()],
      ...storages,
    ]);
    return unpickle(files.get(pickleName)!, construct, storageOf);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw invalidTrace(
      `${quote(name)} is a file of torch.save that is not read further: ${error.message}. Save its counts as .npy: ` +
        `numpy.save("counts.npy", torch.load(...)["logical_count"].numpy())`,
    );
  }
}

type Reader = { bytes: number; values: (data: ArrayBuffer) => ArrayLike<number | bigint> };

const storageTypes: Record<string, Reader | undefined> = {
  "torch ByteStorage": { bytes: 1, values: (data) => new Uint8Array(data) },
  "torch CharStorage": { bytes: 1, values: (data) => new Int8Array(data) },
  "torch ShortStorage": { bytes: 2, values: (data) => new Int16Array(data) },
  "torch IntStorage": { bytes: 4, values: (data) => new Int32Array(data) },
  "torch LongStorage": { bytes: 8, values: (data) => new BigInt64Array(data) },
};
const otherStorages = ["Bool", "Half", "BFloat16", "Float", "Double"].map((type) => `torch ${type}Storage`);

class Storage {
  constructor(
    readonly reader: Reader | null,
    readonly data: Uint8Array,
  ) {}
}

function rebuildTensor(storage: unknown, offset: unknown, size: unknown, stride: unknown): IntegerArray | null {
  const isSizes = (value: unknown): value is number[] =>
    Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
  if (!(storage instanceof Storage) || !isSizes(size) || !isSizes(stride) || !isSizes([offset])) {
    throw new Error("a tensor's shape is not understood");
  }
  const { reader, data } = storage;
  if (!reader) return null;
  const elements = size.reduce((product, length) => product * length, 1);
  const last =
    (offset as number) + size.reduce((sum, length, i) => sum + Math.max(0, length - 1) * (stride[i] ?? 0), 0);
  const stored = Math.floor(data.length / reader.bytes);
  if (size.length !== stride.length || elements > maxElements || (elements > 0 && last >= stored)) {
    throw new Error(`a tensor of shape [${size.join(", ").slice(0, 80)}] lies outside its storage`);
  }
  const all = reader.values(Uint8Array.from(data.subarray(0, stored * reader.bytes)).buffer);
  const values = new Float64Array(elements);
  const place = size.map(() => 0);
  let from = offset as number;
  for (let i = 0; i < elements; i++) {
    values[i] = Number(all[from]);
    for (let axis = size.length - 1; axis >= 0; axis--) {
      from += stride[axis]!;
      if (++place[axis]! < size[axis]!) break;
      from -= stride[axis]! * size[axis]!;
      place[axis] = 0;
    }
  }
  return { shape: size, values };
}

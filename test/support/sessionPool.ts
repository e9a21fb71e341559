import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import path from "node:path";
import * as ort from "onnxruntime-node";

/**
 * Compiled graphs of released sessions, for whoever compiles the same graph over the same files again: compiling took a third of
 * all tests' processor time, most of it for graphs that an earlier test of the process had compiled. A session keeps nothing
 * from run to run, so that what comes out is the same. Goes first in every file of the unit tests (vitest.config.mts).
 */
const mostFree = 256;
/** Tensors of files that waiting sessions may map; the system gives a process 65,530 maps. */
const mostMapped = 8000;

type Session = ort.InferenceSession;
/** Oldest first. */
const free: { key: string; session: Session; mapped: number; end: () => Promise<void> }[] = [];

const compile = ort.InferenceSession.create.bind(ort.InferenceSession) as (
  bytes: Uint8Array,
  options: ort.InferenceSession.SessionOptions,
) => Promise<Session>;

const isPooled = Symbol.for("reroute.test.sessionPool");
if (!(isPooled in ort.InferenceSession)) {
  Object.assign(ort.InferenceSession, { [isPooled]: true, create: pooled });
}

async function pooled(bytes: Uint8Array, options: ort.InferenceSession.SessionOptions): Promise<Session> {
  const files = filesOf(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  const key = keyOf(bytes, options, new Set(files));
  const at = key === null ? -1 : free.findLastIndex((entry) => entry.key === key);
  if (at >= 0) return free.splice(at, 1)[0]!.session;
  const session = await compile(bytes, options);
  if (key === null) return session;
  const end = session.release.bind(session);
  session.release = async () => {
    free.push({ key, session, mapped: files.length, end });
    while (free.length > mostFree || free.reduce((sum, { mapped }) => sum + mapped, 0) > mostMapped)
      await free.shift()!.end();
  };
  return session;
}

/** What decides what a compiled graph computes: its bytes, the options, and the files as they are now. Null: a file is not there. */
function keyOf(bytes: Uint8Array, options: ort.InferenceSession.SessionOptions, files: Set<string>): string | null {
  const { session } = options.extra as { session: { model_external_initializers_file_folder_path?: string } };
  const folder = session.model_external_initializers_file_folder_path ?? "/";
  const hash = createHash("sha1").update(bytes).update(JSON.stringify(options));
  for (const file of files) {
    const found = statSync(path.join(folder, file), { bigint: true, throwIfNoEntry: false });
    if (found === undefined) return null;
    const { dev, ino, size, mtimeNs, ctimeNs } = found;
    hash.update([dev, ino, size, mtimeNs, ctimeNs].join());
  }
  return hash.digest("hex");
}

/** Places of the tensors that an ONNX file keeps in other files: values of the entries `location`, field 2 behind field 1. */
function filesOf(bytes: Buffer): string[] {
  const entry = Buffer.from("\x0a\x08location\x12", "latin1");
  const files: string[] = [];
  for (let at = bytes.indexOf(entry); at >= 0; at = bytes.indexOf(entry, at)) {
    at += entry.length;
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++]!;
      length |= (byte & 127) << shift;
      if (byte < 128) break;
    }
    files.push(bytes.toString("utf8", at, at + length));
    at += length;
  }
  return files;
}

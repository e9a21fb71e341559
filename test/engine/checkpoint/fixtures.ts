import { writeFileSync } from "node:fs";
import path from "node:path";
import { expect } from "vitest";
import { RerouteError, type ErrorCode } from "../../../src/protocol/errors";
import { temporaryFolder } from "../../support/temporaryFolder";

/** A safetensors file with any header, right or wrong, and `dataBytes` bytes counting up. */
export function rawSafetensors(header: string | object, dataBytes = 0, claimedLength?: bigint): Buffer {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(claimedLength ?? BigInt(json.length));
  return Buffer.concat([length, json, Buffer.from(Array.from({ length: dataBytes }, (_, i) => i % 251))]);
}

/** Writes files into a new folder: strings and buffers as they are, other objects as JSON. */
export function folderWith(files: Record<string, string | Uint8Array | object>): string {
  const folder = temporaryFolder();
  for (const [name, content] of Object.entries(files)) {
    const raw = typeof content === "string" || content instanceof Uint8Array;
    writeFileSync(path.join(folder, name), raw ? content : JSON.stringify(content));
  }
  return folder;
}

/** Expects a typed error with this code whose message contains all of `mentions`. */
export async function expectError(work: () => unknown, code: ErrorCode, ...mentions: string[]): Promise<void> {
  const error: unknown = await Promise.resolve()
    .then(work)
    .then(
      () => expect.fail(`expected ${code}, got a result`),
      (reason: unknown) => reason,
    );
  expect(error).toBeInstanceOf(RerouteError);
  const { code: found, message } = error as RerouteError;
  expect(`${found}: ${message}`).toContain(`${code}: `);
  for (const mention of mentions) expect(message).toContain(mention);
  expect(message).not.toMatch(/\.$/);
}

import { mkdir, readFile } from "node:fs/promises";
import path from "node:path";
import { writeFileAtomically } from "../checkpoint/atomicFile";

/** What a method measured one by one, in a file of its state directory: an interrupted one goes on with the next. */
export class SavedValues<V> {
  private constructor(
    readonly file: string,
    readonly key: string,
    readonly values: Record<string, V>,
  ) {}

  /** @param key of all that decides the values; those of another key are forgotten */
  static async open<V>(file: string, key: string): Promise<SavedValues<V>> {
    try {
      const saved = JSON.parse(await readFile(file, "utf8")) as { key: string; values: Record<string, V> };
      if (saved.key === key) return new SavedValues(file, key, saved.values);
    } catch (error) {
      // Absent, or torn by a crash: begun anew.
      if (!(error instanceof SyntaxError) && (error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
    return new SavedValues<V>(file, key, {});
  }

  known(name: string): V | null {
    return this.values[name] ?? null;
  }

  async add(name: string, value: V): Promise<void> {
    this.values[name] = value;
    await mkdir(path.dirname(this.file), { recursive: true });
    await writeFileAtomically(this.file, `${JSON.stringify({ key: this.key, values: this.values })}\n`);
  }
}

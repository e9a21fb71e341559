/** The last lines of a process's standard error: what says why it died. Bounded, since a native library may chatter. */
export class StderrTail {
  private text = "";

  constructor(private readonly maxCharacters = 4000) {}

  add(chunk: string): void {
    this.text = (this.text + chunk).slice(-this.maxCharacters);
  }

  /** At most `maxLines` last non-empty lines. */
  lines(maxLines: number): string[] {
    const lines = this.text.split("\n").filter((line) => line.trim() !== "");
    return lines.slice(-maxLines);
  }
}

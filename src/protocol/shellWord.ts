/** A word as a shell of the platform takes it: POSIX shells, or cmd and PowerShell, which both know double quotes. */
export function shellWord(word: string, platform: NodeJS.Platform = "linux"): string {
  const isWindows = platform === "win32";
  if (/^[\w@%+=:,./\\-]+$/.test(word) && (isWindows || !word.includes("\\"))) return word;
  return isWindows ? `"${word}"` : `'${word.replaceAll("'", "'\\''")}'`;
}

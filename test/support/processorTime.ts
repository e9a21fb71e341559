/** Milliseconds of processor time that this process has used: what other work on the machine does not lengthen. */
export function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

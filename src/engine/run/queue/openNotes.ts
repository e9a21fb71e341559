import type { Notes } from "./notes";
import type { QueueAddress } from "./queueAddress";

/** A connection for what BullMQ does not do. Troubles are told of and got over. */
export async function openNotes(address: QueueAddress, onTrouble: (message: string) => void): Promise<Notes> {
  const trouble = (error: Error) => onTrouble(`queue ${address.shown}: ${error.message}`);
  if (address.kind === "postgres") return (await import("./postgresNotes")).postgresNotes(address, trouble);
  return (await import("./redisNotes")).redisNotes(address, trouble);
}

import { RerouteError } from "../../protocol/errors";

/**
 * A queue's URL with its password. What else is wrong with it, the engine says.
 * @throws RerouteError arguments/invalid where it is no URL of a queue, or holds a password already
 */
export function withPassword(queue: string, password: string | null): string {
  const url = URL.canParse(queue) ? new URL(queue) : null;
  if (url === null || !/^(rediss?|postgres(ql)?):$/.test(url.protocol) || url.hostname === "")
    throw new RerouteError(
      "arguments/invalid",
      "The setting reroute.queue is no URL of a queue, expected redis://host:port, rediss://user@host:port or postgres://user@host:port/database?sslmode=verify-full",
    );
  if (url.password !== "")
    throw new RerouteError(
      "arguments/invalid",
      "The setting reroute.queue holds a password, which settings files keep in the clear: take it out, and use Set Queue Password...",
    );
  if (password === null) return queue;
  // The setter leaves "%" as it is, which would be read as the beginning of an escape.
  url.password = encodeURIComponent(password);
  return url.href;
}

/**
 * Clients of the queue's server. Loaded with a queue only, as a bundle of its own (scripts/nodeBundle.mjs): by
 * `await import("./clients")`, never statically.
 */
export { createPostgresBackend, DelayedError, Queue, QueueEvents, UnrecoverableError, Worker } from "bullmq";
export { Redis } from "ioredis";
export { default as pg } from "pg";

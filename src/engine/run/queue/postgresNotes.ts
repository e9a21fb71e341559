import type { DoctorCheck } from "../machine/doctor";
import type { Notes } from "./notes";
import { postgresSchema, type PostgresAddress } from "./queueAddress";

const table = `${postgresSchema}.notes`;

/** One maker at a time: two that make a schema at once would both fail to find it and one would fail. */
const makeTable = `BEGIN;
SELECT pg_advisory_xact_lock(hashtext('${table}'));
CREATE SCHEMA IF NOT EXISTS ${postgresSchema};
CREATE UNLOGGED TABLE IF NOT EXISTS ${table}
  (kind text, name text, value text NOT NULL, until timestamptz NOT NULL, PRIMARY KEY (kind, name));
COMMIT`;

/** Notes in a table of PostgreSQL. */
export async function postgresNotes(address: PostgresAddress, trouble: (error: Error) => void): Promise<Notes> {
  const { pg } = await import("./clients");
  const { schema: _, migrate: __, ...connection } = address.connection;
  const pool = new pg.Pool(connection);
  pool.on("error", trouble);
  let made: Promise<unknown> | null = null;
  const make = async () => {
    const { rows } = await pool.query<{ found: string | null }>(`SELECT to_regclass('${table}')::text AS found`);
    if (rows[0]!.found === null) await pool.query(makeTable);
  };
  const query = async <R>(text: string, values: readonly unknown[] = []) => {
    made ??= make();
    await made.catch((error: unknown) => {
      made = null;
      throw error;
    });
    return (await pool.query<R>(text, values)).rows;
  };
  return {
    put: async (kind, name, text, seconds) => {
      await query(
        `INSERT INTO ${table} VALUES ($1, $2, $3, now() + make_interval(secs => $4))
         ON CONFLICT (kind, name) DO UPDATE SET value = EXCLUDED.value, until = EXCLUDED.until`,
        [kind, name, text, seconds],
      );
    },
    drop: async (kind, name) => {
      await query(`DELETE FROM ${table} WHERE kind = $1 AND name = $2 OR until < now()`, [kind, name]);
    },
    all: async (kind) => {
      const rows = await query<{ value: string }>(
        `SELECT value FROM ${table} WHERE kind = $1 AND until >= now() ORDER BY name COLLATE "C"`,
        [kind],
      );
      return rows.map(({ value }) => value);
    },
    checks: async () => {
      const setting = async (name: string) =>
        (await query<{ value: string }>(`SELECT current_setting('${name}') AS value`))[0]!.value;
      const [number, version] = [Number(await setting("server_version_num")), await setting("server_version")];
      return [
        postgresCheck(address.shown, number, version),
        connectionsCheck(
          Number(await setting("max_connections")),
          Number((await query<{ count: string }>("SELECT count(*) FROM pg_stat_activity"))[0]!.count),
        ),
      ];
    },
    close: () => void pool.end().catch(() => undefined),
  };
}

export function postgresCheck(shown: string, number: number, version: string): DoctorCheck {
  const detail = `PostgreSQL ${version} at ${shown}`;
  if (number < 130_000)
    return { name: "Queue", state: "problem", detail: `${detail}: 13 or later is needed`, code: "queue/unavailable" };
  return { name: "Queue", state: "ok", detail };
}

/** Connections of a worker: for jobs, for what is told of them, and for who is there. */
const connectionsOfWorker = 4;

export function connectionsCheck(most: number, used: number): DoctorCheck {
  const workers = Math.max(0, Math.floor((most - used) / connectionsOfWorker));
  const detail = `${used} of ${most} used: room for about ${workers} more workers`;
  return workers < 8
    ? { name: "Connections", state: "warning", detail: `${detail}; raise max_connections for more` }
    : { name: "Connections", state: "ok", detail };
}

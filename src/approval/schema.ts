/**
 * The tables of the store and how they came to be: migrations in order, each applied once, under an
 * advisory lock, so that replicas may start together. The SQL is the same for the embedded store
 * and for PostgreSQL 14 and newer. Documents that only people read are `json`, which keeps any text;
 * what SQL decides on has columns of its own.
 */
import { ProxyError } from '../core/core.ts'
import type { Sql, StoreConnection } from './store.ts'

/** Any number that nobody else's migrations use. */
const lockKey = 7_234_117_002

const migrations: readonly string[] = [
  `
  CREATE TABLE regate.approval_instance (
    id text PRIMARY KEY,
    seen timestamptz NOT NULL DEFAULT clock_timestamp()
  );
  CREATE TABLE regate.approval_grant (
    id text PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('pending', 'active', 'revoked')),
    version int NOT NULL DEFAULT 0,
    created timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires timestamptz NOT NULL,
    for_ms bigint NOT NULL,
    scope text NOT NULL CHECK (scope IN ('session', 'shape')),
    -- What an ask must equal: hashes of who and where, and of the session or the shape.
    owner text NOT NULL,
    target text NOT NULL,
    statements int NOT NULL CHECK (statements > 0),
    used int NOT NULL DEFAULT 0 CHECK (used <= statements),
    requirements jsonb NOT NULL,
    votes jsonb NOT NULL,
    document json NOT NULL,
    revoked_by text
  );
  CREATE INDEX ON regate.approval_grant (owner, target) WHERE state = 'active';
  CREATE TABLE regate.approval_request (
    id text PRIMARY KEY,
    state text NOT NULL CHECK (state IN
      ('pending', 'approved', 'rejected', 'used', 'expired', 'withdrawn', 'void')),
    version int NOT NULL DEFAULT 0,
    created timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires timestamptz NOT NULL,
    decided timestamptz,
    closed timestamptz,
    binding text NOT NULL,
    subject text NOT NULL,
    database text NOT NULL,
    session text NOT NULL,
    wait_ms bigint NOT NULL,
    ttl_ms bigint NOT NULL,
    requirements jsonb NOT NULL,
    votes jsonb NOT NULL DEFAULT '[]',
    -- The wait that this request belongs to now, and the instance that waits.
    hold text,
    instance text,
    used_by text,
    grant_id text,
    -- The asker has heard of the rejection.
    told boolean NOT NULL DEFAULT false,
    outcome text,
    statement text NOT NULL,
    document json NOT NULL,
    review json NOT NULL
  );
  CREATE INDEX ON regate.approval_request (binding) WHERE state IN ('pending', 'approved', 'rejected');
  CREATE INDEX ON regate.approval_request (subject) WHERE state = 'pending';
  CREATE INDEX ON regate.approval_request (expires) WHERE state IN ('pending', 'approved');
  CREATE INDEX ON regate.approval_request (state, id);
  CREATE INDEX ON regate.approval_request (closed) WHERE closed IS NOT NULL;
  CREATE TABLE regate.approval_delivery (
    id text PRIMARY KEY,
    request text NOT NULL REFERENCES regate.approval_request ON DELETE CASCADE,
    adapter text NOT NULL,
    event text NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dropped')),
    attempts int NOT NULL DEFAULT 0,
    created timestamptz NOT NULL DEFAULT clock_timestamp(),
    next timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_error text
  );
  CREATE INDEX ON regate.approval_delivery (next) WHERE state = 'pending';
  CREATE INDEX ON regate.approval_delivery (request);
  CREATE TABLE regate.approval_nonce (
    nonce text PRIMARY KEY,
    expires timestamptz NOT NULL
  );
  CREATE FUNCTION regate.approval_notify() RETURNS trigger LANGUAGE plpgsql AS $body$
  BEGIN
    PERFORM pg_notify('regate_approvals', TG_ARGV[0] || ' ' || NEW.id || ' ' || NEW.state);
    RETURN NULL;
  END $body$;
  CREATE TRIGGER told AFTER INSERT ON regate.approval_request
    FOR EACH ROW EXECUTE FUNCTION regate.approval_notify('request');
  CREATE TRIGGER told_again AFTER UPDATE ON regate.approval_request
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION regate.approval_notify('request');
  CREATE TRIGGER told AFTER INSERT OR UPDATE OF state ON regate.approval_grant
    FOR EACH ROW EXECUTE FUNCTION regate.approval_notify('grant');
  `,
  `
  CREATE INDEX ON regate.approval_request (instance) WHERE hold IS NOT NULL;
  -- Of one subject's asks one is counted at a time: the lock is held until the row that follows is
  -- committed, and a volatile function's query sees what was committed before it began.
  CREATE FUNCTION regate.approval_may_ask(who text, pending_max int) RETURNS boolean
    LANGUAGE plpgsql VOLATILE AS $body$
  BEGIN
    PERFORM pg_advisory_xact_lock(723411701, hashtext(who));
    RETURN (SELECT count(*) FROM regate.approval_request
            WHERE subject = who AND state = 'pending' AND expires > clock_timestamp()) < pending_max;
  END $body$;
  `,
]

/** Brings the store to this version's tables. Throws where a newer regate has changed them. */
export async function migrate(connection: StoreConnection): Promise<void> {
  await connection.alone(async (sql) => {
    await checkEncoding(sql)
    if ((await versionOf(sql)) === migrations.length) return
    await sql.query('BEGIN', null)
    try {
      await sql.query(`SELECT pg_advisory_xact_lock(${String(lockKey)})`, null)
      await apply(sql)
      await sql.query('COMMIT', null)
    } catch (error) {
      await sql.query('ROLLBACK', null).catch(() => undefined)
      throw error
    }
  })
}

async function apply(sql: Sql): Promise<void> {
  const [schema] = await sql.query<{ there: boolean }>(
    "SELECT to_regnamespace('regate') IS NOT NULL AS there",
    [],
  )
  if (schema?.there !== true) await sql.query('CREATE SCHEMA regate', null)
  await sql.query('CREATE TABLE IF NOT EXISTS regate.approval_schema (version int NOT NULL)', null)
  const version = await versionOf(sql)
  if (version > migrations.length) {
    throw new ProxyError('configuration', 'the store of approvals was made by a newer regate', {
      detail: `It has version ${String(version)}, this regate knows ${String(migrations.length)}.`,
      hint: 'Upgrade this regate, or give it a store of its own (approvals.store).',
    })
  }
  for (const migration of migrations.slice(version)) await sql.query(migration, null)
  await sql.query('DELETE FROM regate.approval_schema', null)
  await sql.query(`INSERT INTO regate.approval_schema VALUES (${String(migrations.length)})`, null)
}

async function versionOf(sql: Sql): Promise<number> {
  const [table] = await sql.query<{ there: boolean }>(
    "SELECT to_regclass('regate.approval_schema') IS NOT NULL AS there",
    [],
  )
  if (table?.there !== true) return 0
  const [row] = await sql.query<{ version: number }>(
    'SELECT version FROM regate.approval_schema',
    [],
  )
  return row?.version ?? 0
}

async function checkEncoding(sql: Sql): Promise<void> {
  const [row] = await sql.query<{ server_encoding: string }>('SHOW server_encoding', [])
  if (row?.server_encoding === 'UTF8') return
  throw new ProxyError('configuration', 'the store of approvals must be a UTF8 database', {
    detail: `Its encoding is ${row?.server_encoding ?? 'unknown'}.`,
    hint: "CREATE DATABASE regate ENCODING 'UTF8' TEMPLATE template0, and name it in approvals.store.",
  })
}

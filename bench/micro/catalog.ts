/** The catalog that the micro benches analyse against: pgbench's tables and a chain of ten. */
import { Catalog, type RelationRow } from '../../src/sql/sql.ts'

const int4 = 23
const text = 25

function table(oid: number, name: string, columns: Readonly<Record<string, number>>): RelationRow {
  return {
    ...{ oid, schema: 'public', name, kind: 'table', rowType: oid + 1, definition: null },
    ...{ parents: [], isPartition: false, rowSecurity: false, rules: [], triggers: [] },
    ...{ expressions: [], temporary: false },
    columns: Object.entries(columns).map(([column, type], index) => ({
      ...{ number: index + 1, name: column, type, modifier: -1, notNull: index === 0 },
      ...{ default: null, generated: null, identity: false },
    })),
  }
}

const pgbench = [
  table(20_000, 'pgbench_accounts', { aid: int4, bid: int4, abalance: int4, filler: text }),
  table(20_010, 'pgbench_tellers', { tid: int4, bid: int4, tbalance: int4, filler: text }),
  table(20_020, 'pgbench_branches', { bid: int4, bbalance: int4, filler: text }),
  table(20_030, 'pgbench_history', {
    ...{ tid: int4, bid: int4, aid: int4, delta: int4, mtime: 1114, filler: text },
  }),
]
/** Names of the chain's tables: each has the id of the one before. */
export const chain = Array.from({ length: 10 }, (_, index) => `t${index}`)

const ten = Array.from({ length: 10 }, (_, index) =>
  table(30_000 + 10 * index, `t${index}`, {
    ...{ id: int4, parent_id: int4, name: text, status: text, amount: int4, note: text },
  }),
)

/** As a server of version 18 would give it. */
export function benchCatalog(): Catalog {
  return Catalog.from({
    ...{ format: 1, database: 'bench', serverVersion: 180_004 },
    schemas: [{ oid: 2200, name: 'public' }],
    relations: [...pgbench, ...ten],
    ...{ types: [], functions: [], operators: [], casts: [], extensions: [], storedSettings: [] },
  })
}

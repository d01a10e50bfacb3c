/**
 * Inputs that exist before any client does: a bundle is asked these when it loads, to see that its
 * entrypoints answer with decisions, and, with growing sizes, what a judgement costs.
 */
import { parserVersion } from '../sql/sql.ts'

const identity = {
  subject: 'regate-self-check',
  user: 'regate-self-check',
  email: null,
  groups: ['regate-self-check'],
  type: 'machine',
  on_behalf_of: null,
  method: 'trust',
  claims: {},
}

/** A connection of nobody in particular. */
export function sampleConnectInput(): string {
  return JSON.stringify({
    identity,
    startup: { user: identity.user, database: 'postgres', application_name: 'regate' },
    client_address: null,
    time: {
      unix_ms: 0,
      rfc3339: '1970-01-01T00:00:00.000Z',
      weekday: 'thursday',
      minute_of_day: 0,
      minute_of_week: 5760,
    },
  })
}

/** A SELECT of `size` columns from `size` relations, with the lists of the input filled to match. */
export function sampleStatementInput(
  size: number,
  groups: readonly string[] = identity.groups,
): string {
  const indexes = Array.from({ length: size }, (_, index) => index)
  const names = indexes.map((index) => `t${String(index)}.c`)
  return JSON.stringify({
    statement: {
      text: `SELECT ${names.join(', ')}`,
      kind: 'select',
      index: 0,
      count: 1,
      protocol: 'simple',
      ast: {
        SelectStmt: { targetList: indexes.map(resTarget), limitOption: 'LIMIT_OPTION_DEFAULT' },
      },
      fingerprint: '0000000000000000',
      parser_version: parserVersion,
    },
    access: {
      complete: true,
      incomplete: [],
      effects: ['read'],
      relations: indexes.map((index) => ({
        schema: 'public',
        name: `t${String(index)}`,
        id: `public.t${String(index)}`,
        kind: 'table',
        actions: ['select'],
        through: null,
      })),
      columns: indexes.map((index) => ({
        schema: 'public',
        relation: `t${String(index)}`,
        name: 'c',
        id: `public.t${String(index)}.c`,
        uses: ['output'],
        through: null,
      })),
      outputs: indexes.map((index) => ({
        index,
        name: 'c',
        sources: [{ column: `public.t${String(index)}.c`, via: 'direct' }],
      })),
      flows: [],
      functions: [],
      settings: [],
      filtered: true,
      unfiltered: false,
      limited: false,
    },
    identity: { ...identity, groups },
    session: {
      database: 'postgres',
      role: 'postgres',
      application_name: 'regate',
      transaction: 'idle',
      search_path: ['public'],
      id: null,
      client_address: null,
    },
    approval: null,
    parameters: null,
    time: null,
    estimate: null,
  })
}

function resTarget(index: number): object {
  const column = [{ String: { sval: `t${String(index)}` } }, { String: { sval: 'c' } }]
  return { ResTarget: { val: { ColumnRef: { fields: column, location: index } }, location: index } }
}

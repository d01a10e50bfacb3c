/**
 * Requests and grants as a terminal shows them. Everything that came from a client or a database is
 * shown with its control characters escaped, so that a statement cannot write to the reviewer's
 * terminal what it is not.
 */
import Table from 'cli-table3'
import type { Estimate } from '../policy/policy.ts'

export type Json = Record<string, unknown>

/** What a terminal would act on, or show in another order than it is, is written as its code. */
export function escaped(value: unknown): string {
  const text = typeof value === 'string' ? value : value === undefined ? '' : JSON.stringify(value)
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (found) => {
    if (found === '\n' || found === '\t') return found
    return `\\u{${(found.codePointAt(0) ?? 0).toString(16)}}`
  })
}

const oneLine = (value: unknown, length: number): string => {
  const text = escaped(value).replaceAll(/\s+/g, ' ')
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`
}

/** Without colours, as every table of regate: a pipe must not get them. */
const plain = { head: [], border: [] }

/** Requests as a table. */
export function list(value: Json): string {
  const rows = (value['approvals'] ?? []) as Json[]
  if (rows.length === 0) return 'Nothing waits for approval.'
  const table = new Table({
    head: ['id', 'state', 'who', 'database', 'statement', 'why'],
    style: plain,
  })
  for (const row of rows) {
    const identity = row['identity'] as Json
    const statement = row['statement'] as Json
    const held = row['held'] === true ? ' (waits)' : ''
    table.push([
      escaped(row['id']),
      `${escaped(row['state'])}${held}`,
      oneLine(identity['user'], 24),
      oneLine(row['database'], 20),
      oneLine(statement['text'], 48),
      oneLine(row['reason'], 40),
    ])
  }
  return table.toString()
}

/** A request in full, in the order in which a reviewer asks. */
export function detail(value: Json): string {
  const statement = object(value['statement'])
  const identity = object(value['identity'])
  const behalf = identity['on_behalf_of'] === null ? '' : `, for ${word(identity['on_behalf_of'])}`
  const lines: [name: string, text: string | null][] = [
    ['state', `${word(value['state'])}${value['held'] === true ? ', the client waits' : ''}`],
    ['why', word(value['reason'])],
    ['rule', word(value['rule'])],
    [
      'who',
      `${word(identity['subject'])} (${words(identity['groups'])}), ${word(identity['type'])}${behalf}, by ${word(identity['method'])}`,
    ],
    [
      'from',
      `${word(value['client_address'])}, ${word(value['application_name']) || 'no application name'}, session ${word(value['session'])}`,
    ],
    [
      'database',
      `${word(value['database'])} as ${word(value['current_role'])}, search_path ${words(value['search_path'])}`,
    ],
    ['parameters', objects(value['parameters']).map(parameterWords).join(', ')],
    ['estimate', estimateWords(value['estimate'])],
    ...objects(value['settings']).map((setting): [string, string] => [
      'setting',
      `${word(setting['name'])}: ${word(setting['from']) || '?'} → ${word(setting['to']) || '?'}`,
    ]),
    ['transaction', transactionWords(object(value['transaction']))],
    ...objects(value['requirements']).map((one): [string, string] => [
      'asked of',
      `${words(one['groups'])}: ${word(one['given'])} of ${word(one['quorum'])}`,
    ]),
    ...objects(value['votes']).map((vote): [string, string] => [
      'vote',
      `${word(vote['by'])} ${word(vote['vote'])} ${word(vote['at'])} ${word(vote['comment'])}`.trim(),
    ]),
    ...objects(value['deliveries']).map((one): [string, string] => ['told', deliveryWords(one)]),
    ['outcome', word(value['outcome'])],
    ['grant', word(value['grant'])],
    ['expires', word(value['expires'])],
    ['policy', `revision ${word(value['policy_revision'])}`],
    [
      'you',
      value['may_decide'] === true
        ? 'may decide'
        : `may not decide: ${word(value['may_not_because'])}`,
    ],
  ]
  return [
    // Behind a bar, so that no line of it passes for one of ours.
    ...escaped(statement['text'])
      .split('\n')
      .map((line) => `│ ${line}`),
    '',
    ...lines
      .filter(([, text]) => text !== null && text !== '')
      .map(([name, text]) => fact(name, text)),
    ...objects(value['statements']).flatMap(statementLines),
  ].join('\n')
}

const fact = (name: string, text: string | null): string => `${name.padEnd(12)} ${text ?? ''}`

/** What one statement touches, gives and hides. */
function statementLines(statement: Json, index: number): string[] {
  const access = object(statement['access'])
  const masks = new Map(objects(statement['masks']).map((mask) => [mask['index'], mask]))
  const complete =
    access['complete'] === true ? '' : `; not fully known: ${words(access['incomplete'])}`
  return [
    '',
    `${String(index + 1)}. ${word(statement['kind'])}: ${word(statement['action'])} (${word(statement['rule'])})${complete}`,
    ...objects(access['relations']).map((relation) => {
      const through = relation['through'] === null ? '' : ` through a ${word(relation['through'])}`
      const name = `${word(relation['schema'])}.${word(relation['name'])}`
      return fact('', `${words(relation['actions'])} ${name}${through}`)
    }),
    ...objects(access['outputs']).map((output) => {
      const mask = masks.get(output['index'])
      const sources = objects(output['sources']).map((source) => word(source['column']))
      const hidden = mask === undefined ? '' : `, masked: ${word(mask['kind'])}`
      return fact(
        '',
        `gives ${word(output['name'])} from ${sources.join(', ') || 'no column'}${hidden}`,
      )
    }),
    ...objects(access['flows']).map((flow) =>
      fact('', `writes ${word(flow['to'])} from ${word(flow['from'])}`),
    ),
    ...objects(access['functions']).map((used) => {
      return fact(
        '',
        `calls ${word(used['schema'])}.${word(used['name'])} (${word(used['class'])})`,
      )
    }),
  ]
}

function parameterWords(parameter: Json, index: number): string {
  const { format, value } = parameter
  const shown =
    value === null ? 'NULL' : `${oneLine(value, 200)}${format === 'binary' ? ' (base64)' : ''}`
  return `$${String(index + 1)} = ${shown}`
}

function estimateWords(estimate: unknown): string | null {
  if (estimate === null || estimate === undefined) return null
  // rows_max: what changes rows and returns none is expected to give 0.
  const { rows_max: rows, cost, nodes } = object(estimate) as Partial<Estimate>
  return `about ${word(rows)} rows, cost ${word(cost)}: ${words(nodes)}`
}

/** Its age, its locks, and when the server would end it. */
function transactionWords(transaction: Json): string {
  const { state, started, isolation, locks, pipeline, idle_limit_ms: limit } = transaction
  const open = state !== 'idle' || pipeline === true
  const parts = [open ? `${word(state)}, ${word(isolation)}` : 'none is open']
  if (typeof started === 'string') parts.push(`open since ${word(started)}`)
  if (Array.isArray(locks) && locks.length > 0) {
    const held = objects(locks).map((lock) => `${word(lock['relation'])} ${word(lock['mode'])}`)
    parts.push(`holds ${held.join(', ')}`)
  }
  if (open && locks === null) parts.push('its locks could not be asked for')
  if (typeof limit === 'number') parts.push(`the server ends it after ${String(limit / 1_000)} s`)
  return parts.join(', ')
}

function deliveryWords(delivery: Json): string {
  const { adapter, event, state, attempts, last_error: error } = delivery
  const why = error === null ? '' : `: ${word(error)}`
  return `${word(adapter)} (${word(event)}) ${word(state)} after ${word(attempts)} attempts${why}`
}

const object = (value: unknown): Json =>
  typeof value === 'object' && value !== null ? (value as Json) : {}
const objects = (value: unknown): Json[] => (Array.isArray(value) ? value.map(object) : [])
const word = (value: unknown): string => (value === null ? '' : oneLine(value, 400))
const words = (value: unknown): string =>
  Array.isArray(value) ? value.map(word).join(', ') : word(value)

/** Grants as a table. */
export function grants(value: Json): string {
  const rows = (value['grants'] ?? []) as Json[]
  if (rows.length === 0) return 'There are no grants.'
  const table = new Table({ head: ['id', 'state', 'who', 'covers', 'used', 'until'], style: plain })
  for (const row of rows) {
    const identity = row['identity'] as Json
    const covers = row['scope'] === 'session' ? `session ${escaped(row['session'])}` : row['shape']
    table.push([
      escaped(row['id']),
      escaped(row['state']),
      oneLine(identity['subject'], 24),
      oneLine(covers, 56),
      `${escaped(row['used'])}/${escaped(row['statements'])}`,
      escaped(row['expires']),
    ])
  }
  return table.toString()
}

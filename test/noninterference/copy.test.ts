/**
 * COPY through the rewriter, judged by the server: what comes out must load again under the same
 * options, with the masked columns masked and every other value untouched, however the data was cut
 * into frames.
 */
import fc from 'fast-check'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CopyRewriter, planMasks } from '../../src/masking/masking.ts'
import type { Mask } from '../../src/policy/policy.ts'
import type { SyntaxNode } from '../../src/sql/sql.ts'
import { backendTypes, ByteWriter } from '../../src/wire/wire.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { analysis, copyBodies, copyData, decision, key, trace } from '../unit/masking/support.ts'
import { fieldsOf } from './compare.ts'
import { RawConnection } from './raw-connection.ts'

let server: TestPostgres
let admin: pg.Client
let connection: RawConnection
let relation: number

const simple = { protocol: 'simple', format: 'text', describe: false } as const

beforeAll(async () => {
  server = await startPostgres({ settings: { log_statement: 'none' } })
  admin = new pg.Client({ connectionString: server.url() })
  await admin.connect()
  await admin.query('CREATE TABLE held (a text, b text, c text); CREATE TABLE taken (LIKE held)')
  const result = await admin.query<{ oid: number }>("SELECT 'held'::regclass::oid::int4 AS oid")
  relation = result.rows[0]?.oid ?? 0
  const { host, port, user, password } = server
  connection = await RawConnection.connect({ host, port, user, password, database: 'postgres' })
}, 120_000)

afterAll(async () => {
  await connection.close()
  await admin.end()
  await server.stop()
})

interface Options {
  readonly format: 'text' | 'csv' | 'binary'
  readonly delimiter: string | null
  readonly nullText: string | null
  readonly quote: string | null
  readonly escape: string | null
  readonly forceQuote: boolean
  readonly header: boolean
}

function optionsSql(options: Options, direction: 'to' | 'from'): string {
  const list = [`FORMAT ${options.format}`]
  const literal = (text: string): string => `E'${text.replace(/[\\']/g, '\\$&')}'`
  if (options.format !== 'binary') {
    if (options.delimiter !== null) list.push(`DELIMITER ${literal(options.delimiter)}`)
    if (options.nullText !== null) list.push(`NULL ${literal(options.nullText)}`)
    if (options.header) list.push('HEADER')
  }
  if (options.format === 'csv') {
    if (options.quote !== null) list.push(`QUOTE ${literal(options.quote)}`)
    if (options.escape !== null) list.push(`ESCAPE ${literal(options.escape)}`)
    if (options.forceQuote && direction === 'to') list.push('FORCE_QUOTE *')
  }
  return `(${list.join(', ')})`
}

/** The tree that libpg_query gives for the same options. */
function tree(options: Options): SyntaxNode {
  const text = (defname: string, sval: string): unknown => ({
    DefElem: { defname, arg: { String: { sval } } },
  })
  const list: unknown[] = [text('format', options.format)]
  if (options.format !== 'binary') {
    if (options.delimiter !== null) list.push(text('delimiter', options.delimiter))
    if (options.nullText !== null) list.push(text('null', options.nullText))
    if (options.header) list.push({ DefElem: { defname: 'header' } })
  }
  if (options.format === 'csv') {
    if (options.quote !== null) list.push(text('quote', options.quote))
    if (options.escape !== null) list.push(text('escape', options.escape))
    if (options.forceQuote) list.push({ DefElem: { defname: 'force_quote', arg: { A_Star: {} } } })
  }
  return { CopyStmt: { options: list } }
}

const column = {
  name: 'v',
  type: 25,
  modifier: -1,
  notNull: false,
  default: null,
  generated: null,
  identity: false,
}

function rewriterFor(masks: Readonly<Record<string, Mask>>, options: Options): CopyRewriter {
  const outputs = ['a', 'b', 'c'].map((name, index) =>
    trace({
      name,
      sources: [{ column: name, via: 'direct' }],
      origins: [{ relation, attribute: index + 1 }],
    }),
  )
  const described = analysis(outputs)
  const plan = planMasks(decision(masks), described)
  const catalog = {
    type: () => null,
    relationByOid: (oid: number) => ({
      oid,
      schema: 'public',
      name: 'held',
      kind: 'table' as const,
      rowType: 0,
      columns: [1, 2, 3].map((number) => ({ ...column, number })),
      definition: null,
      parents: [],
      isPartition: false,
      rowSecurity: false,
      rules: [],
      triggers: [],
      expressions: [],
      temporary: false,
    }),
  }
  return CopyRewriter.for(plan, described, tree(options), catalog, key)
}

type Row = readonly [string | null, string | null, string | null]

async function copyThrough(
  rows: readonly Row[],
  options: Options,
  masks: Record<string, Mask>,
  pieceBytes: number | null,
): Promise<Row[]> {
  await admin.query('TRUNCATE held, taken')
  for (const row of rows) await admin.query('INSERT INTO held VALUES ($1, $2, $3)', [...row])
  const frames = await connection.send(`COPY held TO STDOUT ${optionsSql(options, 'to')}`, simple)
  const rewriter = rewriterFor(masks, options)
  const out = new ByteWriter()
  let sent = frames.filter((frame) => frame[0] === backendTypes.CopyData)
  if (pieceBytes !== null) {
    const all = copyBodies(Buffer.concat(sent))
    sent = []
    for (let at = 0; at < all.length; at += pieceBytes) {
      sent.push(copyData(all.subarray(at, at + pieceBytes)))
    }
  }
  for (const frame of sent) rewriter.push(frame, 0, frame.length, out)
  rewriter.end(out)
  const masked = copyBodies(out.take())
  const answer = await connection.copyIn(
    `COPY taken FROM STDIN ${optionsSql(options, 'from')}`,
    masked,
  )
  const error = answer.find((frame) => frame[0] === backendTypes.ErrorResponse)
  if (error !== undefined) {
    throw new Error(`${fieldsOf(error).get('M') ?? ''}: ${masked.toString('latin1')}`)
  }
  const result = await admin.query<[string | null, string | null, string | null]>({
    text: 'SELECT * FROM taken ORDER BY ctid',
    rowMode: 'array',
  })
  return result.rows
}

const piece = fc.constantFrom(
  ...[
    'a',
    'S',
    '\\',
    '\\N',
    '\\.',
    '"',
    '""',
    "'",
    ',',
    '\t',
    '\n',
    '\r',
    '|',
    ' ',
    'é',
    '😀',
    '\b',
    '\v',
    '\f',
    'NULL',
    'x',
    '****',
  ],
)
const value = fc.option(
  fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join('')),
  { nil: null },
)
const options: fc.Arbitrary<Options> = fc.record({
  format: fc.constantFrom('text', 'csv', 'binary'),
  delimiter: fc.constantFrom(null, '|', '\t', ',', ';'),
  nullText: fc.constantFrom(null, 'NULL', 'x', '****'),
  quote: fc.constantFrom(null, '"', "'"),
  escape: fc.constantFrom(null, '\\', '!'),
  forceQuote: fc.boolean(),
  header: fc.boolean(),
})

describe('COPY TO STDOUT through the rewriter', () => {
  it('loads again, masked where it must be and equal everywhere else', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(value, value, value), { minLength: 1, maxLength: 4 }),
        options,
        fc.constantFrom<Mask>({ kind: 'redact' }, { kind: 'null' }, { kind: 'hash' }),
        fc.option(fc.integer({ min: 1, max: 9 }), { nil: null }),
        async (rows, chosen, mask, pieceBytes) => {
          const masked = await copyThrough(rows, chosen, { b: mask }, pieceBytes)
          // In text format a chosen NULL text makes equal values and NULL one; so does the server.
          const merges = chosen.format === 'text' ? chosen.nullText : null
          const seen = (text: string | null): string | null => (text === merges ? null : text)
          expect(masked.map((row) => [row[0], row[2]])).toEqual(
            rows.map((row) => [seen(row[0]), seen(row[2])]),
          )
          for (const [index, row] of masked.entries()) {
            if (mask.kind === 'null') expect(row[1]).toBeNull()
            else if (mask.kind === 'redact') expect(row[1]).toBe(seen('****'))
            else if (rows[index]?.[1] !== null) expect(row[1]).toMatch(/^[0-9a-f]{32}$/)
          }
        },
      ),
      { numRuns: 150 },
    )
  }, 120_000)

  it('does not tell that a value equals a NULL text that the client chose', async () => {
    const chosen: Options = {
      format: 'text',
      delimiter: null,
      nullText: 'guess',
      quote: null,
      escape: null,
      forceQuote: false,
      header: false,
    }
    const rows: readonly Row[] = [['1', 'guess', 'x']]
    const [masked] = await copyThrough(rows, chosen, { b: { kind: 'hash' } }, null)
    expect(masked?.[1]).toMatch(/^[0-9a-f]{32}$/)
  })

  it('masks a first row that only poses as a header', async () => {
    const chosen: Options = {
      format: 'csv',
      delimiter: null,
      nullText: null,
      quote: null,
      escape: null,
      forceQuote: false,
      header: true,
    }
    const rewriter = rewriterFor({ b: { kind: 'redact' } }, chosen)
    const out = new ByteWriter()
    const frame = copyData('a,secret,c\n1,secret,c\n')
    rewriter.push(frame, 0, frame.length, out)
    rewriter.end(out)
    expect(copyBodies(out.take()).toString()).toBe('a,****,c\n1,****,c\n')
  })
})

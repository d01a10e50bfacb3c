/**
 * Every mask on every built-in type, in both formats: what comes out must be a value that the
 * server itself takes back as that type, and must not be the value that went in.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import pg from 'pg'
import { bindPlan, planMasks, type TypeSource } from '../../src/masking/masking.ts'
import { truncateUnits, type Mask } from '../../src/policy/policy.ts'
import type { RelationRow, TypeRow } from '../../src/sql/sql.ts'
import {
  backendTypes,
  ByteWriter,
  decodeRowDescription,
  encodeBind,
  encodeExecute,
  encodeParse,
  encodeSync,
} from '../../src/wire/wire.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { analysis, decision, key, trace, typeRow, valuesOf } from '../unit/masking/support.ts'
import { fieldsOf } from './compare.ts'
import { RawConnection, type Frame } from './raw-connection.ts'

/** Column type → literals. Every base type of pg_catalog that a table can hold is here. */
const samples: Readonly<Record<string, readonly string[]>> = {
  bool: ['t', 'f'],
  bytea: ['\\x534543524554', '\\x'],
  '"char"': ['S'],
  name: ['secret name'],
  int8: ['-9223372036854775808', '9223372036854775807', '123456789012', '0'],
  int2: ['-32768', '32767', '7'],
  int2vector: ['1 2 3'],
  int4: ['-2147483648', '2147483647', '77000013', '-5'],
  regproc: ['now'],
  text: ['secret', 'a', '', 'größe 😀😀😀 bytes', 'agent.smith@example.com', 'x\ty\\z"{}'],
  oid: ['4294967295'],
  tid: ['(1,2)'],
  xid: ['42'],
  cid: ['42'],
  oidvector: ['1 2'],
  json: ['{"a": {"b": [1, "two", true, null]}, "a": "x\\"y"}', '"secret"', '17', '  [ ]  '],
  xml: ['<r>secret</r>'],
  point: ['(1,2)'],
  lseg: ['[(1,2),(3,4)]'],
  path: ['[(1,2),(3,4)]'],
  box: ['(3,4),(1,2)'],
  polygon: ['((1,2),(3,4),(5,0))'],
  line: ['{1,2,3}'],
  circle: ['<(1,2),3>'],
  float4: ['3.4e38', '-0.00012', '0', '123.456'],
  float8: ['1.7e308', '-2.5', '0', 'NaN', 'Infinity', '123456.789'],
  money: ['$1,234.56'],
  macaddr: ['08:00:2b:01:02:03'],
  inet: ['192.168.1.17/24', '2001:db8::1'],
  cidr: ['10.1.0.0/16'],
  macaddr8: ['08:00:2b:01:02:03:04:05'],
  aclitem: ['=r/postgres'],
  bpchar: ['secret  '],
  'char(12)': ['secret'],
  'char(2)': ['ab'],
  varchar: ['secret'],
  'varchar(40)': ['agent.smith@example.com'],
  'varchar(12)': ['secret words'],
  'varchar(3)': ['abc'],
  date: ['1901-06-05', '0044-03-15 BC', 'infinity', '2026-12-31', '2000-02-29', '1999-12-31'],
  time: ['23:59:59.999999', '00:00'],
  timestamp: [
    '1901-06-05 04:05:06.789',
    '0044-03-15 01:02:03 BC',
    '-infinity',
    '2026-12-31 23:59:59',
  ],
  timestamptz: ['1901-06-05 04:05:06+02', '2026-07-01 00:30:00+05:30', 'infinity'],
  interval: ['1 year 2 mons 3 days 04:05:06'],
  timetz: ['04:05:06+02'],
  bit: ['1'],
  'bit(5)': ['10101'],
  varbit: ['101'],
  numeric: [
    '0',
    '123.456',
    '-98765432109876543210.0000001',
    'NaN',
    'Infinity',
    '1e-30',
    '10000',
    '0.00010000',
  ],
  'numeric(14,2)': ['88000000.25', '-0.01', '999999999999.99'],
  'numeric(4,0)': ['9999'],
  refcursor: ['secret_cursor'],
  regprocedure: ['now()'],
  regoper: ['pg_catalog.||/'],
  regoperator: ['+(integer,integer)'],
  regclass: ['pg_class'],
  regcollation: ['"C"'],
  regtype: ['integer'],
  regrole: ['postgres'],
  regnamespace: ['pg_catalog'],
  uuid: ['deaddead-dead-4ead-8ead-000000000001'],
  pg_lsn: ['16/B374D848'],
  tsvector: ["'secret':1 'word':2A"],
  gtsvector: [],
  tsquery: ["'secret' & 'word'"],
  regconfig: ['english'],
  regdictionary: ['simple'],
  jsonb: ['{"card": "secret", "nested": {"pin": 7, "on": true}}', '"secret"', '[]', 'null'],
  jsonpath: ['$."secret"'],
  txid_snapshot: ['10:20:10,14'],
  pg_snapshot: ['10:20:10,14'],
  xid8: ['42'],
  int4range: ['[1,7)'],
  numrange: ['(1.5,7.25]'],
  tsrange: ['[2026-01-01,2026-02-01)'],
  tstzrange: ['[2026-01-01,2026-02-01)'],
  daterange: ['[2026-01-01,2026-02-01)'],
  int8range: ['[1,7)'],
  int4multirange: ['{[1,3),[5,7)}'],
  nummultirange: ['{[1,3)}'],
  tsmultirange: ['{}'],
  tstzmultirange: ['{}'],
  datemultirange: ['{[2026-01-01,2026-02-01)}'],
  int8multirange: ['{[1,3)}'],
  'text[]': ['{a,"b,c",NULL,"NULL","q\\"uote\\\\"}', '{}', '[2:3]={a,b}', '{{a,b},{c,d}}'],
  'varchar(3)[]': ['{abc}'],
  'int4[]': ['{1,NULL,77000013}', '{}'],
  'int8[]': ['{1,2}'],
  'numeric[]': ['{1.5,-2.25}'],
  'float8[]': ['{1.5,NaN}'],
  'date[]': ['{1901-06-05}'],
  'timestamptz[]': ['{"1901-06-05 04:05:06+02"}'],
  'uuid[]': ['{deaddead-dead-4ead-8ead-000000000001}'],
  'bool[]': ['{t,f}'],
  'bytea[]': ['{"\\\\x5345"}'],
  'json[]': ['{"{\\"a\\": \\"secret\\"}"}'],
  'jsonb[]': ['{"{\\"a\\": \\"secret\\"}"}'],
  'xml[]': ['{<a/>}'],
  'inet[]': ['{10.0.0.1}'],
  'box[]': ['{(3,4),(1,2)}'],
  'name[]': ['{secret}'],
  'char(5)[]': ['{abc}'],
  mood: ['sad'],
  'mood[]': ['{sad,happy}'],
  short_text: ['abc'],
  plain_text: ['secret'],
  'plain_text[]': ['{secret}'],
  'short_text[]': ['{abc}'],
  pair: ['(1,secret)'],
  'pair[]': ['{"(1,secret)"}'],
  floats: ['[1.5,2.5)'],
}

const masks: readonly Mask[] = [
  { kind: 'null' },
  { kind: 'redact' },
  ...[
    42,
    -1.5,
    'text',
    true,
    '2000-01-31',
    'deaddead-dead-4ead-8ead-0000000000ff',
    'happy',
    null,
  ].map((value): Mask => ({ kind: 'constant', value })),
  { kind: 'hash' },
  { kind: 'partial', keep_start: 1, keep_end: 2 },
  { kind: 'partial', email: true },
  { kind: 'bucket', size: 1000 },
  { kind: 'bucket', size: 0.5 },
  ...truncateUnits.map((unit): Mask => ({ kind: 'truncate', unit, digits: 2 })),
  { kind: 'truncate', digits: 2 },
  { kind: 'noise', ratio: 0.1 },
]

/** Types whose equal masked value says nothing: what a coarse mask gives may be what went in. */
const mayStay: ReadonlySet<Mask['kind']> = new Set(['bucket', 'truncate', 'noise', 'constant'])

let server: TestPostgres
let admin: pg.Client
let connection: RawConnection
let types: TypeSource
/** Type of held.v. */
let heldType = 0

beforeAll(async () => {
  server = await startPostgres()
  admin = new pg.Client({ connectionString: server.url() })
  await admin.connect()
  await admin.query(`
    CREATE TYPE mood AS ENUM ('sad', 'happy');
    CREATE DOMAIN short_text AS text CHECK (length(VALUE) = 3);
    CREATE DOMAIN plain_text AS varchar(20);
    CREATE TYPE pair AS (n int, t text);
    CREATE TYPE floats AS RANGE (subtype = float8)`)
  const rows = await userTypes(admin)
  types = { type: (oid) => rows.get(oid) ?? null, relationByOid: (oid) => heldRelation(oid) }
  const { host, port, user, password } = server
  connection = await RawConnection.connect({ host, port, user, password, database: 'postgres' })
}, 120_000)

afterAll(async () => {
  await connection.close()
  await admin.end()
  await server.stop()
})

async function userTypes(client: pg.Client): Promise<ReadonlyMap<number, TypeRow>> {
  const kinds = {
    b: 'base',
    c: 'composite',
    d: 'domain',
    e: 'enum',
    r: 'range',
    m: 'multirange',
    p: 'pseudo',
  } as const
  const result = await client.query<{
    oid: number
    name: string
    typtype: keyof typeof kinds
    element: number
    base: number
    modifier: number
    checked: boolean
    labels: string[] | null
    delimiter: string
  }>(`SELECT t.oid::int4 AS oid, typname AS name, typtype,
        CASE WHEN typsubscript = 'array_subscript_handler'::regproc THEN typelem::int4 ELSE 0 END AS element,
        typbasetype::int4 AS base, typtypmod AS modifier, typdelim AS delimiter,
        EXISTS (SELECT 1 FROM pg_constraint WHERE contypid = t.oid) AS checked,
        (SELECT array_agg(enumlabel::text ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid) AS labels
      FROM pg_type t`)
  return new Map(
    result.rows.map((row) => [
      row.oid,
      typeRow({
        ...row,
        kind: kinds[row.typtype],
        checks: row.checked ? ['CHECK (…)'] : [],
        labels: row.labels ?? [],
      }),
    ]),
  )
}

function heldRelation(oid: number): RelationRow {
  return {
    oid,
    schema: 'public',
    name: 'held',
    kind: 'table',
    rowType: 0,
    columns: [
      {
        number: 1,
        name: 'v',
        type: heldType,
        modifier: -1,
        notNull: false,
        default: null,
        generated: null,
        identity: false,
      },
    ],
    definition: null,
    parents: [],
    isPartition: false,
    rowSecurity: false,
    rules: [],
    triggers: [],
    expressions: [],
    temporary: false,
  }
}

function errorOf(frames: readonly Frame[]): string | null {
  const frame = frames.find((candidate) => candidate[0] === backendTypes.ErrorResponse)
  return frame === undefined ? null : (fieldsOf(frame).get('M') ?? '?')
}

/** Sends a value of a known format as the column's own type. */
async function takeBack(format: 0 | 1, value: Buffer | null): Promise<string | null> {
  const frames = await connection.raw((out) => {
    encodeParse(out, { name: '', text: 'INSERT INTO taken (v) VALUES ($1)' })
    encodeBind(out, { portal: '', statement: '', parameterFormats: [format], parameters: [value] })
    encodeExecute(out, '')
    encodeSync(out)
  })
  return errorOf(frames)
}

/** Input functions that do not exist, in binary or at all: aclitem_recv, tid, pg_node_tree … */
function cannotBeSent(type: string, format: 0 | 1): boolean {
  return format === 1 && ['aclitem', 'gtsvector'].includes(type)
}

describe('masked values of every built-in type', () => {
  it('have samples for every type that a table can hold', async () => {
    const known = await admin.query<{ name: string }>(
      `SELECT format_type(oid, NULL) AS name FROM pg_type
       WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') AND typelem = 0
         AND typname !~ '^pg_(node_tree|ndistinct|dependencies|mcv_list|brin|ddl)' AND typname !~ '^_'`,
    )
    const mine = await admin.query<{ name: string }>(
      'SELECT format_type(name::regtype, NULL) AS name FROM unnest($1::text[]) name',
      [Object.keys(samples).map((name) => name.replace(/\(.*?\)/, ''))],
    )
    const names = new Set(mine.rows.map((row) => row.name))
    expect(known.rows.map((row) => row.name).filter((name) => !names.has(name))).toEqual([])
  })

  for (const [type, literals] of Object.entries(samples)) {
    if (literals.length === 0) continue
    it(`${type}: valid, and not the value itself`, async () => {
      await admin.query(
        `DROP TABLE IF EXISTS held, taken; CREATE TABLE held (v ${type}); CREATE TABLE taken (v ${type})`,
      )
      for (const literal of literals)
        await admin.query(`INSERT INTO held VALUES ($1::text::${type})`, [literal])
      const held = await admin.query<{ type: number }>(
        "SELECT atttypid::int4 AS type FROM pg_attribute WHERE attrelid = 'held'::regclass AND attnum = 1",
      )
      heldType = held.rows[0]?.type ?? 0
      for (const format of [0, 1] as const) {
        if (cannotBeSent(type, format)) continue
        const mode = {
          protocol: 'extended',
          format: format === 1 ? 'binary' : 'text',
          describe: true,
        } as const
        const frames = await connection.send('SELECT v FROM held', mode)
        expect(errorOf(frames)).toBeNull()
        const description = frames.find((frame) => frame[0] === backendTypes.RowDescription)
        if (description === undefined) throw new Error('no RowDescription')
        const fields = decodeRowDescription({
          buffer: description,
          start: 0,
          end: description.length,
        })
        const rows = frames.filter((frame) => frame[0] === backendTypes.DataRow)
        expect(rows.length).toBe(literals.length)
        for (const mask of masks) await checkMask(mask, fields, format, rows, type)
      }
    })
  }

  async function checkMask(
    mask: Mask,
    fields: ReturnType<typeof decodeRowDescription>,
    format: 0 | 1,
    rows: readonly Frame[],
    type: string,
  ): Promise<void> {
    for (const via of ['direct', 'derived'] as const) {
      const source = { column: 'public.held.v', via, total: true }
      const origins = fields.map(({ relation, attribute }) => ({ relation, attribute }))
      const described = analysis([trace({ sources: [source], origins })])
      const plan = planMasks(decision({ 'public.held.v': mask }), described)
      const bound = bindPlan(plan, described, fields, [format], types, key)
      if (bound.kind !== 'bound' || bound.rewriter === null) throw new Error('not masked')
      const results: string[] = []
      for (const row of rows) {
        const out = new ByteWriter()
        bound.rewriter.rewrite(row, 0, row.length, out)
        const [before = null] = valuesOf(row)
        const [after = null] = valuesOf(out.take())
        const what = `${type} ${JSON.stringify(mask)} ${via} ${format} → ${String(after?.toString('latin1'))}`
        expect(await takeBack(format, after), what).toBeNull()
        if (after !== null && (via === 'derived' || !mayStay.has(mask.kind))) {
          expect(after.equals(before ?? Buffer.alloc(0)) && after.length > 12, what).toBe(false)
        }
        results.push(String(after?.toString('hex')))
      }
      const json = type === 'json' || type === 'jsonb'
      const constant = via === 'derived' || mask.kind === 'null' || mask.kind === 'constant'
      if (constant || (mask.kind === 'redact' && !json)) expect(new Set(results).size).toBe(1)
    }
  }
})

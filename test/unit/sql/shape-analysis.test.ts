/**
 * The value of a hidden constant decides nothing in the analysis: a statement and its hidden form have
 * one and the same access, outputs and effects. Otherwise a decision shared by a shape would be unsound.
 * REGATE_SHAPE_SQL names a folder of *.sql files to try as well.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { defaultLimits } from '../../../src/core/core.ts'
import {
  analyse,
  Catalog,
  SqlParser,
  type Analysis,
  type CatalogSnapshot,
  type ParsedStatement,
  type SessionFacts,
} from '../../../src/sql/sql.ts'
import { randomFrom, StatementGenerator } from './shape-generator.ts'

let parser: SqlParser
beforeAll(async () => {
  parser = await SqlParser.create({ limits: defaultLimits })
})
afterAll(() => parser.close())

/** The columns that the generator's names may mean, of many types. */
const columns = [
  ['a', 23],
  ['b', 25],
  ['c', 1700],
  ['x1', 16],
  ['q Q', 1184],
  ['é', 3802],
  ['set', 23],
  ['values', 25],
  ['value', 1043],
  ['names', 1009],
  ['date', 1082],
  ['between', 20],
  ['a$1', 701],
  ['where', 18],
  ['n', 2950],
].map(([name, type], index) => ({
  number: index + 1,
  name: name as string,
  type: type as number,
  modifier: -1,
  notNull: false,
  default: null,
  generated: null,
  identity: false,
}))

function table(oid: number, schema: string, name: string): CatalogSnapshot['relations'][number] {
  return {
    oid,
    schema,
    name,
    kind: 'table',
    rowType: 0,
    columns,
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

const catalog = Catalog.from({
  format: 1,
  database: 'd',
  serverVersion: 180_000,
  schemas: [
    { oid: 2200, name: 'public' },
    { oid: 2201, name: 's' },
  ],
  relations: [table(1, 'public', 't'), table(2, 'public', 'u'), table(3, 's', 't')],
  types: [],
  functions: [],
  operators: [],
  casts: [],
  extensions: [],
  storedSettings: [],
})

const facts: SessionFacts = {
  searchPath: ['pg_catalog', 'public'],
  role: 'u',
  temporarySchema: null,
  prepared: () => undefined,
  cursor: () => undefined,
}

function analysisOf(statement: ParsedStatement): Omit<Analysis, 'bytes'> {
  const tools = {
    parse: (text: string) => parser.parseBody(text),
    parsePlpgsql: (text: string) => parser.parsePlpgsql(text),
  }
  const { bytes: _, ...analysis } = analyse(statement, catalog, facts, tools)
  // Its place in the text differs; what has a name that is not there is kept for no other text.
  const { missing } = analysis
  expect(missing === null || analysis.unresolved.length > 0).toBe(true)
  return { ...analysis, missing: missing === null ? null : { ...missing, at: null } }
}

/** Whether the text has a shape. */
function check(text: string): boolean {
  const statements = parser.parseBody(text)
  const form = parser.hiddenForm(Buffer.from(text))
  if (statements?.length !== 1 || form === null) return false
  expect(analysisOf(form), text).toEqual(analysisOf(statements[0] as ParsedStatement))
  return true
}

it('is the same for generated statements', { timeout: 60_000 }, () => {
  const generator = new StatementGenerator(randomFrom(5))
  let shaped = 0
  for (let i = 0; i < 600; i++) if (check(generator.text(generator.statement()))) shaped += 1
  expect(shaped).toBeGreaterThan(250)
})

it.each([
  "UPDATE pg_settings SET setting = 'off' WHERE name = 'standard_conforming_strings'",
  'SELECT a FROM t WHERE a = 0 OR c + 5 > 2147483647',
  "SELECT b FROM t WHERE b = '\\' AND x1 = 'nonsense' AND date < '2020-01-01'",
  "INSERT INTO t (a, b) VALUES (0, ''), (2147483647, '%s')",
  "UPDATE t SET a = a - 1, b = 'x' WHERE a IN (0, 1) OR b BETWEEN 'a' AND 'b'",
])('is the same: %s', (text) => {
  expect(check(text)).toBe(true)
})

const folder = process.env['REGATE_SHAPE_SQL']
it.runIf(folder !== undefined)('is the same for a suite', { timeout: 600_000 }, () => {
  let shaped = 0
  for (const name of readdirSync(folder as string).filter((file) => file.endsWith('.sql'))) {
    const text = readFileSync(join(folder as string, name), 'utf8')
    for (const statement of text.split(/;\s*\n/)) if (check(statement)) shaped += 1
  }
  console.log(`${shaped} statements of the suite have a shape`)
})

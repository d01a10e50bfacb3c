/**
 * Constructs of the newer grammar that an older server reads as calls: judged as calls. That such
 * servers read them so was tried on 14, 15 and 16 with functions of these names.
 */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { defaultLimits } from '../../../src/core/core.ts'
import {
  analyse,
  Catalog,
  SqlParser,
  type CatalogSnapshot,
  type SessionFacts,
} from '../../../src/sql/sql.ts'

let parser: SqlParser
beforeAll(async () => {
  parser = await SqlParser.create({ limits: defaultLimits })
})
afterAll(() => parser.close())

const facts: SessionFacts = {
  searchPath: ['pg_catalog', 'public'],
  role: 'u',
  temporarySchema: null,
  prepared: () => undefined,
  cursor: () => undefined,
}

function own(name: string): CatalogSnapshot['functions'][number] {
  return {
    oid: 50_000,
    schema: 'public',
    name,
    kind: 'function',
    language: 'plpgsql',
    volatility: 'volatile',
    strict: false,
    securityDefiner: true,
    returnsSet: false,
    returnType: 25,
    argumentTypes: [25, 25],
    arguments: [],
    defaultCount: 0,
    variadic: true,
    body: 'BEGIN EXECUTE $1; END',
    bodyIsParsed: false,
    settings: [],
    extension: null,
  }
}

function isComplete(text: string, serverVersion: number, functionName: string | null): boolean {
  const catalog = Catalog.from({
    format: 1,
    database: 'd',
    serverVersion,
    schemas: [{ oid: 2200, name: 'public' }],
    relations: [],
    types: [],
    functions: functionName === null ? [] : [own(functionName)],
    operators: [],
    casts: [],
    extensions: [],
    storedSettings: [],
  })
  const statement = parser.parseBody(text)?.[0]
  if (statement === undefined) throw new Error(`does not parse: ${text}`)
  const tools = {
    parse: (body: string) => parser.parseBody(body),
    parsePlpgsql: (body: string) => parser.parsePlpgsql(body),
  }
  return analyse(statement, catalog, facts, tools).access.complete
}

it.each([
  ["SELECT json_value('{}', '$.a')", 'json_value', 170_000],
  ["SELECT JSON_QUERY('{}', '$.a')", 'json_query', 170_000],
  ["SELECT 1 WHERE json_exists('{}', '$.a')", 'json_exists', 170_000],
  ['SELECT json_scalar(1)', 'json_scalar', 170_000],
  ["SELECT json_serialize('1')", 'json_serialize', 170_000],
  ["SELECT json('1')", 'json', 170_000],
  ['SELECT merge_action()', 'merge_action', 170_000],
  ['SELECT json_array(1, 2)', 'json_array', 160_000],
  ['SELECT json_object()', 'json_object', 160_000],
  ["SELECT json_object('{a,b}')", 'json_object', 160_000],
  ['SELECT json_arrayagg(1)', 'json_arrayagg', 160_000],
])('%s is a call of an own function before it is a construct', (text, name, version) => {
  for (const older of [140_000, 150_000, 160_000].filter((server) => server < version)) {
    expect(isComplete(text, older, name), String(older)).toBe(false)
    // Without such a function the server has none, or its own.
    expect(isComplete(text, older, null), String(older)).toBe(true)
  }
  expect(isComplete(text, version, name)).toBe(true)
})

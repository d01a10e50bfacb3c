/**
 * Fixtures: statements in `*.fixture.sql`, made into the input documents that Rego tests see as
 * `data.fixtures.<name>`, so that a test is written against SQL and not against hand-made JSON.
 *
 *   -- catalog: shop.catalog.json       (optional; relative to the file; for the whole file)
 *   -- name: agent_reads_ssn
 *   -- as: agents, night_shift
 *   -- user: ada   -- database: shop   -- search_path: hr, public   -- transaction: active
 *   SELECT ssn FROM customers;
 */
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import type { Catalog } from '../sql/sql.ts'
import { CommandFailure } from './failure.ts'
import {
  emptyCatalog,
  inputDocument,
  readCatalog,
  type Circumstances,
  type Workbench,
} from './policy-facts.ts'

export interface Fixture {
  readonly name: string
  readonly file: string
  readonly line: number
  readonly sql: string
  readonly circumstances: Circumstances
  /** Path of its catalog snapshot, null for none. */
  readonly catalog: string | null
}

const keys = [
  'name',
  'as',
  'user',
  'email',
  'type',
  'database',
  'role',
  'search_path',
  'transaction',
  'protocol',
]

/** Reads one fixture file; fails with the line of a mistake. */
export function parseFixtures(text: string, file: string): readonly Fixture[] {
  const fixtures: Fixture[] = []
  let catalog: string | null = null
  let head: Map<string, string> | null = null
  let start = 0
  let body: string[] = []
  const finish = (): void => {
    if (head === null) return
    fixtures.push(fixtureOf(head, body.join('\n'), file, start, catalog))
  }
  for (const [index, line] of text.split('\n').entries()) {
    const found = /^--\s*([a-z_]+):\s*(.*)$/.exec(line.trim())
    const [, key = '', value = ''] = found ?? []
    if (found !== null && key === 'catalog') catalog = resolve(dirname(file), value.trim())
    else if (found !== null && key === 'name') {
      finish()
      head = new Map([['name', value.trim()]])
      start = index + 1
      body = []
    } else if (found !== null && head !== null && body.every((one) => one.trim() === '')) {
      if (!keys.includes(key)) {
        throw mistake(file, index + 1, `unknown key "${key}" (known: ${keys.join(', ')}, catalog)`)
      }
      head.set(key, value.trim())
    } else if (head !== null) body.push(line)
    else if (line.trim() !== '' && !line.trim().startsWith('--')) {
      throw mistake(file, index + 1, 'SQL before the first "-- name: …"')
    }
  }
  finish()
  return fixtures
}

function mistake(file: string, line: number, what: string): CommandFailure {
  return new CommandFailure(`${file}:${String(line)}: ${what}`, {
    hint: 'a fixture is "-- name: …", "-- as: group, …" and one statement',
  })
}

const words = (text: string | undefined): readonly string[] =>
  (text ?? '')
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '')

function fixtureOf(
  head: ReadonlyMap<string, string>,
  sql: string,
  file: string,
  line: number,
  catalog: string | null,
): Fixture {
  const name = head.get('name') ?? ''
  if (!/^[A-Za-z_]\w*$/.test(name))
    throw mistake(file, line, `"${name}" is no name: use letters, digits and _`)
  if (sql.trim() === '') throw mistake(file, line, `the fixture ${name} has no statement`)
  const transaction = head.get('transaction')
  if (transaction !== undefined && !['idle', 'active', 'failed', 'unknown'].includes(transaction)) {
    throw mistake(file, line, 'transaction is idle, active, failed or unknown')
  }
  const type = head.get('type')
  if (type !== undefined && type !== 'human' && type !== 'machine') {
    throw mistake(file, line, 'type is human or machine')
  }
  const protocol = head.get('protocol')
  if (protocol !== undefined && protocol !== 'simple' && protocol !== 'extended') {
    throw mistake(file, line, 'protocol is simple or extended')
  }
  const path = head.get('search_path')
  return {
    name,
    file,
    line,
    sql: sql.trim(),
    catalog,
    circumstances: {
      groups: words(head.get('as')),
      user: head.get('user'),
      email: head.get('email'),
      type,
      database: head.get('database'),
      role: head.get('role'),
      searchPath: path === undefined ? undefined : words(path),
      transaction: transaction as Circumstances['transaction'],
      protocol,
    },
  }
}

/** All fixtures below a directory, in the order of their files. */
export async function findFixtures(directory: string): Promise<readonly Fixture[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const files = entries
    .filter((entry) => entry.isFile() && entry.name.endsWith('.fixture.sql'))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !/(^|[\\/])node_modules[\\/]/.test(relative(directory, path)))
    .sort()
  const fixtures: Fixture[] = []
  for (const file of files) fixtures.push(...parseFixtures(await readFile(file, 'utf8'), file))
  const seen = new Map<string, Fixture>()
  for (const fixture of fixtures) {
    const other = seen.get(fixture.name)
    if (other !== undefined) {
      throw mistake(
        fixture.file,
        fixture.line,
        `${fixture.name} is also in ${other.file}:${String(other.line)}`,
      )
    }
    seen.set(fixture.name, fixture)
  }
  return fixtures
}

/** The input documents of fixtures, by name. */
export async function fixtureDocuments(
  fixtures: readonly Fixture[],
  workbench: Workbench,
  catalogPath: string | null,
): Promise<Readonly<Record<string, unknown>>> {
  const catalogs = new Map<string, Catalog>()
  const catalogFor = async (path: string | null): Promise<Catalog> => {
    const chosen = catalogPath ?? path
    if (chosen === null) return emptyCatalog()
    const known = catalogs.get(chosen)
    if (known !== undefined) return known
    const catalog = await readCatalog(chosen)
    catalogs.set(chosen, catalog)
    return catalog
  }
  const documents: Record<string, unknown> = {}
  for (const fixture of fixtures) {
    const statements = await workbench.parse(fixture.sql).catch((error: unknown) => {
      throw mistake(fixture.file, fixture.line, `${fixture.name}: ${(error as Error).message}`)
    })
    const [statement] = statements
    if (statement === undefined || statements.length > 1) {
      throw mistake(fixture.file, fixture.line, `${fixture.name} must hold exactly one statement`)
    }
    const catalog = await catalogFor(fixture.catalog)
    documents[fixture.name] = inputDocument(
      workbench.facts(statement, catalog, fixture.circumstances),
    )
  }
  return documents
}

/**
 * Writes `<directory>/fixtures/data.json`, which OPA loads as `data.fixtures`. Returns the number of
 * fixtures; nothing is written where there are none.
 */
export async function writeFixtures(
  directory: string,
  workbench: Workbench,
  catalogPath: string | null,
): Promise<number> {
  const fixtures = await findFixtures(directory)
  if (fixtures.length === 0) return 0
  const documents = await fixtureDocuments(fixtures, workbench, catalogPath)
  const path = join(directory, 'fixtures', 'data.json')
  const text = `${JSON.stringify(documents, null, 1)}\n`
  const known = await readFile(path, 'utf8').catch(() => null)
  if (known === text) return fixtures.length
  await mkdir(dirname(path), { recursive: true })
  const making = `${path}.${String(process.pid)}.making`
  await writeFile(making, text)
  await rename(making, path)
  return fixtures.length
}

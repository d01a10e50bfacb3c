/**
 * From SQL text to what a policy is asked about it, without a server: parser, catalog snapshot,
 * analysis and the very input document of `regate serve`. What `policy test`, `input`, `explain` and
 * `replay` have in common.
 */
import { readFile } from 'node:fs/promises'
import { defaultLimits } from '../core/core.ts'
import {
  statementInput,
  type IdentityDocument,
  type SessionDocument,
  type StatementFacts,
  fingerprintOf,
} from '../policy/policy.ts'
import {
  analyse,
  Catalog,
  SqlParser,
  type CatalogSnapshot,
  type ParsedStatement,
  type OpenCursor,
  type SessionFacts,
  type SyntaxNode,
} from '../sql/sql.ts'
import { CommandFailure } from './failure.ts'

/** Who asks, where; what is not said is as ordinary as possible. */
export interface Circumstances {
  readonly user?: string | undefined
  readonly groups: readonly string[]
  readonly type?: 'human' | 'machine' | undefined
  readonly email?: string | undefined
  readonly claims?: Readonly<Record<string, unknown>> | undefined
  readonly database?: string | undefined
  readonly role?: string | undefined
  readonly searchPath?: readonly string[] | undefined
  readonly transaction?: SessionDocument['transaction'] | undefined
  readonly protocol?: 'simple' | 'extended' | undefined
}

/** What earlier statements of a session left behind, for who follows one. */
export interface SessionState {
  searchPath: readonly string[] | undefined
  readonly prepared: Map<string, SyntaxNode>
  readonly cursors: Map<string, OpenCursor>
}

/** A catalog snapshot of `regate catalog dump`; fails with what is wrong with the file. */
export async function readCatalog(path: string): Promise<Catalog> {
  let snapshot: CatalogSnapshot
  try {
    snapshot = JSON.parse(await readFile(path, 'utf8')) as CatalogSnapshot
  } catch (cause) {
    throw new CommandFailure(`the catalog ${path} cannot be read`, {
      hint: 'make it with `regate catalog dump -o shop.catalog.json`',
      cause,
    })
  }
  if (snapshot.format !== 1 || !Array.isArray(snapshot.relations)) {
    throw new CommandFailure(`${path} is no catalog snapshot of format 1`, {
      hint: 'make it with `regate catalog dump -o shop.catalog.json`',
    })
  }
  return Catalog.from(snapshot)
}

/** A catalog with no relations of its own, for policies that name none. */
export function emptyCatalog(): Catalog {
  return Catalog.from({
    format: 1,
    database: 'postgres',
    serverVersion: 180000,
    schemas: [],
    relations: [],
    types: [],
    functions: [],
    operators: [],
    casts: [],
    extensions: [],
    storedSettings: [],
  })
}

/** Parses and analyses outside of any session. */
export class Workbench {
  readonly #parser: SqlParser
  readonly #tools: Parameters<typeof analyse>[3]

  static async open(): Promise<Workbench> {
    return new Workbench(await SqlParser.create({ limits: defaultLimits }))
  }

  private constructor(parser: SqlParser) {
    this.#parser = parser
    this.#tools = {
      parse: (text) => {
        const result = parser.parse(Buffer.from(text))
        return result.kind === 'parsed' ? result.statements : null
      },
      parsePlpgsql: (text) => parser.parsePlpgsql(text),
    }
  }

  /** The statements of a text; fails with PostgreSQL's own message. */
  async parse(text: string): Promise<readonly ParsedStatement[]> {
    const bytes = Buffer.from(text)
    const first = this.#parser.parse(bytes)
    const result = first.kind === 'later' ? await this.#parser.parseInWorker(bytes) : first
    if (result.kind === 'parsed') return result.statements
    const { message, position, hint } = result.error
    const at = position === undefined ? '' : ` (character ${String(position)})`
    throw new CommandFailure(`${message}${at}`, hint === undefined ? {} : { hint })
  }

  /** What a policy would be asked about a statement. */
  facts(
    statement: ParsedStatement,
    catalog: Catalog,
    given: Circumstances,
    state: SessionState | null = null,
  ): StatementFacts {
    const searchPath = given.searchPath ?? ['public']
    const role = given.role ?? 'app'
    const session: SessionFacts = {
      searchPath: searchPath.includes('pg_catalog') ? searchPath : ['pg_catalog', ...searchPath],
      role: given.role ?? roleOfAllSchemas(catalog) ?? role,
      temporarySchema: null,
      prepared: (name) => state?.prepared.get(name),
      cursor: (name) => state?.cursors.get(name),
    }
    return {
      statement,
      protocol: given.protocol ?? 'simple',
      analysis: analyse(statement, catalog, session, this.#tools),
      identity: identityOf(given),
      session: {
        database: given.database ?? catalog.database,
        role,
        application_name: 'regate',
        transaction: given.transaction ?? 'idle',
        search_path: searchPath,
      },
      approval: null,
      volatile: null,
    }
  }

  close(): void {
    void this.#parser.close()
  }
}

/** A role that no schema of the path is hidden from: where none is named, all of them are searched. */
function roleOfAllSchemas(catalog: Catalog): string | null {
  const closed = catalog.schemas.flatMap(({ users }) => (users === undefined ? [] : [users]))
  const [first = [], ...others] = closed
  return first.find((role) => others.every((users) => users.includes(role))) ?? null
}

function identityOf(given: Circumstances): IdentityDocument {
  const user = given.user ?? given.groups[0] ?? 'nobody'
  return {
    subject: user,
    user,
    email: given.email ?? null,
    groups: given.groups,
    type: given.type ?? 'human',
    on_behalf_of: null,
    method: 'scram',
    claims: given.claims ?? {},
  }
}

/** The input document as `regate serve` would hand it to the policy, parsed. */
export function inputDocument(facts: StatementFacts): Readonly<Record<string, unknown>> {
  const text = statementInput(facts, new Set(), fingerprintOf(facts))
  return JSON.parse(text) as Readonly<Record<string, unknown>>
}

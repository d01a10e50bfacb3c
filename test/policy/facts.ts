/** Statement facts made by hand, for tests that need no parser. */
import type { Access, Analysis, ParsedStatement } from '../../src/sql/sql.ts'
import type { IdentityDocument, SessionDocument, StatementFacts } from '../../src/policy/policy.ts'

export const emptyAccess: Access = {
  complete: true,
  incomplete: [],
  effects: ['read'],
  relations: [],
  columns: [],
  outputs: [],
  flows: [],
  functions: [],
  settings: [],
  filtered: false,
  unfiltered: false,
  limited: false,
}

export function analysisOf(access: Partial<Access> = {}, kind = 'select'): Analysis {
  return {
    kind,
    access: { ...emptyAccess, ...access },
    outputs: null,
    sessionEffects: [],
    mayChangeSettings: false,
    changesCatalog: false,
    writes: false,
    unresolved: [],
    missing: null,
    dependsOnSession: false,
    bytes: 100,
  }
}

export function statementOf(text = 'SELECT 1', kind = 'select'): ParsedStatement {
  const ast = { SelectStmt: { limitOption: 'LIMIT_OPTION_DEFAULT' } }
  const astJson = JSON.stringify(ast)
  return { text, astJson, tree: astJson, usesNames: false, ast, kind, index: 0, count: 1 }
}

export function identityOf(groups: readonly string[], claims = {}): IdentityDocument {
  return {
    subject: 'ada',
    user: 'ada',
    email: null,
    groups,
    type: 'human',
    on_behalf_of: null,
    method: 'scram',
    claims,
  }
}

export const session: SessionDocument = {
  database: 'shop',
  role: 'app',
  application_name: 'psql',
  transaction: 'idle',
  search_path: ['public'],
}

export function factsOf(
  groups: readonly string[],
  access: Partial<Access> = {},
  over: Partial<StatementFacts> = {},
): StatementFacts {
  return {
    statement: statementOf(),
    protocol: 'simple',
    analysis: analysisOf(access),
    identity: identityOf(groups),
    session,
    approval: null,
    volatile: null,
    ...over,
  }
}

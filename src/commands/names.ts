/**
 * Names in the policy's data that match nothing in the catalog: a column that is classified under a
 * misspelt name is protected by nobody. Pure.
 */
import { splitDotted, type Catalog } from '../sql/sql.ts'

type Data = Readonly<Record<string, unknown>>

/**
 * One sentence for each classified column and granted relation that none of the catalogs has.
 * Reads the data of the shipped policies (docs/policies/README.md); other data has no such names.
 */
export function unmatchedNames(data: Data, catalogs: readonly Catalog[]): readonly string[] {
  const regate = objectOf(data['regate'])
  const problems: string[] = []
  for (const column of Object.keys(objectOf(regate['columns']))) {
    const parts = splitDotted(column)
    const [schema = '', relation = '', name = ''] = parts ?? []
    if (parts?.length !== 3) {
      problems.push(`classified column ${column}: write schema.relation.column`)
    } else if (!catalogs.some((catalog) => hasColumn(catalog, schema, relation, name))) {
      problems.push(`classified column ${column} does not exist`)
    }
  }
  for (const [group, rights] of Object.entries(objectOf(regate['groups']))) {
    for (const right of ['read', 'write']) {
      for (const pattern of patternsOf(objectOf(rights)[right])) {
        if (!catalogs.some((catalog) => matches(catalog, pattern))) {
          problems.push(`group ${group}, ${right}: ${pattern} matches nothing`)
        }
      }
    }
  }
  return problems
}

function hasColumn(catalog: Catalog, schema: string, relation: string, name: string): boolean {
  const row = catalog.relation(schema, relation)
  return row !== null && catalog.column(row, name) !== null
}

/** `*`, `schema.*`, `schema.relation`. */
function matches(catalog: Catalog, pattern: string): boolean {
  if (pattern === '*') return true
  const parts = splitDotted(pattern)
  const [schema = '', relation = ''] = parts ?? []
  if (parts?.length !== 2) return false
  if (relation === '*') return catalog.schema(schema) !== null
  return catalog.relation(schema, relation) !== null
}

function patternsOf(value: unknown): readonly string[] {
  if (Array.isArray(value)) return value.filter((item) => typeof item === 'string')
  return Object.keys(objectOf(value))
}

function objectOf(value: unknown): Data {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Data) : {}
}

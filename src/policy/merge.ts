/**
 * Merging of data documents, as OPA merges data files: objects by key, anything else replaces; and
 * the names of classified columns in them.
 */
import { canonicalColumn } from '../sql/sql.ts'

type Data = Readonly<Record<string, unknown>>

const isObject = (value: unknown): value is Data =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The documents from left to right, later ones over earlier ones. Inputs are not changed. */
export function mergeData(...documents: readonly Data[]): Data {
  return documents.reduce<Data>((merged, document) => mergeTwo(merged, document), {})
}

function mergeTwo(below: Data, above: Data): Data {
  const merged = new Map<string, unknown>(Object.entries(below))
  for (const [key, value] of Object.entries(above)) {
    const present = merged.get(key)
    merged.set(key, isObject(present) && isObject(value) ? mergeTwo(present, value) : value)
  }
  return Object.fromEntries(merged)
}

/**
 * The same data with the columns of `regate.columns` named as the input document names them. Where
 * one column stands there under two spellings, the one that is written so holds.
 */
export function withColumnNames(data: Data): Data {
  const regate = data['regate']
  const columns = isObject(regate) ? regate['columns'] : undefined
  if (!isObject(regate) || !isObject(columns)) return data
  const named = new Map<string, unknown>()
  for (const [name, value] of Object.entries(columns)) {
    const canonical = canonicalColumn(name)
    if (canonical === name || !(canonical in columns)) named.set(canonical, value)
  }
  return { ...data, regate: { ...regate, columns: Object.fromEntries(named) } }
}

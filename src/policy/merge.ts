/** Merging of data documents, as OPA merges data files: objects by key, anything else replaces. */

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

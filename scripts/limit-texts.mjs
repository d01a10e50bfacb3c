// What each limit is stands where it is defined; the JSON schema of the configuration says it too.
import { readFileSync } from 'node:fs'

/** The schema, with the descriptions of `limits` in front of their defaults. */
export function withLimitTexts(schema) {
  const source = readFileSync('src/core/limits.ts', 'utf8')
  const properties = { ...schema.properties.limits.properties }
  for (const [, text, name] of source.matchAll(/\/\*\* ([^*]+) \*\/\n +(\w+):/g)) {
    const property = properties[name]
    if (property === undefined) throw new Error(`limits.${name} is not in the schema`)
    properties[name] = { ...property, description: `${text} (${property.description})` }
  }
  const limits = { ...schema.properties.limits, properties }
  return { ...schema, properties: { ...schema.properties, limits } }
}

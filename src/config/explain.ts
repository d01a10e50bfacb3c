/**
 * Turns what zod found into errors for people: where, what was found, what was expected, what to do.
 * Knows the schema only through its JSON Schema, which carries the descriptions.
 */
import type { z } from 'zod'
import { configurationJsonSchema } from './schema.ts'
import { nearest, nearestOf } from '../core/core.ts'

/** One thing that is wrong with a configuration. */
export interface ConfigurationError {
  /** Dotted, as in `databases.shop.upstream.port`; '' is the whole document. */
  readonly key: string
  /** Position in the file, from 1; null where the file has no such place. */
  readonly line: number | null
  readonly column: number | null
  /** What was found, and what was expected. */
  readonly message: string
  /** What to do about it. */
  readonly fix: string | null
}

export type Path = readonly (string | number)[]

/** A finding before its place in the file is known. */
export interface Finding {
  readonly path: Path
  /** The place is that of the last key itself (not of its value). */
  readonly atKey?: boolean
  readonly message: string
  readonly fix: string | null
}

interface Schema {
  readonly type?: string
  readonly description?: string
  readonly properties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: Schema | boolean
  readonly items?: Schema
  readonly anyOf?: readonly Schema[]
  readonly oneOf?: readonly Schema[]
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly minimum?: number
  readonly maximum?: number
  readonly format?: string
}

const secretName = /(^|_)(password|secret|token|key)$/

/** `databases.shop`, `authentication[0].issuer`. */
export function keyOf(path: Path): string {
  return path
    .map((part, index) =>
      typeof part === 'number' ? `[${part}]` : index === 0 ? part : `.${part}`,
    )
    .join('')
}

/** The findings of one zod issue, several where a union or several keys are concerned. */
export function explain(issue: z.core.$ZodIssue, document: unknown, base: Path = []): Finding[] {
  const path = [...base, ...issue.path.map((part) => part as string | number)]
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((name) => unknownKey([...path, name], document))
    case 'invalid_union': {
      const branch = nearestBranch(issue.errors)
      if (branch !== null) {
        return branch.flatMap((inner) => explain(inner, document, path))
      }
      return [mismatch(path, document)]
    }
    case 'invalid_key':
    case 'invalid_element':
      return issue.issues.flatMap((inner) => explain(inner, document, path))
    default:
      return [mismatch(path, document)]
  }
}

/** The branch whose own shape fits, so that the error is about the key and not about the union. */
function nearestBranch(
  branches: readonly (readonly z.core.$ZodIssue[])[],
): readonly z.core.$ZodIssue[] | null {
  const inside = branches.filter((issues) => issues.every((issue) => issue.path.length > 0))
  const found = inside.length > 0 ? inside : branches.filter((issues) => isUnknownKeys(issues))
  return found.toSorted((a, b) => a.length - b.length)[0] ?? null
}

function isUnknownKeys(issues: readonly z.core.$ZodIssue[]): boolean {
  return issues.some((issue) => issue.code === 'unrecognized_keys' || issue.path.length > 0)
}

function unknownKey(path: Path, document: unknown): Finding {
  const name = String(path.at(-1))
  const parent = path.slice(0, -1)
  const known = schemasAt(parent, document)
    .flatMap((schema) => alternatives(schema))
    .filter((schema) => fits(schema, valueAt(parent, document)))
    .flatMap((schema) => Object.keys(schema.properties ?? {}))
  const unique = [...new Set(known)]
  if (secretName.test(name) && unique.includes(`${name}_env`)) {
    return {
      path,
      atKey: true,
      message: 'a secret does not belong in this file',
      fix: `put it in the environment or a file, and name that: ${name}_env, ${name}_file or ${name}_command`,
    }
  }
  const similar = nearest(name, unique)
  return {
    path,
    atKey: true,
    message: 'unknown key',
    fix: similar === null ? `remove it; ${knownWords(name, unique)}` : `did you mean ${similar}?`,
  }
}

/** More names than a line holds are of no use. */
function knownWords(name: string, known: readonly string[]): string {
  if (known.length <= 12) return `known here: ${known.toSorted().join(', ') || 'none'}`
  const few = nearestOf(name, known, 3)
  return `the nearest of ${String(known.length)} known here: ${few.join(', ')}`
}

function mismatch(path: Path, document: unknown): Finding {
  const value = valueAt(path, document)
  const schemas = schemasAt(path, document)
  const expected = expectationOf(schemas)
  const description = schemas.find((schema) => schema.description !== undefined)?.description
  const what = description === undefined ? '' : ` (${description})`
  if (value === undefined) {
    return { path, message: `is missing: expected ${expected}${what}`, fix: `add ${keyOf(path)}` }
  }
  return {
    path,
    message: `is ${shown(value)}, expected ${expected}${what}`,
    fix: fixOf(value, expected),
  }
}

function fixOf(value: unknown, expected: string): string | null {
  if (typeof value === 'number' && expected.includes('a duration')) {
    return `write the unit: ${value}s, for example`
  }
  if (typeof value === 'string') {
    const similar = nearest(
      value,
      [...expected.matchAll(/`([^`]+)`/g)].map(([, word]) => word ?? ''),
    )
    if (similar !== null) return `did you mean ${similar}?`
  }
  return null
}

function shown(value: unknown): string {
  if (value === null) return 'empty'
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list'
  if (typeof value === 'object') return 'a map'
  const text = JSON.stringify(value)
  return text.length > 60 ? `${text.slice(0, 57)}…"` : text
}

function expectationOf(schemas: readonly Schema[]): string {
  const parts = schemas.flatMap((schema) => alternatives(schema).map(phrase))
  const unique = [...new Set(parts)]
  return unique.length === 0 ? 'something else' : unique.join(' or ')
}

function phrase(schema: Schema & { pattern?: string }): string {
  if (schema.const !== undefined) return `\`${JSON.stringify(schema.const).replaceAll('"', '')}\``
  if (schema.enum !== undefined) {
    return `one of ${schema.enum.map((value) => `\`${String(value)}\``).join(', ')}`
  }
  if (schema.type === 'integer') {
    const { minimum, maximum } = schema
    if (maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER) {
      return `a whole number from ${minimum ?? 0} to ${maximum}`
    }
    return 'a whole number above 0'
  }
  if (schema.type === 'boolean') return '`true` or `false`'
  if (schema.type === 'array') return 'a list'
  if (schema.type === 'object') return 'a map'
  if (schema.type === 'number') return 'a number'
  if (schema.format === 'uri') return 'a URL'
  if (schema.pattern?.includes('(ms|s|m|h|d)') === true) return 'a duration such as 30s or 15m'
  if (schema.pattern?.includes('MB|GB') === true) return 'a size such as 64MB'
  if (schema.pattern !== undefined) return `text of the form ${schema.pattern}`
  return 'text'
}

function alternatives(schema: Schema): readonly Schema[] {
  return schema.anyOf ?? schema.oneOf ?? [schema]
}

let jsonSchema: Schema | null = null

/** The schemas that apply at a path; several where the document leaves a union open. */
function schemasAt(path: Path, document: unknown): Schema[] {
  jsonSchema ??= configurationJsonSchema() as Schema
  let found: Schema[] = [jsonSchema]
  let value: unknown = document
  for (const part of path) {
    const parents = found.flatMap((schema) => alternatives(schema))
    const fitting = parents.filter((schema) => fits(schema, value))
    found = (fitting.length > 0 ? fitting : parents).flatMap((schema) => childOf(schema, part))
    value = childValue(value, part)
  }
  return found
}

/** Tells the branches of a discriminated union apart by what the document already says. */
function fits(schema: Schema, value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return true
  return Object.entries(schema.properties ?? {}).every(([name, property]) => {
    const actual = childValue(value, name)
    return property.const === undefined || actual === undefined || property.const === actual
  })
}

function childOf(schema: Schema, part: string | number): readonly Schema[] {
  if (typeof part === 'number') return schema.items === undefined ? [] : [schema.items]
  const named = schema.properties?.[part]
  if (named !== undefined) return [named]
  const rest = schema.additionalProperties
  return typeof rest === 'object' ? [rest] : []
}

function valueAt(path: Path, document: unknown): unknown {
  return path.reduce<unknown>((value, part) => childValue(value, part), document)
}

function childValue(value: unknown, part: string | number): unknown {
  if (typeof value !== 'object' || value === null) return undefined
  return Object.hasOwn(value, part) ? (value as Record<string | number, unknown>)[part] : undefined
}

/**
 * Reads regate.yaml: YAML, shape, rules, then the mapping. All errors are collected and each has its
 * line. Nothing here starts or connects to anything.
 */
import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { isMap, isNode, isPair, LineCounter, parseDocument, type Document } from 'yaml'
import { configurationOf, type Configuration } from './configuration.ts'
import { explain, keyOf, type ConfigurationError, type Finding, type Path } from './explain.ts'
import { checkRules } from './rules.ts'
import { configurationSchema, type ConfigurationDocument } from './schema.ts'

export type LoadedConfiguration =
  | { readonly kind: 'ok'; readonly configuration: Configuration }
  | { readonly kind: 'errors'; readonly errors: readonly ConfigurationError[] }

type Environment = Readonly<Record<string, string | undefined>>

const fileBytesMax = 4 * 1024 * 1024

/** What a command needs of a file; the rest of it may be wrong, and its secrets may be elsewhere. */
export interface Needed {
  /** Top-level keys; nothing else is looked at. */
  readonly keys: readonly string[]
  /** Of the rules' findings below these keys (files, secrets) those that matter; default all. */
  readonly concerns?: (path: Path) => boolean
}

/** Loads a file. Rejects only for faults of regate itself: everything else is an error with a fix. */
export async function loadConfiguration(
  path: string,
  environment: Environment,
  needed?: Needed,
): Promise<LoadedConfiguration> {
  const file = resolve(path)
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
    const why = code === 'ENOENT' ? 'there is no such file' : `it cannot be read (${code})`
    return failed({ key: '', message: `${file}: ${why}`, fix: 'name the file with --config' })
  }
  return parseConfiguration(text, file, environment, needed)
}

/** The same for a text that is already there; `path` says what its paths are relative to. */
export function parseConfiguration(
  text: string,
  path: string,
  environment: Environment,
  needed?: Needed,
): LoadedConfiguration {
  if (text.length > fileBytesMax) {
    return failed({ key: '', message: 'is larger than 4 MB', fix: 'is this the right file?' })
  }
  const lines = new LineCounter()
  const yaml = parseDocument(text, {
    lineCounter: lines,
    uniqueKeys: true,
    maxAliasCount: 100,
  } as Parameters<typeof parseDocument>[1])
  if (yaml.errors.length > 0) {
    const errors = yaml.errors.map((error) => {
      const place = lines.linePos(error.pos[0])
      const message = error.message.split('\n')[0]?.replace(/ at line \d+, column \d+:?$/, '') ?? ''
      return {
        key: '',
        line: place.line,
        column: place.col,
        message: `YAML: ${message}`,
        fix: null,
      }
    })
    return { kind: 'errors', errors }
  }
  const directory = dirname(resolve(path))
  const whole: unknown = yaml.toJS() ?? {}
  const document = needed === undefined ? whole : onlyKeys(whole, needed.keys)
  const checked = configurationSchema.safeParse(document)
  const findings: Finding[] = checked.success
    ? checkRules(checked.data, { directory, environment }).filter((one) => matters(one, needed))
    : [
        ...checked.error.issues.flatMap((issue) => explain(issue, document)),
        ...rulesOfWhatFits(document, directory, environment),
      ]
  if (findings.length > 0) {
    const errors = findings.map((finding) => located(finding, yaml, lines))
    return { kind: 'errors', errors: inOrder(errors) }
  }
  const data = checked.data as ConfigurationDocument
  return { kind: 'ok', configuration: configurationOf(data, resolve(path), directory, environment) }
}

/** What stands in for keys that must be there, and are not looked at. */
const filler: Readonly<Record<string, unknown>> = {
  databases: { '*': { upstream: { host: 'localhost' }, roles: { default: { user: 'x' } } } },
  authentication: [{ method: 'trust' }],
  policy: { bundle: '.' },
}

function onlyKeys(document: unknown, keys: readonly string[]): unknown {
  if (typeof document !== 'object' || document === null) return document
  const given = Object.entries(document).filter(([name]) => keys.includes(name))
  return { ...filler, ...Object.fromEntries(given) }
}

function matters({ path }: Finding, needed: Needed | undefined): boolean {
  if (needed === undefined) return true
  return needed.keys.includes(String(path[0])) && needed.concerns?.(path) !== false
}

/** With errors of shape, the rules still run over the top-level keys that are right. */
function rulesOfWhatFits(
  document: unknown,
  directory: string,
  environment: Environment,
): readonly Finding[] {
  if (typeof document !== 'object' || document === null) return []
  const given = document as Record<string, unknown>
  const whole: Record<string, unknown> = {}
  for (const name of Object.keys(configurationSchema.shape)) {
    const field = configurationSchema.shape[name as keyof typeof configurationSchema.shape]
    if (Object.hasOwn(given, name) && field.safeParse(given[name]).success) {
      whole[name] = given[name]
    } else if (Object.hasOwn(filler, name)) whole[name] = filler[name]
  }
  const checked = configurationSchema.safeParse(whole)
  if (!checked.success) return []
  return checkRules(checked.data, { directory, environment }).filter(
    ({ path }) =>
      Object.hasOwn(given, String(path[0])) && whole[String(path[0])] === given[String(path[0])],
  )
}

function located(finding: Finding, yaml: Document, lines: LineCounter): ConfigurationError {
  const { path, message, fix } = finding
  const offset = offsetOf(finding, yaml)
  const place = offset === null ? null : lines.linePos(offset)
  return {
    ...{ key: keyOf(path), message, fix },
    line: place?.line ?? null,
    column: place?.col ?? null,
  }
}

/** Where the value is; of a missing one, where the nearest key above it is. */
function offsetOf({ path, atKey }: Finding, yaml: Document): number | null {
  for (let count = path.length; count > 0; count--) {
    const part = path[count - 1]
    const parent = count === 1 ? yaml.contents : yaml.getIn(path.slice(0, count - 1), true)
    if (isMap(parent)) {
      const pair = parent.items.find(
        (item) => isPair(item) && isNode(item.key) && String(item.key) === String(part),
      )
      if (pair === undefined) continue
      const whole = count === path.length && atKey !== true
      const node = whole && isNode(pair.value) && !isMap(pair.value) ? pair.value : pair.key
      if (isNode(node) && node.range) return node.range[0]
    } else {
      const node: unknown = yaml.getIn(path.slice(0, count), true)
      if (isNode(node) && node.range) return node.range[0]
    }
  }
  return null
}

function inOrder(errors: readonly ConfigurationError[]): readonly ConfigurationError[] {
  const seen = new Set<string>()
  return errors
    .filter((error) => {
      const key = `${error.key}\0${error.message}`
      if (seen.has(key)) return false
      seen.add(key)
      return true
    })
    .toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0))
}

function failed(error: { key: string; message: string; fix: string }): LoadedConfiguration {
  return { kind: 'errors', errors: [{ ...error, line: null, column: null }] }
}

/** One error in the form of a compiler's: file:line:column: key message, and the fix below it. */
export function formatConfigurationError(error: ConfigurationError, path: string): string {
  const place = error.line === null ? path : `${path}:${error.line}:${error.column ?? 1}`
  const fix = error.fix === null ? '' : `\n    ${error.fix}`
  return `${place}: ${error.key === '' ? '' : `${error.key} `}${error.message}${fix}`
}

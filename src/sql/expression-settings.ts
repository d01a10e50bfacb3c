/**
 * What functions do to settings and what they name by text: set_config and its kind, and sequences
 * given as constants. The same facts as SET and its forms give (utility-session.ts).
 */
import type { Context } from './analysis-context.ts'
import type { CatalogFunction } from './catalog.ts'
import type { Value } from './lineage.ts'
import { foldIdentifier, truncateIdentifier } from './search-path.ts'

/**
 * Settings that decide how SQL text is read or names are resolved, or as whom: after a change that
 * the text does not show, the next text waits for a probe.
 */
export const readingSettings: ReadonlySet<string> = new Set([
  'backslash_quote',
  'client_encoding',
  'escape_string_warning',
  'role',
  'search_path',
  'session_authorization',
  'standard_conforming_strings',
  'transform_null_equals',
])

/** Old names that the server still takes: map_old_guc_names in src/backend/utils/misc/guc.c. */
const oldNames: ReadonlyMap<string, string> = new Map([
  ['sort_mem', 'work_mem'],
  ['vacuum_mem', 'maintenance_work_mem'],
])

/** The one name of a setting, however it was written: what is locked is locked under each. */
export function settingName(name: string): string {
  const folded = foldIdentifier(name)
  return oldNames.get(folded) ?? folded
}

const sequenceFunctions: ReadonlySet<string> = new Set(['nextval', 'setval', 'currval'])

/** Records what a call does to settings; true where it has such an effect. */
export function settingCall(
  name: string,
  called: readonly CatalogFunction[],
  args: readonly Value[],
  context: Context,
): boolean {
  if (!called.some((one) => one.schema === 'pg_catalog' && one.row === null)) return false
  if (name === 'set_config') {
    setConfig(args, context)
    return true
  }
  if (name === 'current_setting') {
    const setting = args[0]?.constant ?? null
    context.recorder.settings.push({
      name: setting === null ? null : settingName(setting),
      action: 'show',
      value: null,
      through: null,
    })
  }
  if (sequenceFunctions.has(name)) sequence(name, args[0], context)
  return false
}

function setConfig(args: readonly Value[], context: Context): void {
  const { recorder } = context
  const name = args[0]?.constant ?? null
  const value = args[1]?.constant ?? null
  const local = args[2]?.constant
  const setting = name === null ? null : settingName(name)
  const isLocal =
    local !== null && local !== undefined && /^(t|tr|tru|true|on|1|y|yes)$/i.test(local)
  recorder.settings.push({
    name: setting,
    action: isLocal ? 'set_local' : 'set',
    value,
    through: null,
  })
  // How often the call runs is not known from the text, so what matters is probed.
  if (setting === null || readingSettings.has(setting)) recorder.mayChangeSettings = true
  if (setting !== null) {
    recorder.sessionEffects.push({ kind: 'set', name: setting, value, local: isLocal })
  }
}

/** nextval('s'): the sequence is a relation that the statement names. */
function sequence(name: string, argument: Value | undefined, context: Context): void {
  const text = argument?.constant ?? null
  if (text === null) return
  const parts = identifierParts(text)
  const last = parts?.at(-1)
  if (parts === null || last === undefined) return
  const relation =
    parts.length > 1
      ? context.catalog.relation(parts.at(-2) ?? '', last)
      : context.path === 'unknown'
        ? null
        : context.catalog.resolveRelation(last, context.path)
  if (relation === null) return
  context.recorder.relation(relation, name === 'currval' ? 'select' : 'update', null)
}

/** Splits a qualified name as textToQualifiedNameList does; null where it is none. */
export function identifierParts(text: string): string[] | null {
  const parts: string[] = []
  const pattern = /[ \t\n\r\f\v]*(?:"((?:[^"]|"")*)"|([^ \t\n\r\f\v".]+))[ \t\n\r\f\v]*(\.|$)/y
  for (;;) {
    const match = pattern.exec(text)
    if (match === null) return null
    const [, quoted, bare = ''] = match
    const name = quoted === undefined ? foldIdentifier(bare) : quoted.replaceAll('""', '"')
    parts.push(truncateIdentifier(name))
    if (match[3] === '') return parts
  }
}

/**
 * Settings that a statement may not change whatever the policy says: those that decide how the
 * server reads SQL, as what is judged must be what runs, and those that the connect policy locked.
 */
import type { Analysis } from '../sql/sql.ts'

/** What must stay as it is, and the values that leave it so. */
export const pinnedSettings: ReadonlyMap<string, (value: string) => boolean> = new Map([
  ['client_encoding', isUtf8Name],
  ['names', isUtf8Name],
  ['standard_conforming_strings', isTrue],
])

/** PostgreSQL's spellings of true: src/backend/utils/adt/bool.c, parse_bool_with_len. */
function isTrue(value: string): boolean {
  return /^(?:t|tr|tru|true|y|ye|yes|on|1)$/i.test(value.trim())
}

/** The spellings of UTF8 that pg_char_to_encoding takes: letters and digits, case folded. */
export function isUtf8Name(value: string): boolean {
  const name = value.toLowerCase().replace(/[^a-z0-9]/g, '')
  return name === 'utf8' || name === 'unicode'
}

/** Why the statement may not change a setting; null where it may as far as the gate goes. */
export function checkSettings(
  analysis: Analysis,
  locked: ReadonlySet<string>,
): { readonly sqlstate: string; readonly message: string; readonly hint: string } | null {
  for (const setting of analysis.access.settings) {
    if (setting.action === 'show') continue
    const name = setting.name
    if (name === null) {
      if (locked.size === 0 || setting.action === 'reset_all' || setting.action === 'discard')
        continue
      return refuse(
        'a setting whose name is not a constant may not be changed here, because some are locked',
        'Name the setting as a constant.',
      )
    }
    if (locked.has(name) && setting.action !== 'reset_all' && setting.action !== 'discard') {
      return refuse(`the setting "${name}" is locked by the policy`, 'Leave it as it is.')
    }
    if (name === 'transaction_read_only' && locked.has(`default_${name}`)) {
      // The default is nothing but what each transaction begins with: READ WRITE is its opposite.
      if (setting.value !== null && isTrue(setting.value)) continue
      return refuse(
        'the setting "default_transaction_read_only" is locked by the policy, so READ WRITE may not be asked for',
        'Leave it out: transactions begin as the policy says; READ ONLY is allowed.',
      )
    }
    const harmless = pinnedSettings.get(name)
    if (harmless === undefined) continue
    // Reset gives what regate set when it connected.
    if (setting.action !== 'set' && setting.action !== 'set_local') continue
    if (setting.value === null || !harmless(setting.value)) {
      return refuse(
        `the setting "${name}" decides how the server reads SQL and is pinned`,
        name === 'standard_conforming_strings'
          ? "Leave standard_conforming_strings on; write E'…' for strings with backslash escapes."
          : 'Leave client_encoding at UTF8 and convert in the client.',
      )
    }
  }
  return null
}

function refuse(
  message: string,
  hint: string,
): { readonly sqlstate: string; readonly message: string; readonly hint: string } {
  return { sqlstate: '42501', message, hint }
}

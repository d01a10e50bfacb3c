/**
 * Requests that can never run any more. An approval binds the revision of the policy and the catalog
 * (binding.ts), so one that was asked under others is void: who decides and who asks again is told.
 */
import type { ApprovalAsk } from './messages.ts'
import * as requests from './requests.ts'
import type { RequestRow } from './requests.ts'
import type { Sql } from './store.ts'

/** Why a request that was asked under another policy can never run; null where it can. */
export function outdatedBecause(row: RequestRow, revision: string | null): string | null {
  const { state, document } = row
  if (state !== 'pending' && state !== 'approved') return null
  if (revision === null || document.revision === revision) return null
  return `the policy has changed since it was asked (revision ${document.revision}, now ${revision})`
}

/**
 * Earlier requests of the same asker for the very same that can never run: void from now on, and each
 * given to one caller only, who says so. `onVoid` hears of those that were not void before.
 */
export async function voidEarlier(
  sql: Sql,
  ask: ApprovalAsk,
  onVoid: (row: RequestRow) => Promise<void>,
): Promise<readonly RequestRow[]> {
  const found: RequestRow[] = []
  for (const before of await requests.outdatedFor(sql, ask)) {
    const why =
      outdatedBecause(before, ask.revision) ?? 'the catalog has changed since it was asked'
    const row = before.state === 'void' ? before : await requests.voidOutdated(sql, before, why)
    if (row === null) continue
    if (before.state !== 'void') await onVoid(row)
    if (await requests.setTold(sql, row.id)) found.push(row)
  }
  return found
}

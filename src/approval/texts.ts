/** What a client that waits is told: one place, so that it reads the same everywhere. */
import type { ApprovalAsk, HoldEvent, RefusedBecause } from './messages.ts'

/** A duration as people say it. */
export function sayDuration(ms: number): string {
  if (ms < 1_000) return `${String(Math.round(ms))} ms`
  if (ms < 120_000) return `${String(Math.round(ms / 1_000))} s`
  if (ms < 2 * 3_600_000) return `${String(Math.round(ms / 60_000))} min`
  return `${String(Math.round(ms / 3_600_000))} h`
}

/** The statement waits. */
export function held(id: string, ask: ApprovalAsk, link: string | null): HoldEvent {
  const { requirements, waitMs, ttlMs } = ask
  return { kind: 'held', id, requirements, waitMs, ttlMs, link }
}

interface RefusedDetails {
  readonly why?: string
  readonly ttlMs?: number
}

const again = 'Send the statement again to ask once more.'

const texts: Readonly<Record<RefusedBecause, { readonly message: string; readonly hint: string }>> =
  {
    rejected: { message: 'the statement was rejected', hint: 'The reason is in the detail.' },
    expired: { message: 'the approval has expired', hint: again },
    withdrawn: { message: 'the request for approval was withdrawn', hint: again },
    void: { message: 'the approval is void', hint: again },
    wait: { message: 'the statement waits for approval', hint: '' },
    restart: { message: 'regate stops, and the statement still waits for approval', hint: again },
    unavailable: {
      message: 'the statement needs an approval, and none can be asked for now',
      hint: 'Other statements run; send this one again later, or tell the operator.',
    },
    too_many: {
      message: 'too many statements wait for approval',
      hint: 'Wait until some are decided (limits.pendingApprovalsMax, limits.holdCountMax).',
    },
  }

/** The statement does not run now. */
export function refused(
  because: RefusedBecause,
  id: string | null,
  details: RefusedDetails,
): HoldEvent {
  const { message, hint } = texts[because]
  const about = id === null ? '' : `Approval ${id}: ${because === 'wait' ? 'pending' : because}. `
  const open =
    details.ttlMs === undefined || id === null
      ? hint
      : `Approval ${id} stays open for ${sayDuration(details.ttlMs)}: once it is approved, the same statement sent again runs at once.`
  return {
    ...{ kind: 'refused', because, id, message },
    detail: `${about}${details.why ?? ''}`.trim(),
    hint: because === 'wait' || because === 'restart' ? open : hint,
  }
}

/** The values the gate gives: what was admitted, what was refused and why. Immutable, shareable. */
import type { MaskPlan } from '../masking/masking.ts'
import { ProxyError, type Tally } from '../core/core.ts'
import type { StatementDecision } from '../policy/policy.ts'
import type { Analysis, ParsedStatement, ParseResult } from '../sql/sql.ts'
import type { Late } from './late.ts'

/** An ErrorResponse that regate gives in place of the server's. */
export interface Refusal {
  readonly sqlstate: string
  readonly message: string
  readonly detail: string | null
  readonly hint: string | null
  /** 1-based character position in the query string. */
  readonly position: number | null
  /** Identifies the refusal in the client's DETAIL, the server's log and the audit. */
  readonly decisionId: string
  /** Where refusals like this are counted; absent where nothing was judged. */
  readonly tally?: Tally
}

/** One statement that may run. */
export interface Admitted {
  readonly statement: ParsedStatement
  readonly analysis: Analysis
  readonly decision: StatementDecision
  readonly plan: MaskPlan
  /** The server's RowDescription must be compared with the trace before a row leaves. */
  readonly verify: boolean
  readonly revision: string
  /** Audit members that do not change between executions: statement, decision, access. */
  readonly members: string
  /** Where statements like this are counted. */
  readonly tally: Tally
}

/** What would make a judgement better and can be had. */
export interface Needs {
  /** The search path or role decided, and was not known. */
  readonly session: boolean
  /** A name was not found: a newer catalog could know it. */
  readonly unresolved: boolean
  /** Text of the statement whose estimate the policy asks for, '' where it has none, else null. */
  readonly estimate: string | null
}

export const noNeeds: Needs = { session: false, unresolved: false, estimate: null }

/** What either of two judgements needs. */
export function bothNeeds(first: Needs, second: Needs): Needs {
  if (first === noNeeds) return second
  return {
    session: first.session || second.session,
    unresolved: first.unresolved || second.unresolved,
    // What has no estimate in one of two has none in both: nobody is judged by the other's.
    estimate: first.estimate === '' ? '' : (second.estimate ?? first.estimate),
  }
}

/** The judgement depends on prepared statements or cursors that other sessions do not share. */
export function usesNames(statement: ParsedStatement, analysis: Analysis): boolean {
  // EXPLAIN and CREATE TABLE AS name them too, without an effect of that kind.
  return (
    statement.usesNames ||
    analysis.sessionEffects.some(({ kind }) => kind === 'execute' || kind === 'fetch')
  )
}

/**
 * What a thread made of a text that is to be judged again. Whoever waits holds it: it may be large, and
 * is gone with a session that never comes back.
 */
export interface PendingText {
  readonly text: Buffer
  /** Its bytes as a string. */
  readonly key: string
  parsed: ParseResult | null
  /** About its statements. */
  readonly late: Late
}

/** The judgement of a query string as a whole. */
export type Verdict =
  | {
      readonly kind: 'admitted'
      readonly statements: readonly Admitted[]
      /** Cached by everything that was visible: may be used again under the same context. */
      readonly cached: boolean
      readonly durationUs: number
      /** Holds for as long as the context does: nothing volatile decided. */
      readonly reusable: boolean
      readonly needs: Needs
    }
  | {
      readonly kind: 'refused'
      readonly refusal: Refusal
      readonly needs: Needs
      /** Audit members of the refusal. */
      readonly members: string
    }
  /** Must be held until people approved it. */
  | {
      readonly kind: 'approval'
      readonly statements: readonly Admitted[]
      /** The statement that asks. */
      readonly asking: Admitted
      readonly needs: Needs
    }
  /** The answer needs something that takes time; judge again, with `pending`, when it is settled. */
  | {
      readonly kind: 'later'
      readonly wait: 'parse' | 'evaluation'
      readonly until: Promise<void>
      readonly pending: PendingText
    }

export type AdmittedVerdict = Extract<Verdict, { kind: 'admitted' }>

/** With the time it took. Written out, because to spread an object here costs microseconds. */
export function timed(verdict: AdmittedVerdict, durationUs: number): AdmittedVerdict {
  const { statements, cached, reusable, needs } = verdict
  return { kind: 'admitted', statements, cached, durationUs, reusable, needs }
}

/** The text of a refusal. */
export interface Why {
  readonly sqlstate: string
  readonly message: string
  readonly hint: string | null
  readonly rule: string
  /** 1-based character position in the query string. */
  readonly position?: number | null
}

/** The policy failed, so the statement is refused. Throws what is no fault of the policy. */
export function policyFault(error: unknown): Why {
  if (!(error instanceof ProxyError)) throw error
  return {
    sqlstate: error.sqlstate,
    message: error.message,
    hint: error.hint ?? 'Tell the people who own the policy; the statement was not run.',
    rule: 'regate.policy_fault',
  }
}

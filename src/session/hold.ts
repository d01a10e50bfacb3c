/**
 * A statement on hold, as the session sees it: it asks, is told, and may withdraw. Who decides,
 * where it is stored and who is notified is behind ApprovalPort, possibly in another process.
 *
 * Invariant: `approved` reaches the session only once for an approval, and an approval that comes
 * when nobody waits any more is given back as void.
 */
import { createHash, randomUUID } from 'node:crypto'
import {
  bindingOf,
  sayDuration,
  sayRequirements,
  type ApprovalAsk,
  type ApprovalPort,
  type Bound,
  type GivenApproval,
  type HoldEvent,
  type ReviewFacts,
  type Requester,
  type ShownParameter,
  type WithdrawReason,
} from '../approval/approval.ts'
import type { Admitted } from '../gate/gate.ts'
import type { IdentityDocument } from '../policy/policy.ts'
import { isUtf8 } from '../wire/wire.ts'
import { isTextParameter } from './registry.ts'

/** A statement that asks, with everything that its approval binds. */
export interface HoldRequest {
  readonly sessionId: string
  readonly clientAddress: string
  readonly bound: Bound
  readonly statements: readonly Admitted[]
  /** The statement whose decision asks first. */
  readonly asking: Admitted
  /** The text without its constants, else the text. */
  readonly shape: string
  readonly review: ReviewFacts
  /** The connection would be ended by the server after so long without a statement; null is never. */
  readonly idleMsMax: number | null
  readonly auditMembers: string
}

export type HoldOutcome =
  | { readonly kind: 'approved'; readonly approval: GivenApproval }
  /** Rejected, expired, withdrawn, `wait` over, store away; approval/texts.ts has the words. */
  | {
      readonly kind: 'refused'
      readonly sqlstate: string
      readonly message: string
      readonly detail: string
      readonly hint: string
      /** For the audit. */
      readonly approval: { readonly id: string | null; readonly outcome: string }
    }

/** A NoticeResponse for the client. */
export interface HoldNotice {
  readonly message: string
  readonly detail: string
  readonly hint: string
}

export interface Hold {
  readonly outcome: Promise<HoldOutcome>
  /** The client cancelled, closed or went away. */
  withdraw(reason: WithdrawReason): void
  /** The approval that was given is not used. */
  void(approval: GivenApproval, why: string): void
}

export interface HoldPort {
  request(request: HoldRequest, onNotice: (notice: HoldNotice) => void): Hold
}

export interface HoldsOptions {
  readonly port: ApprovalPort
  /** Where the policy does not say. */
  readonly waitMs: number
  readonly ttlMs: number
}

/** Holds statements by asking an approval service. */
export class Holds implements HoldPort {
  readonly #options: HoldsOptions

  constructor(options: HoldsOptions) {
    this.#options = options
  }

  request(request: HoldRequest, onNotice: (notice: HoldNotice) => void): Hold {
    const { port } = this.#options
    const ask = askOf(request, this.#options)
    let withdrawn: WithdrawReason | null = null
    let tellWithdrawn: (outcome: HoldOutcome) => void = () => undefined
    const gaveUp = new Promise<HoldOutcome>((resolve) => {
      tellWithdrawn = resolve
    })
    const events = async (): Promise<HoldOutcome> => {
      for (let event = await port.ask(ask); ; event = await port.next(ask.holdId)) {
        if (event.kind === 'refused') return refusalOf(event)
        if (event.kind === 'approved') {
          if (withdrawn === null) return event
          await port.voided(ask.holdId, event.approval, `the client went away (${withdrawn})`)
          return withdrawnOutcome(withdrawn)
        }
        if (withdrawn !== null) await port.withdraw(ask.holdId, withdrawn)
        else onNotice(event.kind === 'held' ? heldNotice(event, request) : { hint: '', ...event })
      }
    }
    const failed = (error: unknown): HoldOutcome => ({
      kind: 'refused',
      sqlstate: '58000',
      message: 'the statement needs an approval, and the approval service does not answer',
      detail: error instanceof Error ? error.message : String(error),
      hint: 'Send the statement again later; other statements run.',
      approval: { id: null, outcome: 'unavailable' },
    })
    return {
      outcome: Promise.race([gaveUp, events().catch(failed)]),
      withdraw: (reason) => {
        if (withdrawn !== null) return
        withdrawn = reason
        tellWithdrawn(withdrawnOutcome(reason))
        // Before the service has answered it knows of no hold: the loop above withdraws it then.
        void port.withdraw(ask.holdId, reason).catch(() => undefined)
      },
      void: (approval, why) => {
        void port.voided(ask.holdId, approval, why).catch(() => undefined)
      },
    }
  }
}

/** The identity as an approval binds it. */
export function requesterOf(identity: IdentityDocument): Requester {
  const { subject, user, email, groups, type, on_behalf_of, method, claims } = identity
  const issuer = typeof claims['iss'] === 'string' ? claims['iss'] : null
  return { subject, user, email, groups, type, on_behalf_of, method, issuer }
}

function askOf(request: HoldRequest, options: HoldsOptions): ApprovalAsk {
  const { bound, asking, statements, review, idleMsMax } = request
  const terms = statements.flatMap(({ decision }) =>
    decision.action === 'approve' && decision.approval !== null ? [decision.approval] : [],
  )
  const distinct = new Map(
    terms.map(({ groups, quorum }) => [
      JSON.stringify([[...groups].sort(), quorum]),
      { groups, quorum },
    ]),
  )
  const wishedMs = Math.min(...terms.map(({ waitMs }) => waitMs ?? options.waitMs))
  // A little earlier than the server, so that the client gets an answer and keeps its connection.
  const waitMs = idleMsMax === null ? wishedMs : Math.min(wishedMs, idleMsMax * 0.8)
  return {
    holdId: randomUUID(),
    ...{ binding: bindingOf(bound), shareable: bound.only === '' },
    ...{ identity: bound.identity, database: bound.database, role: bound.role },
    ...{ sessionId: request.sessionId, clientAddress: request.clientAddress },
    ...{ revision: bound.revision, text: bound.text, kind: asking.analysis.kind },
    count: statements.length,
    parameters: shownParameters(bound),
    shape: shownShape(request.shape),
    shapeKey: shapeKeyOf(request),
    ...{ rule: asking.decision.rule, reason: asking.decision.reason },
    requirements: [...distinct.values()],
    waitMs,
    ttlMs: Math.min(...terms.map(({ ttlMs }) => ttlMs ?? options.ttlMs)),
    review,
    auditMembers: request.auditMembers,
  }
}

/**
 * Equal for statements that differ in constants only and mean the same tables and functions as the
 * same role. A hash: the shape of a large text is large.
 */
function shapeKeyOf({ bound, shape, statements }: HoldRequest): string {
  const reached = statements.map(({ analysis: { access } }) => [
    access.relations.map(({ schema, name, actions }) => [schema, name, actions]),
    access.functions.map(({ schema, name, language }) => [schema, name, language]),
  ])
  const { currentRole, searchPath, settings, parameterTypes } = bound
  const parts = [shape, currentRole, searchPath, settings, parameterTypes, reached]
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex')
}

/** For people: lists carry it, whatever the statement's size. */
function shownShape(shape: string): string {
  if (shape.length <= shapeLengthMax) return shape
  // Never half of a surrogate pair.
  return `${shape.slice(0, shapeLengthMax).replace(/[\ud800-\udbff]$/, '')}…`
}

const shapeLengthMax = 2_000

/** By the format that Bind declared: the bytes of a binary integer may look like a text. */
function shownParameters(bound: Bound): readonly ShownParameter[] | null {
  const { parameters, parameterFormats: formats } = bound
  return (
    parameters?.map((value, index) => {
      if (value === null) return { format: 'text', value: null }
      return isTextParameter(formats, index) && isUtf8(value) && !value.includes(0)
        ? { format: 'text', value: value.toString('utf8') }
        : { format: 'binary', value: value.toString('base64') }
    }) ?? null
  )
}

function heldNotice(event: Extract<HoldEvent, { kind: 'held' }>, request: HoldRequest): HoldNotice {
  const { id, requirements, waitMs, ttlMs, link } = event
  const { idleMsMax, asking, bound } = request
  const idle =
    idleMsMax === null ? '' : ` The server ends this connection after ${sayDuration(idleMsMax)}.`
  const stays = bound.only === '' ? ` and stays open for ${sayDuration(ttlMs)}` : ''
  return {
    message: `the statement is held for approval: ${asking.decision.reason}`,
    detail: `Approval ${id}, asked of ${sayRequirements(requirements)}. It waits here for ${sayDuration(waitMs)}${stays}.${idle}`,
    hint: link ?? `regate approvals show ${id}`,
  }
}

function refusalOf(event: Extract<HoldEvent, { kind: 'refused' }>): HoldOutcome {
  const { because, id, message, detail, hint } = event
  const sqlstate = because === 'unavailable' ? '58000' : because === 'too_many' ? '53400' : '42501'
  const approval = { id, outcome: because }
  return { kind: 'refused', sqlstate, message, detail, hint, approval }
}

function withdrawnOutcome(reason: WithdrawReason): HoldOutcome {
  return {
    kind: 'refused',
    // What a client that cancels expects: PostgreSQL's own words.
    sqlstate: '57014',
    message: 'canceling statement due to user request',
    detail: `The statement was held for approval and has not run (${reason}).`,
    hint: '',
    approval: { id: null, outcome: 'withdrawn' },
  }
}

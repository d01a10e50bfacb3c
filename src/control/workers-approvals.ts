/**
 * The approval service between processes: the messages of a worker's statements that wait for
 * people, and the port on either side of them. The service lives in the primary; a worker that dies
 * waits no more, whatever its statements waited for.
 */
import { z } from 'zod'
import type { ApprovalAsk, ApprovalPort, GivenApproval, HoldEvent } from '../approval/approval.ts'

const facts = z.record(z.string(), z.unknown())
const requirements = z.array(z.strictObject({ groups: z.array(z.string()), quorum: z.number() }))

const askSchema = z.looseObject({
  holdId: z.string().min(1),
  binding: z.string().min(1),
  shareable: z.boolean(),
  identity: z.looseObject({ subject: z.string(), user: z.string(), groups: z.array(z.string()) }),
  database: z.string(),
  role: z.string(),
  sessionId: z.string(),
  clientAddress: z.string(),
  revision: z.string(),
  text: z.string(),
  kind: z.string(),
  count: z.number(),
  parameters: z
    .array(z.strictObject({ format: z.enum(['text', 'binary']), value: z.string().nullable() }))
    .nullable(),
  shape: z.string(),
  rule: z.string(),
  reason: z.string(),
  requirements,
  waitMs: z.number(),
  ttlMs: z.number(),
  review: facts,
  auditMembers: z.string(),
})

const givenSchema = z.strictObject({
  id: z.string(),
  by: z.array(z.string()),
  at: z.string(),
  grant: z.string().nullable(),
})

const eventSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('held'),
    id: z.string(),
    requirements,
    waitMs: z.number(),
    ttlMs: z.number(),
    link: z.string().nullable(),
  }),
  z.strictObject({ kind: z.literal('news'), message: z.string(), detail: z.string() }),
  z.strictObject({ kind: z.literal('approved'), approval: givenSchema }),
  z.strictObject({
    kind: z.literal('refused'),
    because: z.enum([
      ...(['rejected', 'expired', 'withdrawn', 'void', 'wait'] as const),
      ...(['restart', 'unavailable', 'too_many'] as const),
    ]),
    id: z.string().nullable(),
    message: z.string(),
    detail: z.string(),
    hint: z.string(),
  }),
])

/** A schema whose type is the readonly one that the service itself uses. */
function typed<T>(schema: z.ZodType): z.ZodType<T, T> {
  return schema as unknown as z.ZodType<T, T>
}

const ask = typed<ApprovalAsk>(askSchema)
const event = typed<HoldEvent>(eventSchema)

/** Methods of the primary. */
export const approvalMethods = {
  approvalAsk: { params: ask, result: event },
  approvalNext: { params: z.string(), result: event },
  approvalWithdraw: {
    params: z.strictObject({
      holdId: z.string(),
      reason: z.enum(['cancel', 'disconnect', 'terminate']),
    }),
    result: z.null(),
  },
  approvalVoided: {
    params: z.strictObject({
      holdId: z.string(),
      approval: typed<GivenApproval>(givenSchema),
      why: z.string(),
    }),
    result: z.null(),
  },
} as const

/** What one worker asks of the service, so that its end withdraws what it still waits for. */
export class WorkerApprovals {
  readonly #port: ApprovalPort | null
  readonly #waiting = new Set<string>()

  constructor(port: ApprovalPort | null) {
    this.#port = port
  }

  async ask(asked: ApprovalAsk): Promise<HoldEvent> {
    this.#waiting.add(asked.holdId)
    return this.#seen(asked.holdId, await this.#service.ask(asked))
  }

  async next(holdId: string): Promise<HoldEvent> {
    return this.#seen(holdId, await this.#service.next(holdId))
  }

  async withdraw(holdId: string, reason: 'cancel' | 'disconnect' | 'terminate'): Promise<null> {
    await this.#service.withdraw(holdId, reason)
    return null
  }

  async voided(holdId: string, approval: GivenApproval, why: string): Promise<null> {
    await this.#service.voided(holdId, approval, why)
    return null
  }

  /** The worker is gone. An approval that comes now is given back by nobody: it is withdrawn. */
  async ended(): Promise<void> {
    const holdIds = [...this.#waiting]
    this.#waiting.clear()
    await Promise.allSettled(holdIds.map((id) => this.#service.withdraw(id, 'disconnect')))
  }

  get #service(): ApprovalPort {
    if (this.#port === null) throw new Error('nobody can be asked')
    return this.#port
  }

  #seen(holdId: string, seen: HoldEvent): HoldEvent {
    if (seen.kind === 'approved' || seen.kind === 'refused') this.#waiting.delete(holdId)
    return seen
  }
}

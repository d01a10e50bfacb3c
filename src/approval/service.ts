/**
 * The approval service: takes asks of sessions, lets people decide, and gives each approval to one
 * run. Lives in the control plane; a session speaks to it in plain messages (messages.ts).
 *
 *   ask ─▶ covered by a grant? approved before? ─▶ approved (and used, in one UPDATE)
 *     └──▶ a row `pending`, a notice, a wait ─▶ vote … ─▶ approved ─▶ used | rejected | expired |
 *                                                         withdrawn | void
 * Invariants: `approved` is told only after the row was taken for this very wait; the store's rows
 * decide, what is in memory here only says who is to be told; without the store nothing is approved.
 */
import { ProxyError, type Clock } from '../core/core.ts'
import type { AuditLog } from '../audit/audit.ts'
import type { Adapter } from './adapter.ts'
import { decidedMembers, heldMembers, rowMembers } from './audit-members.ts'
import { Beat } from './beat.ts'
import { approversOf, castVote, DecisionError, type Wish } from './deciding.ts'
import { Deliveries, type DeliveryRow } from './deliveries.ts'
import { countUse, grantOwner, grantsFor, grantTarget } from './grants.ts'
import { newId } from './ids.ts'
import type {
  ApprovalAsk,
  ApprovalPort,
  GivenApproval,
  HoldEvent,
  WithdrawReason,
} from './messages.ts'
import { voidEarlier } from './outdated.ts'
import { asksTheSame, isMet, type Reviewer } from './people.ts'
import * as requests from './requests.ts'
import type { RequestRow } from './requests.ts'
import { Store, type StoreDriver } from './store.ts'
import { held, refused } from './texts.ts'

export interface ApprovalOptions {
  readonly driver: StoreDriver
  readonly audit: AuditLog
  readonly clock: Clock
  readonly adapters: readonly Adapter[]
  /** Of the policy that judges now; null where that is not known. */
  revision(): string | null
  /** Where a reviewer can look at a request. */
  link(id: string): string | null
  readonly limits: {
    readonly holdCountMax: number
    /** Open requests of one subject. */
    readonly pendingApprovalsMax: number
    /** Closed requests are kept for so long. */
    readonly approvalsKeptMs: number
  }
  readonly log: (level: 'info' | 'warn', facts: object, message: string) => void
}

/** One client that waits. */
interface Hold {
  readonly ask: Pick<
    ApprovalAsk,
    'holdId' | 'binding' | 'shareable' | 'sessionId' | 'ttlMs' | 'requirements' | 'database'
  > & { readonly subject: string; readonly owner: string; readonly targets: readonly string[] }
  readonly id: string
  readonly events: HoldEvent[]
  wake: ((event: HoldEvent) => void) | null
  timer: NodeJS.Timeout | null
  /** Decided, or given up: no further event. */
  over: boolean
  withdrawn: WithdrawReason | null
  busy: Promise<void>
}

export class ApprovalService implements ApprovalPort {
  readonly #options: ApprovalOptions
  readonly store: Store
  readonly deliveries: Deliveries
  readonly #instance: string
  readonly #beat: Beat
  readonly #holds = new Map<string, Hold>()
  readonly #byRequest = new Map<string, Hold>()
  #asking = 0
  #closing = false
  /** For metrics. */
  readonly counts = { asked: 0, approved: 0, rejected: 0, expired: 0, used: 0, voided: 0 }

  constructor(options: ApprovalOptions) {
    this.#options = options
    this.#instance = newId(options.clock.nowMs())
    this.store = new Store({
      driver: options.driver,
      onNotice: (payload) => {
        this.#noticed(payload)
      },
      onGap: () => {
        this.#beat.soon()
        this.deliveries.wake()
      },
      onHealth: (error) => {
        if (error === null) options.log('info', {}, 'approvals: the store is back')
        else options.log('warn', { err: error }, 'approvals: the store cannot be reached')
      },
    })
    this.#beat = new Beat({
      store: this.store,
      instance: this.#instance,
      keptMs: options.limits.approvalsKeptMs,
      nowMs: () => options.clock.nowMs(),
      heldCount: () => this.#byRequest.size,
      onExpired: (row) => this.#expired(row),
      onMoved: (id) => {
        const hold = this.#byRequest.get(id)
        if (hold !== undefined) void this.#look(hold)
      },
      log: (err) => {
        options.log('warn', { err }, 'approvals: the store was not looked at')
      },
    })
    this.deliveries = new Deliveries({
      sql: this.store,
      adapters: options.adapters,
      nowMs: () => options.clock.nowMs(),
      link: (id) => options.link(id),
      onFailure: (delivery, message) => {
        this.#deliveryFailed(delivery, message)
      },
    })
  }

  /** Statements that wait in this process. */
  get heldCount(): number {
    return this.#holds.size
  }

  get auditLog(): AuditLog {
    return this.#options.audit
  }

  nowMs(): number {
    return this.#options.clock.nowMs()
  }

  /** Of the policy that judges now; null where that is not known. */
  get revision(): string | null {
    return this.#options.revision()
  }

  async ask(ask: ApprovalAsk): Promise<HoldEvent> {
    if (this.#closing) return refused('restart', null, {})
    // Those that are on their way count too: a burst is not let in before the first is held.
    const { holdCountMax } = this.#options.limits
    if (this.#holds.size + this.#asking >= holdCountMax) return refused('too_many', null, {})
    this.counts.asked++
    this.#asking++
    try {
      return await this.#ask(ask)
    } catch (error) {
      return this.#unavailable(error)
    } finally {
      this.#asking--
    }
  }

  next(holdId: string): Promise<HoldEvent> {
    const hold = this.#holds.get(holdId)
    if (hold === undefined) return Promise.resolve(refused('restart', null, {}))
    const event = hold.events.shift()
    if (event !== undefined) {
      if (hold.over && hold.events.length === 0) this.#holds.delete(holdId)
      return Promise.resolve(event)
    }
    return new Promise((resolve) => {
      hold.wake = resolve
    })
  }

  async withdraw(holdId: string, reason: WithdrawReason): Promise<void> {
    const hold = this.#holds.get(holdId)
    if (hold === undefined || hold.withdrawn !== null) return
    hold.withdrawn = reason
    if (this.#closing) return
    await this.#inTurn(hold, async () => {
      if (hold.over) return
      const outcome = `withdrawn: ${reason}`
      this.#finish(hold, refused('withdrawn', hold.id, { why: reason }))
      if (!(await requests.close(this.store, hold.id, holdId, 'withdrawn', outcome))) return
      this.#record('approval_withdrawn', heldMembers(hold.id, hold.ask, reason))
      await this.deliveries.queue(hold.id, 'closed')
    })
  }

  async voided(holdId: string, approval: GivenApproval, why: string): Promise<void> {
    this.counts.voided++
    this.#record(
      'approval_void',
      `"approval":${JSON.stringify({ id: approval.id, outcome: 'void', by: approval.by, grant: approval.grant, why })}`,
    )
    await requests.voidUsed(this.store, approval.id, holdId, `not run: ${why}`).catch(() => false)
  }

  /** A reviewer's word. Throws DecisionError, or approvals_unavailable. */
  async decide(id: string, reviewer: Reviewer, wish: Wish, via: string): Promise<RequestRow> {
    const now = { ms: this.nowMs(), revision: this.revision }
    const row = await castVote(this.store, id, reviewer, wish, via, now)
    if (row.state === 'void') {
      await this.#outdated(row)
      throw new DecisionError('conflict', `the request is void: ${row.outcome ?? ''}`)
    }
    if (row.state === 'approved') this.counts.approved++
    if (row.state === 'rejected') this.counts.rejected++
    const { vote, comment } = wish
    await this.#commit('approval_decided', decidedMembers(row, vote, reviewer, comment, via))
    if (row.state !== 'pending') await this.deliveries.queue(row.id, 'closed')
    this.#beat.plan()
    return row
  }

  /** Tells every client that waits that regate stops; what they asked stays open. */
  suspend(): void {
    this.#closing = true
    for (const hold of [...this.#holds.values()]) {
      this.#finish(hold, refused('restart', hold.id, { ttlMs: hold.ask.ttlMs }))
    }
  }

  async close(): Promise<void> {
    this.suspend()
    this.#beat.stop()
    await this.deliveries.close()
    if (this.store.open) await requests.leave(this.store, this.#instance).catch(() => undefined)
    await this.store.close()
  }

  async #ask(ask: ApprovalAsk): Promise<HoldEvent> {
    const owner = grantOwner(ask)
    const targets = [grantTarget('session', ask.sessionId)]
    if (ask.shareable) targets.push(grantTarget('shape', ask.shapeKey))
    const covered = await this.#byGrant(ask, owner, targets)
    if (covered !== null) {
      await this.#commit('approval_used', heldMembers(covered.id, ask, 'grant', covered))
      this.counts.used++
      return { kind: 'approved', approval: covered }
    }
    await this.#beat.announce()
    let attached: RequestRow | null = null
    for (const open of await requests.openFor(this.store, ask.binding)) {
      if (open.state === 'approved') {
        // By the hour, the estimate or the address a policy may ask for more people than before.
        if (!isMet(ask.requirements, open.votes)) continue
        const taken = await requests.consume(this.store, open.id, ask.binding, ask.holdId)
        if (taken !== null) return await this.#give(taken, ask)
      } else if (open.state === 'rejected') {
        if (await requests.setTold(this.store, open.id)) {
          return refused('rejected', open.id, { why: open.outcome ?? '' })
        }
      } else if (
        asksTheSame(ask.requirements, open.requirements) &&
        (await requests.attach(this.store, open.id, ask.holdId, this.#instance))
      ) {
        attached = open
        break
      }
    }
    const earlier =
      attached === null ? await voidEarlier(this.store, ask, (row) => this.#outdated(row)) : []
    const lost = earlier.find(({ decided }) => decided !== null)
    // Only who was promised that it runs has to send it once more.
    if (lost !== undefined) return refused('void', lost.id, { why: lost.outcome ?? '' })
    const made = attached ?? (await this.#insert(ask))
    if (made === null) return refused('too_many', null, {})
    const hold = this.#hold(ask, made.id, owner, targets)
    this.#beat.plan()
    // What happened between the row and our listening to it.
    void this.#look(hold)
    for (const { id, outcome } of earlier) {
      const detail = `Approval ${id}: ${outcome ?? ''}.`
      this.#emit(hold, { kind: 'news', message: 'an earlier request for this is void', detail })
    }
    return held(made.id, ask, this.#options.link(made.id))
  }

  async #outdated(row: RequestRow): Promise<void> {
    this.counts.voided++
    this.#record('approval_void', rowMembers(row, 'void', row.session))
    await this.deliveries.queue(row.id, 'closed')
  }

  async #insert(ask: ApprovalAsk): Promise<RequestRow | null> {
    const id = newId(this.nowMs())
    const how = {
      ...{ id, instance: this.#instance },
      pendingMax: this.#options.limits.pendingApprovalsMax,
    }
    const made = await requests.insertRequest(this.store, ask, how)
    if (made === null) return null
    try {
      await this.#commit(
        'approval_requested',
        `${ask.auditMembers},"approval":${JSON.stringify({ id, outcome: 'pending', requirements: ask.requirements, binding: ask.binding, expires: made.expires })}`,
      )
    } catch (error) {
      await requests.close(this.store, id, ask.holdId, 'withdrawn', 'no audit')
      throw error
    }
    await this.deliveries.queue(id, 'requested')
    return made
  }

  #hold(ask: ApprovalAsk, id: string, owner: string, targets: readonly string[]): Hold {
    const { holdId, binding, shareable, sessionId, ttlMs, requirements, database } = ask
    const subject = ask.identity.subject
    const hold: Hold = {
      ask: {
        ...{ holdId, binding, shareable, sessionId, ttlMs, requirements, database },
        ...{ subject, owner, targets },
      },
      ...{ id, events: [], wake: null, timer: null, over: false, withdrawn: null },
      busy: Promise.resolve(),
    }
    hold.timer = setTimeout(
      () => {
        void this.#inTurn(hold, () => this.#waited(hold))
      },
      Math.min(ask.waitMs, ask.ttlMs, 2 ** 31 - 1),
    )
    this.#holds.set(holdId, hold)
    this.#byRequest.set(id, hold)
    return hold
  }

  /** A grant that covers the ask, counted. */
  async #byGrant(
    ask: Pick<ApprovalAsk, 'requirements'>,
    owner: string,
    targets: readonly string[],
  ): Promise<GivenApproval | null> {
    for (const grant of await grantsFor(this.store, owner, targets)) {
      if (!isMet(ask.requirements, grant.votes)) continue
      if (!(await countUse(this.store, grant.id))) continue
      const by = approversOf(grant.votes)
      return { id: grant.id, by, at: grant.created, grant: grant.id }
    }
    return null
  }

  /** The row was taken for this run: it is on record, and then the session may go on. */
  async #give(
    row: RequestRow,
    ask: { readonly sessionId: string; readonly database: string },
  ): Promise<HoldEvent> {
    const { id, votes, grant } = row
    const approval = { id, by: approversOf(votes), at: row.decided ?? row.created, grant }
    await this.#commit('approval_used', rowMembers(row, 'used', ask.sessionId))
    this.counts.used++
    return { kind: 'approved', approval }
  }

  /** One thing at a time happens to a hold; what fails for want of the store is looked at again. */
  #inTurn(hold: Hold, work: () => Promise<void>): Promise<void> {
    hold.busy = hold.busy.then(work).catch((error: unknown) => {
      if (error instanceof ProxyError) this.#beat.plan()
      else this.#options.log('warn', { err: error, approval: hold.id }, 'approvals: a wait failed')
    })
    return hold.busy
  }

  /** Looks at what became of the request that a client waits for. */
  #look(hold: Hold): Promise<void> {
    return this.#inTurn(hold, async () => {
      if (hold.over) return
      const row = await requests.findRequest(this.store, hold.id)
      if (row === null) this.#finish(hold, refused('withdrawn', hold.id, { why: 'deleted' }))
      else if (row.state === 'approved') await this.#take(hold)
      else if (row.state === 'rejected') {
        this.#finish(hold, refused('rejected', hold.id, { why: row.outcome ?? '' }))
        await requests.setTold(this.store, hold.id)
      } else if (row.state === 'pending') await this.#tryGrant(hold)
      else {
        this.#finish(hold, refused('expired', hold.id, { why: row.outcome ?? row.state }))
        await requests.release(this.store, hold.id, hold.ask.holdId)
      }
    })
  }

  /** Approved: takes it for this wait. False where it went otherwise. */
  async #take(hold: Hold): Promise<boolean> {
    const { binding, holdId } = hold.ask
    const row = await requests.consume(this.store, hold.id, binding, holdId)
    if (row === null) return false
    const event = await this.#give(row, hold.ask).catch((error: unknown) => {
      void requests.voidUsed(this.store, hold.id, holdId, 'no audit').catch(() => false)
      return this.#unavailable(error)
    })
    this.#finish(hold, event)
    return true
  }

  async #tryGrant(hold: Hold): Promise<void> {
    const covered = await this.#byGrant(hold.ask, hold.ask.owner, hold.ask.targets)
    if (covered === null || covered.grant === null) return
    const { holdId } = hold.ask
    if (!(await requests.useByGrant(this.store, hold.id, holdId, covered.grant))) return
    await this.#commit('approval_used', heldMembers(hold.id, hold.ask, 'grant', covered))
    this.counts.used++
    this.#finish(hold, { kind: 'approved', approval: { ...covered, id: hold.id } })
    await this.deliveries.queue(hold.id, 'closed')
  }

  /** `wait` is over. */
  async #waited(hold: Hold): Promise<void> {
    if (hold.over) return
    const { holdId, shareable, ttlMs } = hold.ask
    try {
      if (await this.#take(hold)) return
      if (!shareable) {
        const outcome = 'nobody decided while the session waited'
        await requests.close(this.store, hold.id, holdId, 'expired', outcome)
        this.#finish(hold, refused('expired', hold.id, { why: outcome }))
        return
      }
      const state = await requests.release(this.store, hold.id, holdId)
      if (state === 'expired') {
        this.#finish(hold, refused('expired', hold.id, { why: 'nobody decided in time' }))
        return
      }
      if (state === 'rejected') {
        const row = await requests.findRequest(this.store, hold.id)
        await requests.setTold(this.store, hold.id)
        this.#finish(hold, refused('rejected', hold.id, { why: row?.outcome ?? '' }))
        return
      }
      const failed = (await this.deliveries.of(hold.id)).find(
        (delivery) => delivery.state === 'pending' && delivery.lastError !== null,
      )
      const why =
        failed === undefined ? '' : `The reviewers were not reached: ${failed.lastError ?? ''}.`
      this.#finish(hold, refused('wait', hold.id, { ttlMs, why }))
    } catch {
      const why = 'The store of approvals cannot be reached.'
      this.#finish(hold, refused('wait', hold.id, { ttlMs, why }))
    }
  }

  #finish(hold: Hold, event: HoldEvent): void {
    if (hold.over) return
    hold.over = true
    if (hold.timer !== null) clearTimeout(hold.timer)
    this.#byRequest.delete(hold.id)
    if (hold.withdrawn !== null && event.kind === 'approved') {
      // Taken for a client that is not there any more: it never runs.
      void this.voided(hold.ask.holdId, event.approval, 'the client went away')
    }
    this.#emit(hold, event)
  }

  #emit(hold: Hold, event: HoldEvent): void {
    const { wake } = hold
    hold.wake = null
    if (wake === null) hold.events.push(event)
    else {
      if (hold.over) this.#holds.delete(hold.ask.holdId)
      wake(event)
    }
  }

  /** Waits of this process whose row or grant has changed. */
  #noticed(payload: string): void {
    const [what, id = '', detail = ''] = payload.split(' ')
    if (what === 'request') {
      const hold = this.#byRequest.get(id)
      if (hold !== undefined && detail !== 'pending') void this.#look(hold)
    } else if (what === 'grant' && detail === 'active') {
      for (const hold of this.#byRequest.values()) void this.#look(hold)
    } else if (what === 'delivery' && detail === '1') {
      const hold = this.#byRequest.get(id)
      if (hold !== undefined) void this.#tellDelivery(hold)
    }
  }

  async #tellDelivery(hold: Hold): Promise<void> {
    const rows = await this.deliveries.of(hold.id).catch((): DeliveryRow[] => [])
    const error = rows.find(({ lastError }) => lastError !== null)?.lastError
    if (error === undefined || error === null || hold.over) return
    this.#emit(hold, {
      kind: 'news',
      message: 'the reviewers could not be told yet, it is tried again',
      detail: `Approval ${hold.id}: ${error}`,
    })
  }

  #deliveryFailed(delivery: DeliveryRow, message: string): void {
    const { attempts, adapter, request } = delivery
    if ((attempts & (attempts - 1)) !== 0) return
    const facts = { approval: request, adapter, attempts, error: message }
    this.#options.log('warn', facts, 'approvals: reviewers could not be told')
  }

  async #expired(row: RequestRow): Promise<void> {
    this.counts.expired++
    this.#record('approval_expired', rowMembers(row, 'expired', row.session))
    await this.deliveries.queue(row.id, 'closed')
  }

  #unavailable(error: unknown): HoldEvent {
    const why = error instanceof Error ? error.message : String(error)
    const detail = error instanceof ProxyError ? (error.detail ?? '') : ''
    this.#options.log('warn', { err: error }, 'approvals: a statement could not be held')
    return refused('unavailable', null, { why: detail === '' ? why : `${why}: ${detail}` })
  }

  /** A record that nothing waits for. */
  #record(type: string, members: string): void {
    this.#options.audit.append(type, members)
  }

  /** A record that must be accepted before anything follows from it. */
  async #commit(type: string, members: string): Promise<void> {
    this.#options.audit.append(type, members)
    await this.#options.audit.commit()
  }
}
